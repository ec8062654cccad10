"""The pages Operations and Audit: of one organization for its admins, of the whole installation for instance admins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.frame import home_of
from instep.access.principal import Access, Principal
from instep.audit.store import Filter, Kept
from instep.history import store
from instep.history.asking import AuditAsk, ask_of
from instep.history.export import as_csv
from instep.history.flows import Audit, Operations
from instep.history.naming import GROUPS, group
from instep.history.view import ENDED, STATES, UNFINISHED, Reading, entry_row, ids_of, operation_row, state, told
from instep.journal.model import Operation
from instep.kit.confirm import Confirm
from instep.kit.db import Db
from instep.kit.errors import PermanentError
from instep.kit.html import is_partial, request_id_of

PAGE, MOST_UNFINISHED, STORY = 25, 100, 12


class Place(Struct, frozen=True):
    """Whose history is read: of an organization (an access), or of everything (an instance admin)."""

    asker: Access | Principal

    @property
    def base(self) -> str:
        """The address above both pages."""
        return home_of(self.asker) if isinstance(self.asker, Access) else ""

    @property
    def scope(self) -> str | None:
        """The organization's id."""
        return self.asker.organization_id if isinstance(self.asker, Access) else None

    def here(self, page: str) -> str:
        """The section of the frame."""
        return page if isinstance(self.asker, Access) else f"/{page}"

    def holds(self, operation: Operation) -> bool:
        """Whether an operation belongs here."""
        return self.scope in (None, operation.organization_id)


class Meant(Struct, frozen=True, kw_only=True):
    """Whom a filter of the audit may mean, and what to ask for; None where that is not clear."""

    people: list[store.Found] = []
    filter: Filter | None = None


