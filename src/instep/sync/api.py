"""REST routes and schemas of sync: `/v1/sync...`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from instep.auth.principal import Principal
from instep.core.i18n import lazy_gettext
from instep.core.request_limits import InputLimitRouter
from instep.sync import repository
from instep.sync.jobs import FreshnessMonitor
from instep.sync.models import Run, SyncRefusedError, finding_to_dict, freshness_to_dict, run_to_dict
from instep.sync.repository import find_run, list_runs
from instep.sync.service import SyncService

AdminResolver = Callable[[Request], Awaitable[Principal | Response]]
AfterQuery = Annotated[
    int, Query(ge=0, lt=2**31, description="Number of the last finding of the previous page; 0 for the first page.")
]
LimitQuery = Annotated[int, Query(ge=1, le=500, description="Maximum number of findings.")]
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Not signed in."},
    403: {"description": "The API key is read-only, or the request came from another site."},
    404: {"description": "No such plan, or the caller is not an instance admin."},
    409: {"description": "The run was refused (`not_whole`, `fuse`, `wrong_instance`, `plan_expired`, ...)."},
    503: {"description": "Another sync is running, or Clerk or the database did not respond."},
}


class SyncRun(BaseModel):
    """A run. `counts`: findings by kind, or rows by result; `totals`: numbers in Clerk and numbers fetched."""

    id: str
    kind: str
    state: str
    actor: str
    impersonator: str | None = None
    started_at: str
    ended_at: str | None
    plan_id: str | None
    totals: dict[str, Any]
    counts: dict[str, int]
    hash: str | None
    expires_at: str | None
    reason: str | None
    code: str | None


class SyncDifference(BaseModel):
    """One field with the value on each side. `belongs_to` is the side that is the source of truth."""

    field: str
    clerk: Any
    here: Any
    belongs_to: str


class SyncFinding(BaseModel):
    """One row that differs, and the side on which it is fixed (null: it needs manual review)."""

    number: int
    kind: str
    thing: str
    clerk_id: str
    id: str | None
    label: str
    differences: list[SyncDifference]
    wrote_last: str | None
    wrote_at: str | None
    mend: str | None
    note: str | None
    outcome: str | None
    outcome_reason: str | None


class SyncFindingList(BaseModel):
    """A run and a page of its findings; `next` is the `after` of the next page."""

    run: SyncRun
    findings: list[SyncFinding]
    next: int | None


class WebhookFreshness(BaseModel):
    """Result of the last webhook freshness check. `behind` counts users whose change in Clerk is missing here."""

    looked_at: str
    newest_event_at: str | None
    behind: int
    warning: str | None


class SyncStatus(BaseModel):
    """The last runs, newest first, and the webhook freshness."""

    runs: list[SyncRun]
    freshness: WebhookFreshness | None


class CreatePlanRequest(BaseModel):
    """Number of deletions of each kind that are allowed; null: the greater of 10 and 1 %."""

    model_config = ConfigDict(extra="forbid")

    allow_gone: Annotated[int | None, Field(ge=0)] = None


class ApplyPlanRequest(BaseModel):
    """Numbers of the rows to apply; null: all. `allow_gone` overrides the plan's own."""

    model_config = ConfigDict(extra="forbid")

    rows: Annotated[list[int] | None, Field(max_length=100_000)] = None
    allow_gone: Annotated[int | None, Field(ge=0)] = None


def make_router(*, admin: AdminResolver, sync: SyncService, freshness: FreshnessMonitor) -> APIRouter:
    """Create the routes. `admin` returns the instance admin, or the response 401, 403 or 404."""
    router = InputLimitRouter(prefix="/v1/sync", tags=["sync"], responses=ERROR_RESPONSES)
    _add_read_routes(router, admin, sync, freshness)
    _add_run_routes(router, admin, sync)
    return router


def _add_read_routes(router: APIRouter, admin: AdminResolver, sync: SyncService, freshness: FreshnessMonitor) -> None:
    @router.get("", response_model=SyncStatus, summary="Get the sync status", operation_id="getSyncStatus")
    async def get_sync_status(request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Any:
        """Return the last runs and the result of the last webhook freshness check."""
        principal = await admin(request)
        if isinstance(principal, Response):
            return principal
        runs = await sync.db.read(list_runs, now=sync.clock(), limit=limit)
        return {"runs": [run_to_dict(it) for it in runs], "freshness": freshness_to_dict(freshness.last)}

    @router.get("/plans/{plan_id}", response_model=SyncFindingList, summary="Get a plan", operation_id="getSyncPlan")
    async def get_plan(request: Request, plan_id: str, after: AfterQuery = 0, limit: LimitQuery = 100) -> Any:
        """Return the changes of a plan and, once it was applied, the outcome of each row."""
        principal = await admin(request)
        if isinstance(principal, Response):
            return principal
        found = await sync.db.read(find_run, plan_id, now=sync.clock())
        if found is None or found.kind not in ("plan", "check"):
            raise SyncRefusedError(lazy_gettext("Plan not found."), code="no_plan", status=404)
        return await _load_findings(sync, found, after, limit)


def _add_run_routes(router: APIRouter, admin: AdminResolver, sync: SyncService) -> None:
    @router.post(
        "/check",
        response_model=SyncFindingList,
        summary="Check for differences",
        operation_id="checkSync",
    )
    async def check_sync(request: Request, limit: LimitQuery = 100) -> Any:
        """Read everything on both sides and compare the contents. Changes nothing; reports every difference."""
        principal = await admin(request)
        if isinstance(principal, Response):
            return principal
        return await _load_findings(sync, await sync.check(actor=principal.id), 0, limit)

    @router.post(
        "/plans",
        response_model=SyncFindingList,
        status_code=201,
        summary="Create a plan",
        operation_id="createSyncPlan",
    )
    async def create_plan(request: Request, body: CreatePlanRequest | None = None, limit: LimitQuery = 100) -> Any:
        """Store the changes that would be applied, sealed by a hash and valid for 15 minutes.

        A plan with more deletions than allowed is created as well; its run has the code `fuse`, and applying it is
        refused.
        """
        principal = await admin(request)
        if isinstance(principal, Response):
            return principal
        allowed = body.allow_gone if body else None
        return await _load_findings(sync, await sync.plan(actor=principal.id, allow_gone=allowed), 0, limit)

    @router.post("/plans/{plan_id}/apply", response_model=SyncRun, summary="Apply a plan", operation_id="applySyncPlan")
    async def apply_plan(request: Request, plan_id: str, body: ApplyPlanRequest | None = None) -> Any:
        """Apply all rows of a plan, or the chosen ones. Each row is checked again; one that changed is skipped."""
        principal = await admin(request)
        if isinstance(principal, Response):
            return principal
        wanted = body or ApplyPlanRequest()
        applied = await sync.apply(plan_id, actor=principal.id, chosen=wanted.rows, allow_gone=wanted.allow_gone)
        return run_to_dict(applied)


async def _load_findings(sync: SyncService, run: Run, after: int, limit: int) -> dict[str, Any]:
    rows = await sync.db.read(repository.list_findings, run.id, after=after, limit=limit + 1)
    has_more = len(rows) > limit
    rows = rows[:limit]
    return {
        "run": run_to_dict(run),
        "findings": [finding_to_dict(it) for it in rows],
        "next": rows[-1].number if has_more else None,
    }
