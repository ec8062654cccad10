"""The page of members and roles, its live channel, and the way to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.frame import frame_within, home_of, place_of
from instep.access.principal import Access, Paused, Principal
from instep.access.stream import event_stream
from instep.identity.roles import UNREAD, Roles
from instep.kit.errors import TemporaryError, described
from instep.kit.html import is_partial, request_id_of
from instep.people.around import NOTHING, Around
from instep.people.merge import Ask, BadCursor, People, decode_cursor
from instep.people.rows import Reading
from instep.people.search import Search, ask_of, parse
from instep.people.view import PeopleView, view

log = structlog.get_logger(__name__)
HERE = "members"
PAGE, MOST = 25, 500
LONGEST = 200  # characters that are looked for


async def _none() -> Sequence[tuple[str, str]]:
    return ()


async def _no_pauses(_who: Principal) -> Sequence[Paused]:
    return ()


@dataclass(frozen=True)
class PeoplePages:
    """The handlers and what they need. `live` yields each time that something changed in an organization.

    `roles` are the keys and names of the roles of an organization;
    `adminless` gives the organizations (id and name) that have members and no active admin; `pauses` what to tell
    somebody of those in which they are deactivated.
    """

    console: Console
    roles: Callable[[Access], Sequence[tuple[str, str]]]
    list_people: Callable[[Access, Ask], Awaitable[People]]
    live: Callable[[str], AsyncIterator[str]]
    around: Callable[[Access], Awaitable[Around]]
    adminless: Callable[[], Awaitable[Sequence[tuple[str, str]]]] = _none
    pauses: Callable[[Principal], Awaitable[Sequence[Paused]]] = _no_pauses

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/", self.start, name="start"),
            Route("/organizations/{id}/members", self.members, name="members"),
            Route("/organizations/{id}/members/live", self.changes, name="members_live"),
        ]

    async def start(self, request: Request) -> Response:
        """The organizations that a person may see: one leads straight to its members, none is said."""
        principal = await self.console.principal(request)
        if isinstance(principal, Response):
            return principal
        sought = request.query_params.get("q", "").strip()[:LONGEST].replace("\0", "")
        organizations = await self.console.organizations(principal, query=sought, limit=MOST + 1)
        if not organizations and not sought and (pauses := await self.pauses(principal)):
            return self.console.pages.page(
                request, "access/paused.html", status=403, principal=principal, pauses=pauses
            )
        if not organizations and not sought:
            return self.console.pages.page(request, "access/denied.html", status=403, principal=principal)
        if len(organizations) == 1 and not sought:
            return RedirectResponse(f"{home_of(organizations[0])}/members", 303)
        context: dict[str, Any] = {
            "found": [place_of(it, None) for it in organizations[:MOST]],
            "has_more": len(organizations) > MOST,
            "sought": sought,
            "adminless": await self.adminless() if principal.is_instance_admin else (),
        }
        if is_partial(request):
            return self.console.pages.fragment(request, "people/organizations_region.html", **context)
        return await self.console.page(request, "people/organizations.html", principal, here="/", **context)

    async def members(self, request: Request) -> Response:
        """The page; for htmx the list region alone, or the next rows alone."""
        access = await self.console.member(request)
        if isinstance(access, Response):
            return access
        try:
            wish = wish_of(request, self.console.pages.clock(), access.roles)
        except BadCursor:
            return RedirectResponse(request.url.path, 303)
        try:
            people = await self.list_people(access, wish.ask)
        except TemporaryError as error:
            return self._unavailable(request, access, error)
        has_cursor = wish.ask.cursor is not None
        around = await self.around(access) if access.may_act else NOTHING
        reading = self._reading(request, access, wish.search, replace(around, lost=()) if has_cursor else around)
        shown = view(people, reading, self.console.words)
        return await self._answer(request, access, shown, has_cursor=has_cursor)

    async def changes(self, request: Request) -> Response:
        """Server-sent events: `change` each time that the list may look different."""
        access = await self.console.member(request)
        if isinstance(access, Response):
            return access
        organization_id = access.organization_id

        async def may_read(again: Request) -> bool:
            found = await self.console.member(again)
            return not isinstance(found, Response) and found.organization_id == organization_id

        return event_stream(request, self.live(organization_id), may_read)

    def _reading(self, request: Request, access: Access, search: Search, around: Around) -> Reading:
        return Reading(
            access=access,
            search=search,
            path=f"{home_of(access)}/members",
            roles=dict(self.roles(access)),
            now=self.console.pages.clock(),
            marked=request.query_params.get("marked", ""),
            home=home_of(access),
            around=around,
        )

    async def _answer(self, request: Request, access: Access, shown: PeopleView, *, has_cursor: bool) -> Response:
        context: dict[str, Any] = {"people": shown, "home": home_of(access), "has_cursor": has_cursor, "access": access}
        if not is_partial(request):
            return await self.console.page(request, "people/members.html", access, here=HERE, **context)
        if has_cursor:
            return self.console.pages.fragment(request, "people/more.html", **context)
        answer = self.console.pages.fragment(request, "people/list.html", **context)
        if request.query_params.get("q") == "":
            answer.headers["HX-Replace-Url"] = shown.here
        return answer

    def _unavailable(self, request: Request, access: Access, error: TemporaryError) -> Response:
        """The database can't be read: a panel that says so, never an empty table."""
        log.warning("request_failed", path=request.url.path, error=described(error))
        retry = str(request.url.replace(scheme="", netloc=""))
        context: dict[str, Any] = {
            "retry": retry,
            "reason": str(error) if access.may_act else "",
            "request_id": request_id_of(request),
        }
        if is_partial(request):
            return self.console.pages.fragment(request, "people/unavailable.html", status=503, **context)
        frame = frame_within(access, [access], words=self.console.words, here=HERE)
        return self.console.pages.page(request, "people/down.html", status=503, frame=frame, **context)


class Wish(Struct, frozen=True):
    """What an address asks for."""

    search: Search
    ask: Ask


def wish_of(request: Request, now: int, roles: Roles = UNREAD) -> Wish:
    """Reads the address at `now`. `shown` is how many rows an open page has, so that it gets as many again.

    Raises BadCursor for a cursor that this list did not make.
    """
    query = request.query_params
    search = parse(query.get("q", ""), has_deactivated=query.get("deactivated") == "1", roles=roles)
    cursor = decode_cursor(query["cursor"]) if query.get("cursor") else None
    shown = query.get("shown", "")
    limit = min(max(PAGE, int(shown)), MOST) if shown.isdecimal() and len(shown) < 5 else PAGE
    return Wish(search, ask_of(search, limit=limit, now=now, cursor=cursor))
