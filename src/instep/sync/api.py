"""REST routes and schemas of sync: `/v1/sync...`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from instep.auth.principal import Principal
from instep.core.request_limits import InputLimitRouter
from instep.sync import repository
from instep.sync.jobs import FreshnessMonitor
from instep.sync.models import Run, SyncRefusedError, finding_to_dict, freshness_to_dict, run_to_dict
from instep.sync.repository import find_run, list_runs
from instep.sync.service import SyncService

AdminResolver = Callable[[Request], Awaitable[Principal | Response]]
AfterQuery = Annotated[int, Query(ge=0, lt=2**31, description="The number of the last finding of the page before.")]
LimitQuery = Annotated[int, Query(ge=1, le=500)]
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "The key may only read, or the request came from another site."},
    404: {"description": "No such plan, or not an instance admin."},
    409: {"description": "Refused as a whole (`not_whole`, `fuse`, `wrong_instance`, `plan_expired`, ...)."},
    503: {"description": "Another sync is under way, or Clerk or the database did not answer."},
}


class SyncRun(BaseModel):
    """A run. `counts`: findings by kind, or what was done; `totals`: what Clerk said there is, and what was read."""

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
    """One field with both values, and the side whose word counts."""

    field: str
    clerk: Any
    here: Any
    belongs_to: str


class SyncFinding(BaseModel):
    """One row that is not the same on both sides; `mend` is where it is mended, null where a person has to look."""

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
    """A run and a page of what it found; `next` is the `after` of the next page."""

    run: SyncRun
    findings: list[SyncFinding]
    next: int | None


class WebhookFreshness(BaseModel):
    """How the webhook stood when it was last looked at."""

    looked_at: str
    newest_event_at: str | None
    behind: int
    warning: str | None


class SyncStatus(BaseModel):
    """The last runs, newest first."""

    runs: list[SyncRun]
    freshness: WebhookFreshness | None


class CreatePlanRequest(BaseModel):
    """How many deletions of each kind are allowed; null: the greater of 10 and 1 %."""

    model_config = ConfigDict(extra="forbid")

    allow_gone: Annotated[int | None, Field(ge=0)] = None


class ApplyPlanRequest(BaseModel):
    """The numbers of the rows to apply; null: all. `allow_gone` as for the plan, in its place."""

    model_config = ConfigDict(extra="forbid")

    rows: Annotated[list[int] | None, Field(max_length=100_000)] = None
    allow_gone: Annotated[int | None, Field(ge=0)] = None


def make_router(*, admin: AdminResolver, sync: SyncService, fresh: FreshnessMonitor) -> APIRouter:
    """The routes. `admin` answers 401, 403 and 404 by itself."""
    router = InputLimitRouter(prefix="/v1/sync", tags=["sync"], responses=ERROR_RESPONSES)
    _add_read_routes(router, admin, sync, fresh)
    _add_run_routes(router, admin, sync)
    return router


def _add_read_routes(router: APIRouter, admin: AdminResolver, sync: SyncService, fresh: FreshnessMonitor) -> None:
    @router.get("", response_model=SyncStatus, summary="The last runs", operation_id="get_sync")
    async def status(request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Any:
        """And whether the webhook has gone quiet."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        runs = await sync.db.read(list_runs, now=sync.clock(), limit=limit)
        return {"runs": [run_to_dict(it) for it in runs], "freshness": freshness_to_dict(fresh.last)}

    @router.get("/plans/{id}", response_model=SyncFindingList, summary="A plan", operation_id="get_plan")
    async def plan(request: Request, id: str, after: AfterQuery = 0, limit: LimitQuery = 100) -> Any:
        """What it would change, and what became of each row."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        found = await sync.db.read(find_run, id, now=sync.clock())
        if found is None or found.kind not in ("plan", "check"):
            raise SyncRefusedError("There is no such plan.", code="no_plan", status=404)
        return await _load_findings(sync, found, after, limit)


def _add_run_routes(router: APIRouter, admin: AdminResolver, sync: SyncService) -> None:
    @router.post("/check", response_model=SyncFindingList, summary="What differs", operation_id="check_sync")
    async def check(request: Request, limit: LimitQuery = 100) -> Any:
        """Reads everything on both sides and compares the contents; changes nothing, and reports however much it is."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        return await _load_findings(sync, await sync.check(actor=who.id), 0, limit)

    @router.post("/plans", response_model=SyncFindingList, status_code=201, summary="Plan", operation_id="make_plan")
    async def make_plan(request: Request, body: CreatePlanRequest | None = None, limit: LimitQuery = 100) -> Any:
        """Keeps what would be changed, sealed by a hash and good for 15 minutes.

        One that would delete more than is allowed is made as well; its run has the code `fuse`, and applying it is
        refused.
        """
        who = await admin(request)
        if isinstance(who, Response):
            return who
        allowed = body.allow_gone if body else None
        return await _load_findings(sync, await sync.plan(actor=who.id, allow_gone=allowed), 0, limit)

    @router.post("/plans/{id}/apply", response_model=SyncRun, summary="Apply a plan", operation_id="apply_plan")
    async def apply(request: Request, id: str, body: ApplyPlanRequest | None = None) -> Any:
        """All rows or the chosen ones; each is looked at again, and what changed meanwhile is skipped and said."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        wish = body or ApplyPlanRequest()
        return run_to_dict(await sync.apply(id, actor=who.id, chosen=wish.rows, allow_gone=wish.allow_gone))


async def _load_findings(sync: SyncService, run: Run, after: int, limit: int) -> dict[str, Any]:
    rows = await sync.db.read(repository.list_findings, run.id, after=after, limit=limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    return {
        "run": run_to_dict(run),
        "findings": [finding_to_dict(it) for it in rows],
        "next": rows[-1].number if more else None,
    }
