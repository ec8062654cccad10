"""Console pages of deliveries: list, details and replay."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.audit.entries import AuditEntryRow
from instep.auth.principal import Principal
from instep.console.components import (
    DONE,
    SKIPPED,
    BulkItemView,
    BulkResultView,
    make_bulk_status_badge,
    summarize_bulk_result,
)
from instep.console.responses import PageResponder
from instep.core.errors import InstepError, PermanentError
from instep.core.templates import is_fragment_request
from instep.webhooks.filters import (
    EVENT_FAMILIES,
    STATE_FILTERS,
    DeliveryFilter,
    DeliveryFilterForm,
    parse_delivery_filter_form,
)
from instep.webhooks.repository import DeliveryRow
from instep.webhooks.service import DeliveryService
from instep.webhooks.views import DeliveryAuditView, DeliveryView, collect_ids, make_delivery_status, make_delivery_view

DELIVERIES_PATH = "/deliveries"
PAGE_SIZE, MAX_REPLAYED_AT_ONCE = 25, 200


class DeliveryPersonMatch(Struct, frozen=True):
    """Someone whom a reader may mean: our id, Clerk's, and what to call them."""

    id: str
    clerk_id: str | None
    name: str
    email: str | None


class ResolvedDeliveryFilter(Struct, frozen=True, kw_only=True):
    """Whom a filter may mean, and what to ask for; None where that is not clear."""

    people: Sequence[DeliveryPersonMatch] = ()
    filter: DeliveryFilter | None = None


@dataclass(frozen=True)
class DeliveryPages:
    """The handlers and what they need.

    `people` finds whom some words mean, `names` what to call Clerk's ids, `events` tells the audit's entries in words.
    """

    console: PageResponder
    deliveries: DeliveryService
    people: Callable[[str], Awaitable[Sequence[DeliveryPersonMatch]]]
    names: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    events: Callable[[Sequence[AuditEntryRow]], Awaitable[Sequence[DeliveryAuditView]]]

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/deliveries", self.list_deliveries, methods=["GET"]),
            Route("/deliveries/replay", self.replay_many, methods=["POST"]),
            Route("/deliveries/{delivery}", self.show, methods=["GET"]),
            Route("/deliveries/{delivery}/replay", self.replay, methods=["POST"]),
        ]

    async def list_deliveries(self, request: Request) -> Response:
        """The page; for htmx its region alone, or the next rows alone."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        ask = parse_delivery_filter_form(request.query_params)
        meant = await self._meant(asker, ask)
        shown = await self.deliveries.list(meant.filter, before=ask.before, limit=PAGE_SIZE) if meant.filter else None
        more = None
        if shown and shown.next:
            url = request.url.include_query_params(before=f"{shown.next[0]}.{shown.next[1]}")
            more = f"{url.path}?{url.query}"
        words = self.console.localizer
        context: dict[str, Any] = {
            "rows": await self._rows(shown.rows if shown else []),
            "more": more,
            "has_cursor": ask.before is not None,
            "ask": ask,
            "people": meant.people,
            "families": EVENT_FAMILIES,
            "states": [(key, make_delivery_status(kinds[-1], words)) for key, kinds in STATE_FILTERS.items()],
            "places": await self.console.list_organizations(asker),
            "path": DELIVERIES_PATH,
        }
        if not (is_fragment_request(request) and ask.before):
            context["foreign"] = await self.deliveries.count_foreign()
        if not is_fragment_request(request):
            return await self.console.respond_page(
                request, "webhooks/deliveries.html", asker, section=DELIVERIES_PATH, **context
            )
        piece = "more" if ask.before else "region"
        return self.console.renderer.fragment(request, f"webhooks/deliveries_{piece}.html", **context)

    async def show(self, request: Request) -> Response:
        """One delivery: what it said, what it did, what became of it since. A drawer in an open page, else a page."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            told = await self.deliveries.tell(request.path_params["delivery"])
        except PermanentError as error:
            return self.console.respond_error(request, error, title=self.console.localizer.gettext("Not found"))
        (row,) = await self._rows([told.row])
        story = await self.events(told.history)
        context: dict[str, Any] = {"row": row, "payload": told.payload, "story": story, "back": DELIVERIES_PATH}
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "webhooks/delivery.html", **context)
        return await self.console.respond_page(
            request, "webhooks/delivery_page.html", asker, section=DELIVERIES_PATH, **context
        )

    async def replay(self, request: Request) -> Response:
        """Have one worked once more."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            await self.deliveries.replay(request.path_params["delivery"], actor=asker.id)
        except InstepError as error:
            return self.console.respond_error(request, error)
        _ = self.console.localizer.gettext
        return self.console.respond_success(request, _("It is being worked once more"), DELIVERIES_PATH)

    async def replay_many(self, request: Request) -> Response:
        """Have those that were chosen worked once more; what became of each is told."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        chosen = list(dict.fromkeys(str(it) for it in (await request.form()).getlist("delivery")))[
            :MAX_REPLAYED_AT_ONCE
        ]
        _ = self.console.localizer.gettext
        if not chosen:
            text = _("Choose deliveries that are parked or done.")
            return self.console.renderer.error(request, status=422, title=_("Nothing is selected"), text=text)
        ends = [(id, await self._replay_one(id, asker)) for id in chosen]
        keys = [SKIPPED if reason else DONE for _id, reason in ends]
        rows = [
            BulkItemView(name=id, status=make_bulk_status_badge(key, self.console.localizer), note=reason)
            for (id, reason), key in zip(ends, keys, strict=True)
        ]
        title = _("To be worked once more: %(count)s", count=summarize_bulk_result(keys, self.console.localizer))
        return await self.console.respond_bulk_result(
            request, BulkResultView(title=title, rows=rows, back=DELIVERIES_PATH), asker, section=DELIVERIES_PATH
        )

    async def _replay_one(self, id: str, asker: Principal) -> str:
        """Why it was not done; nothing where it was."""
        try:
            await self.deliveries.replay(id, actor=asker.id)
        except PermanentError as error:
            return self.console.localizer.translate(error)
        return ""

    async def _meant(self, asker: Principal, ask: DeliveryFilterForm) -> ResolvedDeliveryFilter:
        """Whom a filter means."""
        organization = None
        if ask.organization:
            places = await self.console.list_organizations(asker)
            known = {it.organization_id: it.organization_clerk_id for it in places}
            organization = known.get(ask.organization) or ask.organization
        if not ask.person:
            return ResolvedDeliveryFilter(filter=ask.filter(None, organization))
        people = await self.people(ask.person)
        ids = [it.clerk_id for it in people if it.clerk_id]
        if ask.person.startswith("user_") and not people:
            ids = [ask.person]  # somebody whom only Clerk knew
        return ResolvedDeliveryFilter(people=people, filter=ask.filter(ids, organization) if len(ids) == 1 else None)

    async def _rows(self, rows: Sequence[DeliveryRow]) -> list[DeliveryView]:
        names = await self.names(collect_ids(rows)) if rows else {}
        now = self.console.renderer.clock()
        return [make_delivery_view(it, names, self.console.localizer, now=now) for it in rows]
