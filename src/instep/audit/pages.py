"""Console pages of operations and of the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from instep.audit.entries import AuditEntryRow
from instep.audit.filters import AuditFilter, AuditFilterForm, parse_audit_filter_form
from instep.audit.service import AuditService, make_csv_response
from instep.audit.views import collect_ids, make_audit_entry_view
from instep.auth.principal import OrganizationAccess, Principal
from instep.console import labels
from instep.console.components import ConfirmationDialog
from instep.console.labels import ACTION_GROUPS, LabelContext, format_action_group
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.db import Database
from instep.core.errors import PermanentError
from instep.core.templates import get_request_id, is_fragment_request
from instep.operations.pages import (
    FINISHED_STATES,
    OPERATION_STATES,
    UNFINISHED_STATES,
    describe_operation_result,
    make_operation_status,
    make_operation_view,
)
from instep.operations.service import OperationService
from instep.operations.workflow import Operation

PAGE_SIZE, MAX_UNFINISHED_SHOWN, RECENT_ENTRIES_LIMIT = 25, 100, 12


class AdminPageScope(Struct, frozen=True):
    """Whose history is read: of an organization (an access), or of everything (an instance admin)."""

    asker: OrganizationAccess | Principal

    @property
    def base(self) -> str:
        """The address above both pages."""
        return get_organization_path(self.asker) if isinstance(self.asker, OrganizationAccess) else ""

    @property
    def scope(self) -> str | None:
        """The organization's id."""
        return self.asker.organization_id if isinstance(self.asker, OrganizationAccess) else None

    def here(self, page: str) -> str:
        """The section of the frame."""
        return page if isinstance(self.asker, OrganizationAccess) else f"/{page}"

    def holds(self, operation: Operation) -> bool:
        """Whether an operation belongs here."""
        return self.scope in (None, operation.organization_id)


class ResolvedAuditFilter(Struct, frozen=True, kw_only=True):
    """Whom a filter of the audit may mean, and what to ask for; None where that is not clear."""

    people: list[labels.PersonMatch] = []
    filter: AuditFilter | None = None


