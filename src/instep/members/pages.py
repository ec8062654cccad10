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
MAX_SEARCH_LENGTH = 200  # characters


async def _no_organizations() -> Sequence[tuple[str, str]]:
    return ()


async def _no_deactivations(_principal: Principal) -> Sequence[DeactivationNotice]:
    return ()


class MemberListRequest(Struct, frozen=True):
    """Parsed URL of the members page: the search to display, and the query of the list."""

    search: MemberSearch
    filters: MemberFilter


def parse_list_request(request: Request, now: int, roles: RoleCatalog = UNKNOWN_ROLES) -> MemberListRequest:
    """Parse the URL at `now`. `shown` is the number of rows of an open page, which gets as many again.

    Raises InvalidMemberCursorError for a cursor that this list did not create.
    """
    query = request.query_params
    search = parse_search(query.get("q", ""), has_deactivated=query.get("deactivated") == "1", roles=roles)
    cursor = decode_cursor(query["cursor"]) if query.get("cursor") else None
    shown = query.get("shown", "")
    limit = min(max(PAGE_SIZE, int(shown)), MAX_ROWS) if shown.isdecimal() and len(shown) < 5 else PAGE_SIZE
    return MemberListRequest(search, build_filter(search, limit=limit, now=now, cursor=cursor))


@dataclass(frozen=True)
class MemberListPages:
    """Handlers of the organization list and of the members list.

    `roles` returns the keys and names of an organization's roles, `annotations` what is shown beside its rows;
    `listen_for_changes` yields each time that something changes in it. `find_without_admin` returns the organizations
    (id and name) that have members and no active admin, `find_deactivations` those in which a principal is deactivated.
    """

    console: PageResponder
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    list_people: Callable[[OrganizationAccess, MemberFilter], Awaitable[MemberListPage]]
    listen_for_changes: Callable[[str], AsyncIterator[str]]
    annotations: Callable[[OrganizationAccess], Awaitable[RowAnnotations]]
    find_without_admin: Callable[[], Awaitable[Sequence[tuple[str, str]]]] = _no_organizations
    find_deactivations: Callable[[Principal], Awaitable[Sequence[DeactivationNotice]]] = _no_deactivations

    def routes(self) -> list[Route]:
        """Build the routes."""
        return [
            Route("/", self.start, name="start"),
            Route("/organizations/{organization_id}/members", self.members, name="members"),
            Route("/organizations/{organization_id}/members/live", self.changes, name="members_live"),
        ]

    async def start(self, request: Request) -> Response:
        """Show the organizations of a principal; a single one redirects to its members, none is answered with 403."""
        principal = await self.console.require_principal(request)
        if isinstance(principal, Response):
            return principal
        search_text = request.query_params.get("q", "").strip()[:MAX_SEARCH_LENGTH].replace("\0", "")
        organizations = await self.console.list_organizations(principal, query=search_text, limit=MAX_ROWS + 1)
        if not organizations and not search_text:
            pages = self.console.renderer
            if deactivations := await self.find_deactivations(principal):
                return pages.page(request, "console/paused.html", status=403, principal=principal, pauses=deactivations)
            return pages.page(request, "console/denied.html", status=403, principal=principal)
        if len(organizations) == 1 and not search_text:
            return RedirectResponse(f"{get_organization_path(organizations[0])}/members", 303)
        context: dict[str, Any] = {
            "organizations": [build_organization_link(access, None) for access in organizations[:MAX_ROWS]],
            "has_more": len(organizations) > MAX_ROWS,
            "search_text": search_text,
            "without_admin": await self.find_without_admin() if principal.is_instance_admin else (),
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "members/organizations_region.html", **context)
        return await self.console.respond_page(request, "members/organizations.html", principal, section="/", **context)

    async def members(self, request: Request) -> Response:
        """Show the members page; for htmx only the region of the list, or only the next rows."""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        try:
            wanted = parse_list_request(request, self.console.renderer.clock(), access.roles)
        except InvalidMemberCursorError:
            return RedirectResponse(request.url.path, 303)
        try:
            page = await self.list_people(access, wanted.filters)
        except TemporaryError as error:
            return self._answer_unavailable(request, access, error)
        annotations = await self.annotations(access) if access.can_manage else NO_ANNOTATIONS
        has_cursor = wanted.filters.cursor is not None
        if has_cursor:
            annotations = replace(annotations, lost_invitations=())
        context = self._build_context(request, access, wanted.search, annotations)
        view = build_list_view(page, context, self.console.localizer)
        return await self._answer(request, access, view, has_cursor=has_cursor)

    async def changes(self, request: Request) -> Response:
        """Stream server-sent events: `change` each time that the list may have changed."""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        organization_id = access.organization_id

        async def can_read(request_again: Request) -> bool:
            found = await self.console.require_member(request_again)
            return not isinstance(found, Response) and found.organization_id == organization_id

        return stream_changes(request, self.listen_for_changes(organization_id), can_read)

    def _build_context(
        self, request: Request, access: OrganizationAccess, search: MemberSearch, annotations: RowAnnotations
    ) -> MemberListContext:
        home = get_organization_path(access)
        return MemberListContext(
            access=access,
            search=search,
            path=f"{home}/members",
            roles=dict(self.roles(access)),
            now=self.console.renderer.clock(),
            marked_invitation_id=request.query_params.get("marked", ""),
            home=home,
            annotations=annotations,
        )

    async def _answer(
        self, request: Request, access: OrganizationAccess, view: MemberListView, *, has_cursor: bool
    ) -> Response:
        context: dict[str, Any] = {
            "people": view,
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
        response = self.console.renderer.fragment(request, "members/list.html", **context)
        if request.query_params.get("q") == "":
            response.headers["HX-Replace-Url"] = view.url
        return response

    def _answer_unavailable(self, request: Request, access: OrganizationAccess, error: TemporaryError) -> Response:
        """Answer 503 with an explanation instead of an empty table, because the database can't be read."""
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
