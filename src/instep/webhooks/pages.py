"""Console pages of deliveries: list, details and replay."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.audit.repository import AuditEntryRow
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
PAGE_SIZE = 25
MAX_REPLAYED_AT_ONCE = 200


class DeliveryPersonMatch(Struct, frozen=True):
    """A person found by the filter: our id, Clerk's id, name and email."""

    id: str
    clerk_id: str | None
    name: str
    email: str | None


class ResolvedDeliveryFilter(Struct, frozen=True, kw_only=True):
    """The people that match a filter form, and the filter; None unless exactly one person matches."""

    people: Sequence[DeliveryPersonMatch] = ()
    filter: DeliveryFilter | None = None


@dataclass(frozen=True)
class DeliveryPages:
    """Handlers of the pages of deliveries.

    `find_people` finds people by a text, `load_names` returns names by Clerk's ids, `make_audit_views` returns audit
    entries as text.
    """

    console: PageResponder
    deliveries: DeliveryService
    find_people: Callable[[str], Awaitable[Sequence[DeliveryPersonMatch]]]
    load_names: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    make_audit_views: Callable[[Sequence[AuditEntryRow]], Awaitable[Sequence[DeliveryAuditView]]]

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/deliveries", self.list_deliveries, methods=["GET"]),
            Route("/deliveries/replay", self.replay_many, methods=["POST"]),
            Route("/deliveries/{delivery_id}", self.show, methods=["GET"]),
            Route("/deliveries/{delivery_id}/replay", self.replay, methods=["POST"]),
        ]

    async def list_deliveries(self, request: Request) -> Response:
        """List deliveries; for htmx the region alone, or the next rows."""
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        form = parse_delivery_filter_form(request.query_params)
        resolved = await self._resolve_filter(viewer, form)
        page = (
            await self.deliveries.list(resolved.filter, before=form.before, limit=PAGE_SIZE)
            if resolved.filter
            else None
        )
        more = None
        if page and page.next:
            url = request.url.include_query_params(before=f"{page.next[0]}.{page.next[1]}")
            more = f"{url.path}?{url.query}"
        localizer = self.console.localizer
        context: dict[str, Any] = {
            "rows": await self._make_views(page.rows if page else []),
            "more": more,
            "has_cursor": form.before is not None,
            "form": form,
            "people": resolved.people,
            "families": EVENT_FAMILIES,
            "states": [(key, make_delivery_status(states[-1], localizer)) for key, states in STATE_FILTERS.items()],
            "organizations": await self.console.list_organizations(viewer),
            "path": DELIVERIES_PATH,
        }
        if not (is_fragment_request(request) and form.before):
            context["foreign"] = await self.deliveries.count_foreign()
        if not is_fragment_request(request):
            return await self.console.respond_page(
                request, "webhooks/deliveries.html", viewer, section=DELIVERIES_PATH, **context
            )
        part = "more" if form.before else "region"
        return self.console.renderer.fragment(request, f"webhooks/deliveries_{part}.html", **context)

    async def show(self, request: Request) -> Response:
        """Show a delivery with its payload and its audit entries: a drawer on an open page, else a page."""
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        try:
            details = await self.deliveries.get_details(request.path_params["delivery_id"])
        except PermanentError as error:
            return self.console.respond_error(request, error, title=self.console.localizer.gettext("Not found"))
        (row,) = await self._make_views([details.row])
        history = await self.make_audit_views(details.history)
        context: dict[str, Any] = {
            "row": row,
            "payload": details.payload,
            "history": history,
            "back": DELIVERIES_PATH,
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "webhooks/delivery.html", **context)
        return await self.console.respond_page(
            request, "webhooks/delivery_page.html", viewer, section=DELIVERIES_PATH, **context
        )

    async def replay(self, request: Request) -> Response:
        """Replay a delivery."""
        if rejection := self.console.reject_cross_origin(request):
            return rejection
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        try:
            await self.deliveries.replay(request.path_params["delivery_id"], actor=viewer.id)
        except InstepError as error:
            return self.console.respond_error(request, error)
        title = self.console.localizer.gettext("Replaying the delivery")
        return self.console.respond_success(request, title, DELIVERIES_PATH)

    async def replay_many(self, request: Request) -> Response:
        """Replay the selected deliveries, and show the result of each."""
        if rejection := self.console.reject_cross_origin(request):
            return rejection
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        form = await request.form()
        selected = list(dict.fromkeys(str(each) for each in form.getlist("delivery")))[:MAX_REPLAYED_AT_ONCE]
        localizer = self.console.localizer
        _ = localizer.gettext
        if not selected:
            text = _("Select deliveries that are done or have failed.")
            return self.console.renderer.error(request, status=422, title=_("Nothing is selected"), text=text)
        reasons = {delivery_id: await self._try_replay(delivery_id, viewer) for delivery_id in selected}
        keys = [SKIPPED if reason else DONE for reason in reasons.values()]
        rows = [
            BulkItemView(name=delivery_id, status=make_bulk_status_badge(key, localizer), note=reason)
            for (delivery_id, reason), key in zip(reasons.items(), keys, strict=True)
        ]
        title = _("Replay: %(count)s", count=summarize_bulk_result(keys, localizer))
        result = BulkResultView(title=title, rows=rows, back=DELIVERIES_PATH)
        return await self.console.respond_bulk_result(request, result, viewer, section=DELIVERIES_PATH)

    async def _try_replay(self, delivery_id: str, viewer: Principal) -> str:
        """Replay a delivery. Return the reason if it was skipped, else an empty string."""
        try:
            await self.deliveries.replay(delivery_id, actor=viewer.id)
        except PermanentError as error:
            return self.console.localizer.translate(error)
        return ""

    async def _resolve_filter(self, viewer: Principal, form: DeliveryFilterForm) -> ResolvedDeliveryFilter:
        clerk_organization_id = None
        if form.organization:
            organizations = await self.console.list_organizations(viewer)
            clerk_ids = {each.organization_id: each.organization_clerk_id for each in organizations}
            clerk_organization_id = clerk_ids.get(form.organization) or form.organization
        if not form.person:
            return ResolvedDeliveryFilter(filter=form.to_filter(None, clerk_organization_id))
        people = await self.find_people(form.person)
        user_ids = [person.clerk_id for person in people if person.clerk_id]
        if form.person.startswith("user_") and not people:
            user_ids = [form.person]  # a user that was never mirrored
        person_filter = form.to_filter(user_ids, clerk_organization_id) if len(user_ids) == 1 else None
        return ResolvedDeliveryFilter(people=people, filter=person_filter)

    async def _make_views(self, rows: Sequence[DeliveryRow]) -> list[DeliveryView]:
        names = await self.load_names(collect_ids(rows)) if rows else {}
        now = self.console.renderer.clock()
        return [make_delivery_view(row, names, self.console.localizer, now=now) for row in rows]