@dataclass(frozen=True)
class OperationAndAuditPages:
    """The handlers and what they need."""

    console: PageResponder
    db: Database
    operations: OperationService
    audit: AuditService

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
        wanted = wanted if wanted in OPERATION_STATES else ""
        before = request.query_params.get("before", "")
        first = await self._first(place, wanted) if not before else []
        states = (wanted,) if wanted else FINISHED_STATES
        found = await self.operations.list(place.scope, states=states, before=before, limit=PAGE_SIZE + 1)
        shown = [*first, *found[:PAGE_SIZE]]
        context = {
            "rows": await self._operation_rows(place, shown),
            "more": self._more(request, found),
            "has_cursor": bool(before),
            "is_open": any(it.state == "open" for it in shown),
            "state": wanted,
            "states": [(key, make_operation_status(key, self.console.words)) for key in OPERATION_STATES],
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
        names = await self.db.read(labels.list_names, collect_ids([operation]))
        title, text, tone = describe_operation_result(operation, names, self.console.words)
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
        question = ConfirmationDialog(
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
        ask = parse_audit_filter_form(request.query_params)
        meant = await self._meant(place, ask)
        found = await self.audit.list(meant.filter, before=ask.before, limit=PAGE_SIZE + 1) if meant.filter else []
        context = {
            "rows": await self._entry_rows(place, found[:PAGE_SIZE]),
            "more": self._more(request, found),
            "has_cursor": bool(ask.before),
            "ask": ask,
            "people": meant.people,
            "groups": [(key, format_action_group(key, self.console.words)) for key in ACTION_GROUPS],
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
        meant = await self._meant(place, parse_audit_filter_form({"person": user}))
        found = await self.audit.list(meant.filter, limit=RECENT_ENTRIES_LIMIT) if meant.filter else []
        context: dict[str, Any] = {
            "rows": await self._entry_rows(place, found),
            "more": f"{place.base}/audit?person={user}",
        }
        return self.console.pages.fragment(request, "audit/story.html", **context)

    async def export(self, request: Request) -> Response:
        """The same entries as CSV: every one, newest first."""
        place = await self._place(request)
        if isinstance(place, Response):
            return place
        meant = await self._meant(place, parse_audit_filter_form(request.query_params))
        if meant.filter is None:
            _ = self.console.words.gettext
            text = _("Say exactly who is meant, then export again.")
            return self.console.pages.error(request, status=422, title=_("Nothing to export"), text=text)
        return make_csv_response(self.audit.export(meant.filter))

    async def _place(self, request: Request) -> AdminPageScope | Response:
        if "id" in request.path_params:
            title = self.console.words.gettext("Only admins can see this")
            asker: OrganizationAccess | Principal | Response = await self.console.admin(request, title=title)
        else:
            asker = await self.console.require_instance_admin(request)
        return asker if isinstance(asker, Response) else AdminPageScope(asker)

    async def _own(self, request: Request) -> tuple[AdminPageScope, Operation] | None:
        """An operation that this very person asked for, here or of nobody's organization, whatever else they see."""
        is_within = "id" in request.path_params
        asker = await (self.console.member(request) if is_within else self.console.principal(request))
        if isinstance(asker, Response):
            return None
        principal = asker.principal if isinstance(asker, OrganizationAccess) else asker
        place = AdminPageScope(asker)
        found = await self.operations.find_own(principal, request.path_params["operation"])
        is_here = found is not None and (found.organization_id is None or place.holds(found))
        return (place, found) if found is not None and is_here else None

    async def _find(self, request: Request) -> tuple[AdminPageScope, Operation] | Response:
        place = await self._place(request)
        if isinstance(place, Response):
            return place
        principal = place.asker.principal if isinstance(place.asker, OrganizationAccess) else place.asker
        theirs = {place.asker.organization_id: place.asker} if isinstance(place.asker, OrganizationAccess) else {}
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

    async def _first(self, place: AdminPageScope, wanted: str) -> list[Operation]:
        """What is not finished: all of it, for as long as a page can hold it."""
        if wanted:
            return []
        found = await self.operations.list(place.scope, states=UNFINISHED_STATES, limit=MAX_UNFINISHED_SHOWN)
        return sorted(found, key=lambda it: UNFINISHED_STATES.index(it.state))

    async def _meant(self, place: AdminPageScope, ask: AuditFilterForm) -> ResolvedAuditFilter:
        """Whom and what a filter means; no filter where that is not clear."""
        scope = place.scope
        if ask.organization and not isinstance(place.asker, OrganizationAccess):
            scope = ask.organization
        if not ask.person:
            return ResolvedAuditFilter(filter=ask.filter(scope, None))
        people = await self.db.read(labels.find_people, ask.person, scope)
        return ResolvedAuditFilter(people=people, filter=ask.filter(scope, people[0]) if len(people) == 1 else None)

    async def _places(self, place: AdminPageScope) -> Sequence[OrganizationAccess]:
        """The organizations to choose from, above them all."""
        return () if isinstance(place.asker, OrganizationAccess) else await self.console.organizations(place.asker)

    async def _operation_rows(self, place: AdminPageScope, rows: Sequence[Operation]) -> list[Any]:
        reading = await self._reading(place, collect_ids(rows))
        return [make_operation_view(it, reading, self.console.words, has_place=place.scope is None) for it in rows]

    async def _entry_rows(self, place: AdminPageScope, rows: Sequence[AuditEntryRow]) -> list[Any]:
        reading = await self._reading(place, collect_ids(rows))
        return [make_audit_entry_view(it, reading, self.console.words, has_place=place.scope is None) for it in rows]

    async def _reading(self, place: AdminPageScope, ids: Sequence[str]) -> LabelContext:
        names = await self.db.read(labels.list_names, ids) if ids else {}
        return LabelContext(names=names, base=place.base, now=self.console.pages.clock())

    def _more(self, request: Request, found: Sequence[Operation] | Sequence[AuditEntryRow]) -> str | None:
        if len(found) <= PAGE_SIZE:
            return None
        url = request.url.include_query_params(before=found[PAGE_SIZE - 1].id)
        return f"{url.path}?{url.query}"

    async def _answer(self, request: Request, place: AdminPageScope, page: str, context: dict[str, Any]) -> Response:
        context |= {"has_place": place.scope is None, "request_id": get_request_id(request)}
        if not is_fragment_request(request):
            return await self.console.page(request, f"audit/{page}.html", place.asker, here=place.here(page), **context)
        piece = "more" if context["has_cursor"] else "region"
        return self.console.pages.fragment(request, f"audit/{page}_{piece}.html", **context)
