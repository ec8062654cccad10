"""Sync over REST, for instance admins: `/v1/sync...`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from instep.access.principal import Principal
from instep.kit.incoming import BoundedRouter
from instep.sync import store
from instep.sync.answers import finding_as_json, freshness_as_json, run_as_json
from instep.sync.fresh import Fresh
from instep.sync.look import find_run, list_runs
from instep.sync.model import Run, SyncRefused
from instep.sync.run import Sync

AdminOf = Callable[[Request], Awaitable[Principal | Response]]
After = Annotated[int, Query(ge=0, lt=2**31, description="The number of the last finding of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500)]
FAILURES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "The key may only read, or the request came from another site."},
    404: {"description": "No such plan, or not an instance admin."},
    409: {"description": "Refused as a whole (`not_whole`, `fuse`, `wrong_instance`, `plan_expired`, ...)."},
    503: {"description": "Another sync is under way, or Clerk or the database did not answer."},
}


class RunAnswer(BaseModel):
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


class DifferenceAnswer(BaseModel):
    """One field with both values, and the side whose word counts."""

    field: str
    clerk: Any
    here: Any
    belongs_to: str


class FindingAnswer(BaseModel):
    """One row that is not the same on both sides; `mend` is where it is mended, null where a person has to look."""

    number: int
    kind: str
    thing: str
    clerk_id: str
    id: str | None
    label: str
    differences: list[DifferenceAnswer]
    wrote_last: str | None
    wrote_at: str | None
    mend: str | None
    note: str | None
    outcome: str | None
    outcome_reason: str | None


class Findings(BaseModel):
    """A run and a page of what it found; `next` is the `after` of the next page."""

    run: RunAnswer
    findings: list[FindingAnswer]
    next: int | None


class FreshnessAnswer(BaseModel):
    """How the webhook stood when it was last looked at."""

    looked_at: str
    newest_event_at: str | None
    behind: int
    warning: str | None


class Status(BaseModel):
    """The last runs, newest first."""

    runs: list[RunAnswer]
    freshness: FreshnessAnswer | None


class NewPlan(BaseModel):
    """How many deletions of each kind are allowed; null: the greater of 10 and 1 %."""

    model_config = ConfigDict(extra="forbid")

    allow_gone: Annotated[int | None, Field(ge=0)] = None


class Choice(BaseModel):
    """The numbers of the rows to apply; null: all. `allow_gone` as for the plan, in its place."""

    model_config = ConfigDict(extra="forbid")

    rows: Annotated[list[int] | None, Field(max_length=100_000)] = None
    allow_gone: Annotated[int | None, Field(ge=0)] = None


def make_router(*, admin: AdminOf, sync: Sync, fresh: Fresh) -> APIRouter:
    """The routes. `admin` answers 401, 403 and 404 by itself."""
    router = BoundedRouter(prefix="/v1/sync", tags=["sync"], responses=FAILURES)
    _add_reading(router, admin, sync, fresh)
    _add_doing(router, admin, sync)
    return router


def _add_reading(router: APIRouter, admin: AdminOf, sync: Sync, fresh: Fresh) -> None:
    @router.get("", response_model=Status, summary="The last runs", operation_id="get_sync")
    async def status(request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Any:
        """And whether the webhook has gone quiet."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        runs = await sync.db.read(list_runs, now=sync.clock(), limit=limit)
        return {"runs": [run_as_json(it) for it in runs], "freshness": freshness_as_json(fresh.last)}

    @router.get("/plans/{id}", response_model=Findings, summary="A plan", operation_id="get_plan")
    async def plan(request: Request, id: str, after: After = 0, limit: Limit = 100) -> Any:
        """What it would change, and what became of each row."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        found = await sync.db.read(find_run, id, now=sync.clock())
        if found is None or found.kind not in ("plan", "check"):
            raise SyncRefused("There is no such plan.", code="no_plan", status=404)
        return await _findings(sync, found, after, limit)


def _add_doing(router: APIRouter, admin: AdminOf, sync: Sync) -> None:
    @router.post("/check", response_model=Findings, summary="What differs", operation_id="check_sync")
    async def check(request: Request, limit: Limit = 100) -> Any:
        """Reads everything on both sides and compares the contents; changes nothing, and reports however much it is."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        return await _findings(sync, await sync.check(actor=who.id), 0, limit)

    @router.post("/plans", response_model=Findings, status_code=201, summary="Plan", operation_id="make_plan")
    async def make_plan(request: Request, body: NewPlan | None = None, limit: Limit = 100) -> Any:
        """Keeps what would be changed, sealed by a hash and good for 15 minutes.

        One that would delete more than is allowed is made as well; its run has the code `fuse`, and applying it is
        refused.
        """
        who = await admin(request)
        if isinstance(who, Response):
            return who
        allowed = body.allow_gone if body else None
        return await _findings(sync, await sync.plan(actor=who.id, allow_gone=allowed), 0, limit)

    @router.post("/plans/{id}/apply", response_model=RunAnswer, summary="Apply a plan", operation_id="apply_plan")
    async def apply(request: Request, id: str, body: Choice | None = None) -> Any:
        """All rows or the chosen ones; each is looked at again, and what changed meanwhile is skipped and said."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        wish = body or Choice()
        return run_as_json(await sync.apply(id, actor=who.id, chosen=wish.rows, allow_gone=wish.allow_gone))


async def _findings(sync: Sync, run: Run, after: int, limit: int) -> dict[str, Any]:
    rows = await sync.db.read(store.list_findings, run.id, after=after, limit=limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    return {
        "run": run_as_json(run),
        "findings": [finding_as_json(it) for it in rows],
        "next": rows[-1].number if more else None,
    }
