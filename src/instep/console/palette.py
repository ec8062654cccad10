"""Command palette and organization switcher."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.layout import MAX_SWITCHER_ORGANIZATIONS, PageLayout, build_organization_link, get_organization_path
from instep.console.responses import PageResponder
from instep.core.i18n import Localizer
from instep.core.templates import is_fragment_request

MAX_COMMANDS_PER_GROUP = 6  # of one group


class PaletteCommand(Struct, frozen=True, kw_only=True):
    """One line of the palette. `href` is gone to, or with `is_dialog` shown over the open page.

    Without an address the page's own script does it: `theme` is chosen, the dialog `opens` is opened. `avatar`: shown
    as a person, `sign`: as an organization.
    """

    name: str
    icon: str
    detail: str = ""
    href: str = ""
    is_dialog: bool = False
    theme: str | None = None
    opens: str = ""
    keys: tuple[str, ...] = ()
    avatar: Literal["", "person", "place"] = ""
    image_url: str | None = None


class PaletteGroup(Struct, frozen=True):
    """Lines of one kind, under a heading."""

    name: str
    commands: Sequence[PaletteCommand]


def build_palette_groups(
    asker: OrganizationAccess | Principal,
    frame: PageLayout,
    people: Sequence[PaletteCommand],
    organizations: Sequence[OrganizationAccess],
    text: str,
    words: Localizer,
) -> list[PaletteGroup]:
    """Everything that `text` means, by kind; without a text the pages and the actions."""
    _ = words.gettext
    places = [
        PaletteCommand(
            name=it.organization_name, icon="building-2", href=f"{get_organization_path(it)}/members", avatar="place"
        )
        for it in organizations
    ]
    found = [
        PaletteGroup(_("People"), people),
        PaletteGroup(_("Organizations"), places),
        PaletteGroup(_("Pages"), filter_commands(_build_page_commands(frame), text)),
        PaletteGroup(_("Actions"), filter_commands(_build_action_commands(asker, words), text)),
    ]
    return [it for it in found if it.commands]


def filter_commands(commands: Sequence[PaletteCommand], text: str) -> list[PaletteCommand]:
    """Those of whose name every word of a text is a part."""
    words = text.casefold().split()
    return [it for it in commands if all(word in it.name.casefold() for word in words)]


def _build_page_commands(frame: PageLayout) -> list[PaletteCommand]:
    within = frame.place.name if frame.place else ""
    own = [PaletteCommand(name=it.name, icon=it.icon, href=it.href, detail=within) for it in frame.sections]
    return own + [PaletteCommand(name=it.name, icon=it.icon, href=it.href) for it in frame.installation]


def _build_action_commands(asker: OrganizationAccess | Principal, words: Localizer) -> list[PaletteCommand]:
    _ = words.gettext
    principal = asker.principal if isinstance(asker, OrganizationAccess) else asker
    found = []
    if isinstance(asker, OrganizationAccess):
        home, within = get_organization_path(asker), asker.organization_name
        if asker.can_manage:
            found += [
                _build_dialog_command(_("Invite people"), "user-plus", f"{home}/invitations/new", within, ("i",)),
                _build_dialog_command(_("Invite many"), "users", f"{home}/invitations/many", within),
                PaletteCommand(
                    name=_("Export members as CSV"),
                    icon="download",
                    href=f"{home}/members/export?format=csv",
                    detail=within,
                ),
            ]
        if asker.role is not None and principal.user_id is not None:
            found.append(_build_dialog_command(_("Leave organization"), "log-out", f"{home}/leave", within))
    if principal.is_instance_admin:
        found += [
            _build_dialog_command(_("New user"), "user-plus", "/users/new"),
            _build_dialog_command(_("New key"), "key-round", "/keys/new"),
        ]
    return [
        *found,
        PaletteCommand(name=_("Theme: system"), icon="monitor", theme=""),
        PaletteCommand(name=_("Theme: light"), icon="sun", theme="light"),
        PaletteCommand(name=_("Theme: dark"), icon="moon", theme="dark"),
        PaletteCommand(name=_("Keyboard shortcuts"), icon="circle-question-mark", opens="help", keys=("?",)),
    ]


def _build_dialog_command(
    name: str, icon: str, href: str, detail: str = "", keys: tuple[str, ...] = ()
) -> PaletteCommand:
    return PaletteCommand(name=name, icon=icon, href=href, detail=detail, is_dialog=True, keys=keys)


MAX_QUERY_LENGTH = 200  # characters that are looked for
DEFAULT_ORGANIZATION_COUNT = 5  # organizations that are offered before anything is typed
PalettePeopleSearch = Callable[[OrganizationAccess | Principal, str], Awaitable[Sequence[PaletteCommand]]]


@dataclass(frozen=True)
class PalettePages:
    """The handlers and what they need. `people` gives the people that some words mean, as far as the asker may see."""

    console: PageResponder
    people: PalettePeopleSearch

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/commands", self.commands, methods=["GET"]),
            Route("/places", self.places, methods=["GET"]),
        ]

    async def commands(self, request: Request) -> Response:
        """What `q` means, seen from the organization `at`; for htmx the list alone, without scripts a page."""
        found = await self._asker(request)
        if isinstance(found, Response):
            return found
        principal, asker = found
        text = _get_query(request)
        people = (await self.people(asker, text))[:MAX_COMMANDS_PER_GROUP] if text else []
        organizations = await self.console.organizations(
            principal, query=text, limit=MAX_COMMANDS_PER_GROUP if text else DEFAULT_ORGANIZATION_COUNT
        )
        frame = await self.console.frame(asker, "")
        has_choice = text or len(organizations) > 1
        groups = build_palette_groups(
            asker, frame, people, organizations if has_choice else [], text, self.console.words
        )
        context: dict[str, Any] = {"groups": groups, "sought": text, "at": frame.at}
        if is_fragment_request(request):
            return self.console.pages.fragment(request, "console/palette_list.html", **context)
        return self.console.pages.page(request, "console/palette_page.html", frame=frame, **context)

    async def places(self, request: Request) -> Response:
        """The organizations that `q` means, for the switcher."""
        found = await self._asker(request)
        if isinstance(found, Response):
            return found
        principal, asker = found
        organizations = await self.console.organizations(
            principal, query=_get_query(request), limit=MAX_SWITCHER_ORGANIZATIONS + 1
        )
        current = asker if isinstance(asker, OrganizationAccess) else None
        context: dict[str, Any] = {
            "places": [build_organization_link(it, current) for it in organizations[:MAX_SWITCHER_ORGANIZATIONS]],
            "has_more": len(organizations) > MAX_SWITCHER_ORGANIZATIONS,
        }
        return self.console.pages.fragment(request, "places_found.html", **context)

    async def _asker(self, request: Request) -> tuple[Principal, OrganizationAccess | Principal] | Response:
        """Who asks, and from which organization; one that is not theirs to see is none."""
        principal = await self.console.principal(request)
        if isinstance(principal, Response):
            return principal
        at = request.query_params.get("at", "")
        access = await self.console.access(request, at) if at else None
        return principal, access if isinstance(access, OrganizationAccess) else principal


def _get_query(request: Request) -> str:
    return request.query_params.get("q", "").strip()[:MAX_QUERY_LENGTH].replace("\0", "")
