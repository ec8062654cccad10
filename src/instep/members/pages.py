"""Pages of the organization list and the members list, with live updates."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth.principal import DeactivationNotice, OrganizationAccess, Principal
from instep.console.layout import build_organization_layout, build_organization_link, get_organization_path
from instep.console.responses import PageResponder, stream_changes
from instep.core.errors import TemporaryError, describe_error
from instep.core.templates import get_request_id, is_fragment_request
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog
from instep.members.listing import MemberSearch, build_filter, decode_cursor, parse_search
from instep.members.models import NO_ANNOTATIONS, InvalidMemberCursorError, MemberFilter, MemberListPage, RowAnnotations
from instep.members.views import MemberListContext, MemberListView, build_list_view

log = structlog.get_logger(__name__)
NAVIGATION_ITEM = "members"
PAGE_SIZE, MAX_ROWS = 25, 500
MAX_SEARCH_LENGTH = 200  # characters that are looked for


async def _no_organizations() -> Sequence[tuple[str, str]]:
    return ()


async def _no_pauses(_who: Principal) -> Sequence[DeactivationNotice]:
    return ()


@dataclass(frozen=True)
class MemberListPages:
    """The handlers and what they need. `live` yields each time that something changed in an organization.

    `roles` are the keys and names of the roles of an organization;
    `adminless` gives the organizations (id and name) that have members and no active admin; `pauses` what to tell
    somebody of those in which they are deactivated.
    """

    console: PageResponder
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    list_people: Callable[[OrganizationAccess, MemberFilter], Awaitable[MemberListPage]]
    live: Callable[[str], AsyncIterator[str]]
    around: Callable[[OrganizationAccess], Awaitable[RowAnnotations]]
    adminless: Callable[[], Awaitable[Sequence[tuple[str, str]]]] = _no_organizations
    pauses: Callable[[Principal], Awaitable[Sequence[DeactivationNotice]]] = _no_pauses

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/", self.start, name="start"),
            Route("/organizations/{organization_id}/members", self.members, name="members"),
            Route("/organizations/{organization_id}/members/live", self.changes, name="members_live"),
        ]

    async def start(self, request: Request) -> Response:
        """The organizations that a person may see: one leads straight to its members, none is said."""
        principal = await self.console.require_principal(request)
        if isinstance(principal, Response):
            return principal
        sought = request.query_params.get("q", "").strip()[:MAX_SEARCH_LENGTH].replace("\0", "")
        organizations = await self.console.list_organizations(principal, query=sought, limit=MAX_ROWS + 1)
        if not organizations and not sought and (pauses := await self.pauses(principal)):
            return self.console.renderer.page(
                request, "console/paused.html", status=403, principal=principal, pauses=pauses
            )
        if not organizations and not sought:
            return self.console.renderer.page(request, "console/denied.html", status=403, principal=principal)
        if len(organizations) == 1 and not sought:
            return RedirectResponse(f"{get_organization_path(organizations[0])}/members", 303)
        context: dict[str, Any] = {
            "found": [build_organization_link(it, None) for it in organizations[:MAX_ROWS]],
            "has_more": len(organizations) > MAX_ROWS,
            "sought": sought,
            "adminless": await self.adminless() if principal.is_instance_admin else (),
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "members/organizations_region.html", **context)
        return await self.console.respond_page(request, "members/organizations.html", principal, section="/", **context)

    async def members(self, request: Request) -> Response:
        """The page; for htmx the list region alone, or the next rows alone."""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        try:
            wish = parse_list_request(request, self.console.renderer.clock(), access.roles)
        except InvalidMemberCursorError:
            return RedirectResponse(request.url.path, 303)
        try:
            people = await self.list_people(access, wish.ask)
        except TemporaryError as error:
            return self._unavailable(request, access, error)
        has_cursor = wish.ask.cursor is not None
        around = await self.around(access) if access.can_manage else NO_ANNOTATIONS
        reading = self._reading(request, access, wish.search, replace(around, lost=()) if has_cursor else around)
        shown = build_list_view(people, reading, self.console.localizer)
        return await self._answer(request, access, shown, has_cursor=has_cursor)

    async def changes(self, request: Request) -> Response:
        """Server-sent events: `change` each time that the list may look different."""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        organization_id = access.organization_id

        async def may_read(again: Request) -> bool:
            found = await self.console.require_member(again)
            return not isinstance(found, Response) and found.organization_id == organization_id

        return stream_changes(request, self.live(organization_id), may_read)

    def _reading(
        self, request: Request, access: OrganizationAccess, search: MemberSearch, around: RowAnnotations
    ) -> MemberListContext:
        return MemberListContext(
            access=access,
            search=search,
            path=f"{get_organization_path(access)}/members",
            roles=dict(self.roles(access)),
            now=self.console.renderer.clock(),
            marked=request.query_params.get("marked", ""),
            home=get_organization_path(access),
            around=around,
        )

    async def _answer(
        self, request: Request, access: OrganizationAccess, shown: MemberListView, *, has_cursor: bool
    ) -> Response:
        context: dict[str, Any] = {
            "people": shown,
            "home": get_organization_path(access),
            "has_cursor": has_cursor,
            "access": access,
        }
        if not is_fragment_request(request):
            return await self.console.respond_page(
                request, "members/members.html", access, section=NAVIGATION_ITEM, **context
            )
        if has_cursor:
            return self.console.renderer.fragment(request, "members/more.html", **context)
        answer = self.console.renderer.fragment(request, "members/list.html", **context)
        if request.query_params.get("q") == "":
            answer.headers["HX-Replace-Url"] = shown.here
        return answer

    def _unavailable(self, request: Request, access: OrganizationAccess, error: TemporaryError) -> Response:
        """The database can't be read: a panel that says so, never an empty table."""
        log.warning("request_failed", path=request.url.path, error=describe_error(error))
        retry = str(request.url.replace(scheme="", netloc=""))
        context: dict[str, Any] = {
            "retry": retry,
            "reason": str(error) if access.can_manage else "",
            "request_id": get_request_id(request),
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "members/unavailable.html", status=503, **context)
        frame = build_organization_layout(access, [access], localizer=self.console.localizer, section=NAVIGATION_ITEM)
        return self.console.renderer.page(request, "members/down.html", status=503, frame=frame, **context)


class MemberListRequest(Struct, frozen=True):
    """What an address asks for."""

    search: MemberSearch
    ask: MemberFilter


def parse_list_request(request: Request, now: int, roles: RoleCatalog = UNKNOWN_ROLES) -> MemberListRequest:
    """Reads the address at `now`. `shown` is how many rows an open page has, so that it gets as many again.

    Raises InvalidMemberCursorError for a cursor that this list did not make.
    """
    query = request.query_params
    search = parse_search(query.get("q", ""), has_deactivated=query.get("deactivated") == "1", roles=roles)
    cursor = decode_cursor(query["cursor"]) if query.get("cursor") else None
    shown = query.get("shown", "")
    limit = min(max(PAGE_SIZE, int(shown)), MAX_ROWS) if shown.isdecimal() and len(shown) < 5 else PAGE_SIZE
    return MemberListRequest(search, build_filter(search, limit=limit, now=now, cursor=cursor))
