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

MAX_COMMANDS_PER_GROUP = 6
MAX_QUERY_LENGTH = 200
DEFAULT_ORGANIZATION_COUNT = 5  # organizations offered before anything is typed


class PaletteCommand(Struct, frozen=True, kw_only=True):
    """A command of the palette. It navigates to `href`, or with `is_dialog` shows it as a dialog.

    Without `href` the page's script executes it: it sets `theme`, or opens the dialog `opens`. `avatar` is the picture
    to show, of a person or of an organization.
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
    """Commands under one heading."""

    name: str
    commands: Sequence[PaletteCommand]


def build_palette_groups(
    viewer: OrganizationAccess | Principal,
    layout: PageLayout,
    people: Sequence[PaletteCommand],
    organizations: Sequence[OrganizationAccess],
    text: str,
    localizer: Localizer,
) -> list[PaletteGroup]:
    """Return the commands that match `text`, by kind; all pages and actions for an empty text."""
    _ = localizer.gettext
    places = [
        PaletteCommand(
            name=each.organization_name,
            icon="building-2",
            href=f"{get_organization_path(each)}/members",
            avatar="place",
        )
        for each in organizations
    ]
    found = [
        PaletteGroup(_("People"), people),
        PaletteGroup(_("Organizations"), places),
        PaletteGroup(_("Pages"), filter_commands(_build_page_commands(layout), text)),
        PaletteGroup(_("Actions"), filter_commands(_build_action_commands(viewer, localizer), text)),
    ]
    return [group for group in found if group.commands]


def filter_commands(commands: Sequence[PaletteCommand], text: str) -> list[PaletteCommand]:
    """Return the commands with a name that contains every word of the text."""
    words = text.casefold().split()
    return [command for command in commands if all(word in command.name.casefold() for word in words)]


def _build_page_commands(layout: PageLayout) -> list[PaletteCommand]:
    organization = layout.place.name if layout.place else ""
    return [
        *(PaletteCommand(name=it.name, icon=it.icon, href=it.href, detail=organization) for it in layout.sections),
        *(PaletteCommand(name=it.name, icon=it.icon, href=it.href) for it in layout.installation),
    ]


def _build_action_commands(viewer: OrganizationAccess | Principal, localizer: Localizer) -> list[PaletteCommand]:
    _ = localizer.gettext
    principal = viewer.principal if isinstance(viewer, OrganizationAccess) else viewer
    found = []
    if isinstance(viewer, OrganizationAccess):
        home, organization = get_organization_path(viewer), viewer.organization_name
        if viewer.can_manage:
            found += [
                _build_dialog_command(_("Invite people"), "user-plus", f"{home}/invitations/new", organization, ("i",)),
                _build_dialog_command(_("Invite many"), "users", f"{home}/invitations/many", organization),
                PaletteCommand(
                    name=_("Export members as CSV"),
                    icon="download",
                    href=f"{home}/members/export?format=csv",
                    detail=organization,
                ),
            ]
        if viewer.role is not None and principal.user_id is not None:
            found.append(_build_dialog_command(_("Leave organization"), "log-out", f"{home}/leave", organization))
    if principal.is_instance_admin:
        found += [
            _build_dialog_command(_("New user"), "user-plus", "/users/new"),
            _build_dialog_command(_("New API key"), "key-round", "/keys/new"),
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


PalettePeopleSearch = Callable[[OrganizationAccess | Principal, str], Awaitable[Sequence[PaletteCommand]]]


@dataclass(frozen=True)
class PalettePages:
    """Handlers of the palette and the switcher. `people` finds people that match a text and that the viewer may see."""

    console: PageResponder
    people: PalettePeopleSearch

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/commands", self.list_commands, methods=["GET"]),
            Route("/places", self.list_organizations, methods=["GET"]),
        ]

    async def list_commands(self, request: Request) -> Response:
        """List the commands that match `q`, seen from the organization `at`; a whole page without scripts."""
        found = await self._find_viewer(request)
        if isinstance(found, Response):
            return found
        principal, viewer = found
        text = _get_query(request)
        people = (await self.people(viewer, text))[:MAX_COMMANDS_PER_GROUP] if text else []
        organizations = await self.console.list_organizations(
            principal, query=text, limit=MAX_COMMANDS_PER_GROUP if text else DEFAULT_ORGANIZATION_COUNT
        )
        layout = await self.console.load_layout(viewer, "")
        has_choice = text or len(organizations) > 1
        groups = build_palette_groups(
            viewer, layout, people, organizations if has_choice else [], text, self.console.localizer
        )
        context: dict[str, Any] = {"groups": groups, "query": text, "at": layout.at}
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "console/palette_list.html", **context)
        return self.console.renderer.page(request, "console/palette_page.html", frame=layout, **context)

    async def list_organizations(self, request: Request) -> Response:
        """List the organizations that match `q`, for the switcher."""
        found = await self._find_viewer(request)
        if isinstance(found, Response):
            return found
        principal, viewer = found
        organizations = await self.console.list_organizations(
            principal, query=_get_query(request), limit=MAX_SWITCHER_ORGANIZATIONS + 1
        )
        current = viewer if isinstance(viewer, OrganizationAccess) else None
        context: dict[str, Any] = {
            "places": [build_organization_link(it, current) for it in organizations[:MAX_SWITCHER_ORGANIZATIONS]],
            "has_more": len(organizations) > MAX_SWITCHER_ORGANIZATIONS,
        }
        return self.console.renderer.fragment(request, "places_found.html", **context)

    async def _find_viewer(self, request: Request) -> tuple[Principal, OrganizationAccess | Principal] | Response:
        """Return the principal, and their access to the organization `at`, or the principal again without access."""
        principal = await self.console.require_principal(request)
        if isinstance(principal, Response):
            return principal
        at = request.query_params.get("at", "")
        access = await self.console.require_access(request, at) if at else None
        return principal, access if isinstance(access, OrganizationAccess) else principal


def _get_query(request: Request) -> str:
    return request.query_params.get("q", "").strip()[:MAX_QUERY_LENGTH].replace("\0", "")