@dataclass(frozen=True)
class HistoryPages:
    """The handlers and what they need."""

    console: Console
    db: Db
    operations: Operations
    audit: Audit

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route(base + path, handler, methods=[method])
            for base in ("", "/organizations/{id}")
            for method, path, handler in (
                ("GET", "/operations", self.list_operations),
                ("GET", "/operations/{operation}/outcome", self.outcome),
                ("POST", "/operations/{operation}/retry", self.retry),
                ("GET", "/operations/{operation}/give-up", self.confirm),
                ("POST", "/operations/{operation}/give-up", self.give_up),
                ("GET", "/audit", self.list_audit),
                ("GET", "/audit/export", self.export),
                ("GET", "/people/{user}/story", self.story),
            )
        ]

    async def list_operations(self, request: Request) -> Response:
        """The page; for htmx its region alone, or the next rows alone.

        Without a filter what is open or needs a person comes first, whenever it was asked for.
        """
        place = await self._place(request)
        if isinstance(place, Response):
            return place
        wanted = request.query_params.get("state", "")
        wanted = wanted if wanted in STATES else ""
        before = request.query_params.get("before", "")
        first = await self._first(place, wanted) if not before else []
        states = (wanted,) if wanted else ENDED
        found = await self.operations.list(place.scope, states=states, before=before, limit=PAGE + 1)
        shown = [*first, *found[:PAGE]]
        context = {
            "rows": await self._operation_rows(place, shown),
            "more": self._more(request, found),
            "has_cursor": bool(before),
            "is_open": any(it.state == "open" for it in shown),
            "state": wanted,
            "states": [(key, state(key, self.console.words)) for key in STATES],
            "path": f"{place.base}/operations",
        }
        return await self._answer(request, place, "operations", context)

    async def outcome(self, request: Request) -> Response:
        """How one operation stands, for the script that waits for its end: of admins, and of whoever asked for it."""
        found = await self._own(request) or await self._find(request)
        if isinstance(found, Response):
            return found
        _, operation = found
        if operation.state == "open":
            return JSONResponse({"is_open": True}, headers={"Cache-Control": "no-store"})
        names = await self.db.read(store.list_names, ids_of([operation]))
        title, text, tone = told(operation, names, self.console.words)
        toast = {"title": title, "text": text, "tone": tone, "request_id": operation.request_id}
        return JSONResponse({"is_open": False, "toast": toast}, headers={"Cache-Control": "no-store"})

    async def retry(self, request: Request) -> Response:
        """Try again what needs a person."""
        return await self._end(request, is_retry=True)

    async def confirm(self, request: Request) -> Response:
        """The question before giving up: a dialog in an open page, else a page."""
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        place, operation = found
        (row,) = await self._operation_rows(place, [operation])
        _ = self.console.words.gettext
        stays = _("What Clerk may have done already stays done.")
        if row.steps:
            stays = _("What was done stays done: %(steps)s.", steps=", ".join(row.steps))
        question = Confirm(
            title=_('Give up "%(what)s: %(whom)s"?', what=row.what, whom=row.whom),
            verb=_("Give up"),
            action=f"{row.href}/give-up",
            cancel=f"{place.base}/operations",
            consequences=(_("Nothing more is tried."), stays, _("The audit says who gave up.")),
            row=f"row-{row.id}",
        )
        return await self.console.ask(request, question, place.asker, here=place.here("operations"))

    async def give_up(self, request: Request) -> Response:
        """End it as it stands."""
        return await self._end(request, is_retry=False)

    async def list_audit(self, request: Request) -> Response:
        """The page; for htmx its region alone, or the next rows alone."""
        place = await self._place(request)
        if isinstance(place, Response):
            return place
        ask = ask_of(request.query_params)
        meant = await self._meant(place, ask)
        found = await self.audit.list(meant.filter, before=ask.before, limit=PAGE + 1) if meant.filter else []
        context = {
            "rows": await self._entry_rows(place, found[:PAGE]),
            "more": self._more(request, found),
            "has_cursor": bool(ask.before),
            "ask": ask,
            "people": meant.people,
            "groups": [(key, group(key, self.console.words)) for key in GROUPS],
            "places": await self._places(place),
            "path": f"{place.base}/audit",
            "export": f"{place.base}/audit/export?{request.url.query}".rstrip("?"),
        }
        return await self._answer(request, place, "audit", context)

    async def story(self, request: Request) -> Response:
        """What happened with one person, for their details: the newest entries alone."""
        place = await self._place(request)
        if isinstance(place, Response):
            return place
        user = request.path_params["user"]
        meant = await self._meant(place, ask_of({"person": user}))
        found = await self.audit.list(meant.filter, limit=STORY) if meant.filter else []
        context: dict[str, Any] = {
            "rows": await self._entry_rows(place, found),
            "more": f"{place.base}/audit?person={user}",
        }
        return self.console.pages.fragment(request, "history/story.html", **context)

    async def export(self, request: Request) -> Response:
        """The same entries as CSV: every one, newest first."""
        place = await self._place(request)
        if isinstance(place, Response):
            return place
        meant = await self._meant(place, ask_of(request.query_params))
        if meant.filter is None:
            _ = self.console.words.gettext
            text = _("Say exactly who is meant, then export again.")
            return self.console.pages.error(request, status=422, title=_("Nothing to export"), text=text)
        return as_csv(self.audit.export(meant.filter))

    async def _place(self, request: Request) -> Place | Response:
        if "id" in request.path_params:
            title = self.console.words.gettext("Only admins can see this")
            asker: Access | Principal | Response = await self.console.admin(request, title=title)
        else:
            asker = await self.console.instance_admin(request)
        return asker if isinstance(asker, Response) else Place(asker)

    async def _own(self, request: Request) -> tuple[Place, Operation] | None:
        """An operation that this very person asked for, here or of nobody's organization, whatever else they see."""
        is_within = "id" in request.path_params
        asker = await (self.console.member(request) if is_within else self.console.principal(request))
        if isinstance(asker, Response):
            return None
        principal = asker.principal if isinstance(asker, Access) else asker
        place = Place(asker)
        found = await self.operations.find_own(principal, request.path_params["operation"])
        is_here = found is not None and (found.organization_id is None or place.holds(found))
        return (place, found) if found is not None and is_here else None

    async def _find(self, request: Request) -> tuple[Place, Operation] | Response:
        place = await self._place(request)
        if isinstance(place, Response):
            return place
        principal = place.asker.principal if isinstance(place.asker, Access) else place.asker
        theirs = {place.asker.organization_id: place.asker} if isinstance(place.asker, Access) else {}
        try:
            found = await self.operations.find(principal, theirs, request.path_params["operation"])
        except PermanentError as error:
            return self.console.refused(request, error)
        if place.holds(found):
            return place, found
        text = self.console.words.gettext("There is no such operation.")
        return self.console.pages.error(request, status=404, title=self.console.words.gettext("Not found"), text=text)

    async def _end(self, request: Request, *, is_retry: bool) -> Response:
        if foreign := self.console.foreign(request):
            return foreign
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        place, operation = found
        try:
            await (self.operations.retry if is_retry else self.operations.give_up)(operation)
        except PermanentError as error:
            return self.console.refused(request, error)
        _ = self.console.words.gettext
        title = _("It is being tried again") if is_retry else _("Given up")
        return self.console.done(request, title, f"{place.base}/operations")

    async def _first(self, place: Place, wanted: str) -> list[Operation]:
        """What is not finished: all of it, for as long as a page can hold it."""
        if wanted:
            return []
        found = await self.operations.list(place.scope, states=UNFINISHED, limit=MOST_UNFINISHED)
        return sorted(found, key=lambda it: UNFINISHED.index(it.state))

    async def _meant(self, place: Place, ask: AuditAsk) -> Meant:
        """Whom and what a filter means; no filter where that is not clear."""
        scope = place.scope
        if ask.organization and not isinstance(place.asker, Access):
            scope = ask.organization
        if not ask.person:
            return Meant(filter=ask.filter(scope, None))
        people = await self.db.read(store.find_people, ask.person, scope)
        return Meant(people=people, filter=ask.filter(scope, people[0]) if len(people) == 1 else None)

    async def _places(self, place: Place) -> Sequence[Access]:
        """The organizations to choose from, above them all."""
        return () if isinstance(place.asker, Access) else await self.console.organizations(place.asker)

    async def _operation_rows(self, place: Place, rows: Sequence[Operation]) -> list[Any]:
        reading = await self._reading(place, ids_of(rows))
        return [operation_row(it, reading, self.console.words, has_place=place.scope is None) for it in rows]

    async def _entry_rows(self, place: Place, rows: Sequence[Kept]) -> list[Any]:
        reading = await self._reading(place, ids_of(rows))
        return [entry_row(it, reading, self.console.words, has_place=place.scope is None) for it in rows]

    async def _reading(self, place: Place, ids: Sequence[str]) -> Reading:
        names = await self.db.read(store.list_names, ids) if ids else {}
        return Reading(names=names, base=place.base, now=self.console.pages.clock())

    def _more(self, request: Request, found: Sequence[Operation] | Sequence[Kept]) -> str | None:
        if len(found) <= PAGE:
            return None
        url = request.url.include_query_params(before=found[PAGE - 1].id)
        return f"{url.path}?{url.query}"

    async def _answer(self, request: Request, place: Place, page: str, context: dict[str, Any]) -> Response:
        context |= {"has_place": place.scope is None, "request_id": request_id_of(request)}
        if not is_partial(request):
            return await self.console.page(
                request, f"history/{page}.html", place.asker, here=place.here(page), **context
            )
        piece = "more" if context["has_cursor"] else "region"
        return self.console.pages.fragment(request, f"history/{page}_{piece}.html", **context)
