"""Console pages of sync: overview, runs, and starting, applying or withdrawing a run."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth.principal import Principal
from instep.console.components import ConfirmationDialog
from instep.console.responses import PageResponder
from instep.core.errors import InstepError
from instep.core.templates import is_fragment_request
from instep.sync import repository, views
from instep.sync.jobs import RunQueue
from instep.sync.models import Run, RunKind
from instep.sync.repository import find_run, load_overview, load_run_details
from instep.sync.views import (
    PAGE_SIZE,
    RenderContext,
    confirm_apply,
    confirm_deletion_limit,
    parse_number,
    parse_selected_rows,
)

SYNC_PATH = "/sync"
STARTABLE_KINDS: tuple[RunKind, ...] = ("check", "first", "changed")


@dataclass(frozen=True)
class SyncPages:
    """Handlers of the sync pages.

    `find_names` returns display names by our ids or Clerk's. `check_interval` is the time between automatic checks in
    milliseconds; 0: never.
    """

    console: PageResponder
    run_queue: RunQueue
    find_names: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    check_interval: int = 0

    def routes(self) -> list[Route]:
        """Return the routes of the sync pages."""
        return [
            Route("/sync", self.show_overview, methods=["GET"]),
            *(Route(f"/sync/{kind}", self.start, methods=["POST"]) for kind in STARTABLE_KINDS),
            Route("/sync/plan", self.show_plan_confirmation, methods=["GET"]),
            Route("/sync/plan", self.create_plan, methods=["POST"]),
            Route("/sync/runs/{run}", self.show_run, methods=["GET"]),
            Route("/sync/runs/{run}/apply", self.show_apply_confirmation, methods=["GET"]),
            Route("/sync/runs/{run}/apply", self.apply, methods=["POST"]),
            Route("/sync/runs/{run}/withdraw", self.withdraw, methods=["POST"]),
        ]

    async def show_overview(self, request: Request) -> Response:
        """Show the active run, the last check and its findings, the webhook, the field ownership and the last runs."""
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        now, sync = self.console.renderer.clock(), self.run_queue.sync
        overview = await sync.db.read(load_overview, sync.find_newest_event_at, now=now)
        render = await self._make_render_context(_collect_actor_ids((*overview.unfinished, *overview.runs)), now)
        context = views.build_overview_context(overview, render, policy=sync.policy, check_interval=self.check_interval)
        context["is_empty"] = not overview.unfinished and await sync.needs_backfill()
        return await self._respond(request, principal, "overview", context)

    async def start(self, request: Request) -> Response:
        """Request a check, a first sync or the latest changes."""
        _ = self.console.localizer.gettext
        titles = {
            "check": _("Checking"),
            "first": _("Importing everyone"),
            "changed": _("Applying the latest changes"),
        }
        kind = next(it for it in STARTABLE_KINDS if request.url.path == f"/sync/{it}")
        return await self._request_run(request, kind, title=titles[kind], back="/sync")

    async def show_plan_confirmation(self, request: Request) -> Response:
        """Show the confirmation dialog of a plan with more deletions than the limit allows."""
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        allowed = parse_number(request.query_params.get("allow_gone", ""))
        if allowed is None:
            return RedirectResponse("/sync", 303)
        return await self.console.respond_confirmation(
            request, confirm_deletion_limit(allowed, self.console.localizer), principal, section=SYNC_PATH
        )

    async def create_plan(self, request: Request) -> Response:
        """Request a plan, and redirect to its page."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        form = await request.form()
        allowed = str(form.get("allow_gone", ""))
        if allowed and str(form.get("word", "")) != confirm_deletion_limit(0, self.console.localizer).confirmation_text:
            return self._respond_not_confirmed(request)
        title = self.console.localizer.gettext("Creating a plan")
        return await self._request_run(request, "plan", title=title, back="", allow_gone=parse_number(allowed))

    async def show_run(self, request: Request) -> Response:
        """Show a run: numbers and findings; for a plan the applicable rows, for an apply the outcomes."""
        found = await self._find_run(request)
        if isinstance(found, Response):
            return found
        principal, run = found
        query, now = request.query_params, self.console.renderer.clock()
        kind = query.get("kind", "") if query.get("kind") in run.counts else ""
        after = parse_number(query.get("after", "")) or 0
        details = await self.run_queue.db.read(
            load_run_details, run, kind=kind, after=after, limit=PAGE_SIZE + 1, now=now
        )
        actors = _collect_actor_ids([run, *([details.apply_run] if details.apply_run else [])])
        render = await self._make_render_context([*actors, *views.collect_ids(details.rows)], now)
        context = views.build_run_context(run, details, render)
        next_page = request.url.include_query_params(after=context["after"])
        context |= {"kind": kind, "has_cursor": bool(after), "path": f"/sync/runs/{run.id}"}
        context["more"] = f"{next_page.path}?{next_page.query}" if context["after"] else None
        return await self._respond(request, principal, "run", context, is_more=bool(after))

    async def show_apply_confirmation(self, request: Request) -> Response:
        """Show the confirmation dialog of an apply: rows written on each side, and deletions."""
        found = await self._find_run(request)
        if isinstance(found, Response):
            return found
        principal, run = found
        confirmation = await self._build_confirmation(run, parse_selected_rows(request.query_params.getlist("row")))
        if confirmation is None:
            return self._respond_nothing_to_fix(request)
        return await self.console.respond_confirmation(request, confirmation, principal, section=SYNC_PATH)

    async def apply(self, request: Request) -> Response:
        """Request that all rows or the chosen ones be fixed."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        found = await self._find_run(request)
        if isinstance(found, Response):
            return found
        principal, run = found
        form = await request.form()
        chosen = parse_selected_rows([str(it) for it in form.getlist("row")])
        confirmation = await self._build_confirmation(run, chosen)
        if confirmation is None:
            return self._respond_nothing_to_fix(request)
        if confirmation.confirmation_text and str(form.get("word", "")) != confirmation.confirmation_text:
            return self._respond_not_confirmed(request)
        try:
            await self.run_queue.request("apply", actor=principal.id, plan_id=run.id, chosen=chosen)
        except InstepError as error:
            return self.console.respond_error(request, error)
        return self.console.respond_success(request, self.console.localizer.gettext("Fixing"), f"/sync/runs/{run.id}")

    async def withdraw(self, request: Request) -> Response:
        """Withdraw a requested run that has not started."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        found = await self._find_run(request)
        if isinstance(found, Response):
            return found
        try:
            await self.run_queue.withdraw(found[1].id)
        except InstepError as error:
            return self.console.respond_error(request, error)
        return self.console.respond_success(request, self.console.localizer.gettext("Withdrawn"), "/sync")

    async def _request_run(
        self, request: Request, kind: RunKind, *, title: str, back: str, allow_gone: int | None = None
    ) -> Response:
        """Request a run; then go to `back`, or to the run's page."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        try:
            run = await self.run_queue.request(kind, actor=principal.id, allow_gone=allow_gone)
        except InstepError as error:
            return self.console.respond_error(request, error, title=self.console.localizer.gettext("Not started"))
        url = back or f"/sync/runs/{run.id}"
        return self.console.respond_success(request, title, url, events=None if back else {"go-to": {"url": url}})

    async def _find_run(self, request: Request) -> tuple[Principal, Run] | Response:
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        run = await self.run_queue.db.read(find_run, request.path_params["run"], now=self.console.renderer.clock())
        if run is not None:
            return principal, run
        _ = self.console.localizer.gettext
        return self.console.renderer.error(
            request, status=404, title=_("Not found"), text=_("This run does not exist.")
        )

    async def _build_confirmation(self, run: Run, chosen: Sequence[int] | None) -> ConfirmationDialog | None:
        """Build the dialog before an apply; None where no row can be fixed."""
        if run.kind != "plan":
            return None
        counts = await self.run_queue.db.read(repository.count_open_findings, run.id, chosen)
        return confirm_apply(run, counts, chosen, self.console.localizer) if counts else None

    def _respond_nothing_to_fix(self, request: Request) -> Response:
        _ = self.console.localizer.gettext
        text = _("Every row is fixed already, or needs manual review.")
        return self.console.renderer.error(request, status=422, title=_("Nothing to fix"), text=text)

    def _respond_not_confirmed(self, request: Request) -> Response:
        _ = self.console.localizer.gettext
        text = _("Confirmation text does not match. Nothing was changed.")
        return self.console.renderer.error(request, status=422, title=_("Not confirmed"), text=text)

    async def _make_render_context(self, ids: Sequence[str], now: int) -> RenderContext:
        return RenderContext(names=await self.find_names(ids), localizer=self.console.localizer, now=now)

    async def _respond(
        self, request: Request, principal: Principal, page: str, context: dict[str, Any], *, is_more: bool = False
    ) -> Response:
        if not is_fragment_request(request):
            return await self.console.respond_page(
                request, f"sync/{page}.html", principal, section=SYNC_PATH, **context
            )
        piece = "more" if is_more else "region"
        return self.console.renderer.fragment(request, f"sync/{page}_{piece}.html", **context)


def _collect_actor_ids(runs: Sequence[Run]) -> list[str]:
    """Return the ids of the actors of these runs, and of their impersonators."""
    return [actor_id for run in runs for actor_id in (run.actor, run.impersonator) if actor_id]
