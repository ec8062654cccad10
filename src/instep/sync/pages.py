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
    """The handlers and what they need. `names` gives what to call people and things, by our ids or Clerk's.

    `every` is how often a check runs by itself, in milliseconds; 0 never.
    """

    console: PageResponder
    asked: RunQueue
    names: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    every: int = 0

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/sync", self.overview, methods=["GET"]),
            *(Route(f"/sync/{kind}", self.start, methods=["POST"]) for kind in STARTABLE_KINDS),
            Route("/sync/plan", self.ask_plan, methods=["GET"]),
            Route("/sync/plan", self.plan, methods=["POST"]),
            Route("/sync/runs/{run}", self.show, methods=["GET"]),
            Route("/sync/runs/{run}/apply", self.ask_apply, methods=["GET"]),
            Route("/sync/runs/{run}/apply", self.apply, methods=["POST"]),
            Route("/sync/runs/{run}/withdraw", self.withdraw, methods=["POST"]),
        ]

    async def overview(self, request: Request) -> Response:
        """How it stands: what runs, the last check and its findings, the webhook, the policy, the last runs."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        now, sync = self.console.renderer.clock(), self.asked.sync
        look = await sync.db.read(load_overview, sync.newest_event, now=now)
        reading = await self._reading(_collect_actor_ids((*look.unfinished, *look.runs)), now)
        context = views.build_overview_context(look, reading, policy=sync.policy, every=self.every)
        context["is_empty"] = not look.unfinished and await sync.is_empty()
        return await self._answer(request, asker, "overview", context)

    async def start(self, request: Request) -> Response:
        """Ask for a check, for everyone, or for the latest changes."""
        _ = self.console.localizer.gettext
        titles = {
            "check": _("Checking"),
            "first": _("Taking everyone in"),
            "changed": _("Taking the latest changes in"),
        }
        kind = next(it for it in STARTABLE_KINDS if request.url.path == f"/sync/{it}")
        return await self._ask(request, kind, title=titles[kind], back="/sync")

    async def ask_plan(self, request: Request) -> Response:
        """The question before a plan that may delete more than the fuse lets pass."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        allowed = parse_number(request.query_params.get("allow_gone", ""))
        if allowed is None:
            return RedirectResponse("/sync", 303)
        return await self.console.respond_confirmation(
            request, confirm_deletion_limit(allowed, self.console.localizer), asker, section=SYNC_PATH
        )

    async def plan(self, request: Request) -> Response:
        """Ask for a plan, and go where it will be shown."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        form = await request.form()
        allowed = str(form.get("allow_gone", ""))
        if allowed and str(form.get("word", "")) != confirm_deletion_limit(0, self.console.localizer).confirmation_text:
            return self._not_meant(request)
        title = self.console.localizer.gettext("Making a plan")
        return await self._ask(request, "plan", title=title, back="", allow_gone=parse_number(allowed))

    async def show(self, request: Request) -> Response:
        """One run: what it read and found; of a plan, what may be applied; of a mending, what became of each row."""
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        asker, run = found
        query, now = request.query_params, self.console.renderer.clock()
        kind = query.get("kind", "") if query.get("kind") in run.counts else ""
        after = parse_number(query.get("after", "")) or 0
        shown = await self.asked.db.read(load_run_details, run, kind=kind, after=after, limit=PAGE_SIZE + 1, now=now)
        actors = _collect_actor_ids([run, *([shown.mending] if shown.mending else [])])
        reading = await self._reading([*actors, *views.collect_ids(shown.rows)], now)
        context = views.build_run_context(run, shown, reading)
        onward = request.url.include_query_params(after=context["after"])
        context |= {"kind": kind, "has_cursor": bool(after), "path": f"/sync/runs/{run.id}"}
        context["more"] = f"{onward.path}?{onward.query}" if context["after"] else None
        return await self._answer(request, asker, "run", context, is_more=bool(after))

    async def ask_apply(self, request: Request) -> Response:
        """The question before mending: what is written where, and what is deleted."""
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        asker, run = found
        question = await self._question(run, parse_selected_rows(request.query_params.getlist("row")))
        return (
            await self.console.respond_confirmation(request, question, asker, section=SYNC_PATH)
            if question
            else self._nothing(request)
        )

    async def apply(self, request: Request) -> Response:
        """Ask a worker to mend all rows, or the chosen ones."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        asker, run = found
        form = await request.form()
        chosen = parse_selected_rows([str(it) for it in form.getlist("row")])
        question = await self._question(run, chosen)
        if question is None:
            return self._nothing(request)
        if question.confirmation_text and str(form.get("word", "")) != question.confirmation_text:
            return self._not_meant(request)
        try:
            await self.asked.ask("apply", actor=asker.id, plan_id=run.id, chosen=chosen)
        except InstepError as error:
            return self.console.respond_error(request, error)
        return self.console.respond_success(request, self.console.localizer.gettext("Mending"), f"/sync/runs/{run.id}")

    async def withdraw(self, request: Request) -> Response:
        """End a run that no worker has begun."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        try:
            await self.asked.withdraw(found[1].id)
        except InstepError as error:
            return self.console.respond_error(request, error)
        return self.console.respond_success(request, self.console.localizer.gettext("Withdrawn"), "/sync")

    async def _ask(
        self, request: Request, kind: RunKind, *, title: str, back: str, allow_gone: int | None = None
    ) -> Response:
        """Ask for a run; then go `back`, or where it is shown."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            run = await self.asked.ask(kind, actor=asker.id, allow_gone=allow_gone)
        except InstepError as error:
            return self.console.respond_error(request, error, title=self.console.localizer.gettext("Not started"))
        onward = back or f"/sync/runs/{run.id}"
        return self.console.respond_success(request, title, onward, events=None if back else {"go-to": {"url": onward}})

    async def _find(self, request: Request) -> tuple[Principal, Run] | Response:
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        run = await self.asked.db.read(find_run, request.path_params["run"], now=self.console.renderer.clock())
        if run is not None:
            return asker, run
        _ = self.console.localizer.gettext
        return self.console.renderer.error(request, status=404, title=_("Not found"), text=_("There is no such run."))

    async def _question(self, run: Run, chosen: Sequence[int] | None) -> ConfirmationDialog | None:
        """None where nothing of it can be mended."""
        counts = await self.asked.db.read(repository.count_open_findings, run.id, chosen) if run.kind == "plan" else {}
        return confirm_apply(run, counts, chosen, self.console.localizer) if counts else None

    def _nothing(self, request: Request) -> Response:
        _ = self.console.localizer.gettext
        text = _("Whatever could be mended was mended, or waits for a person.")
        return self.console.renderer.error(request, status=422, title=_("Nothing to mend"), text=text)

    def _not_meant(self, request: Request) -> Response:
        _ = self.console.localizer.gettext
        text = _("Type the word, then send it again.")
        return self.console.renderer.error(request, status=422, title=_("Nothing was changed"), text=text)

    async def _reading(self, ids: Sequence[str], now: int) -> RenderContext:
        return RenderContext(names=await self.names(ids), words=self.console.localizer, now=now)

    async def _answer(
        self, request: Request, asker: Principal, page: str, context: dict[str, Any], *, is_more: bool = False
    ) -> Response:
        if not is_fragment_request(request):
            return await self.console.respond_page(request, f"sync/{page}.html", asker, section=SYNC_PATH, **context)
        piece = "more" if is_more else "region"
        return self.console.renderer.fragment(request, f"sync/{page}_{piece}.html", **context)


def _collect_actor_ids(runs: Sequence[Run]) -> list[str]:
    """Return the ids of all who asked for these runs, and of those who acted as them."""
    return [id for it in runs for id in (it.actor, it.impersonator) if id]
