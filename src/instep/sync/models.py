"""Runs, the lease, progress, freshness and findings of a sync, the ports it needs, and their JSON form."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Literal, Protocol, TypeVar

from msgspec import Struct

from instep.core.clock import HOUR, MINUTE, to_iso
from instep.core.errors import PermanentError, TemporaryError
from instep.domain.errors import CONFLICT, ChangeRejectedError
from instep.domain.events import LookupResult, Observation
from instep.domain.listing import CreationWindow, ListingCursor, ListingPage
from instep.domain.models import EntityKey, EntityKind
from instep.domain.reconcile import NeedsRefetch
from instep.sync.plan import Finding

RunKind = Literal["check", "plan", "apply", "first", "changed"]
RunState = Literal["asked", "running", "done", "refused", "failed", "stopped"]


class Run(Struct, frozen=True, kw_only=True):
    """One run. `counts` are findings by kind, or what was done; `progress` is where a first sync is.

    `stage` is how far it is, for those who watch (see Telling); `wish` what a page asked of it (see Asked).
    """

    id: str
    kind: RunKind
    state: RunState
    actor: str
    impersonator: str | None = None
    started_at: int
    changed_at: int
    ended_at: int | None = None
    plan_id: str | None = None
    totals: dict[str, Any] = {}
    counts: dict[str, int] = {}
    progress: dict[str, Any] = {}
    stage: dict[str, Any] = {}
    wish: dict[str, Any] = {}
    hash: str | None = None
    expires_at: int | None = None
    reason: str | None = None
    code: str | None = None

    @property
    def differences(self) -> int:
        """How many findings there are."""
        return sum(self.counts.values())


def run_to_dict(run: Run) -> dict[str, Any]:
    """A run."""
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state,
        "actor": run.actor,
        "impersonator": run.impersonator,
        "started_at": to_iso(run.started_at),
        "ended_at": to_iso(run.ended_at),
        "plan_id": run.plan_id,
        "totals": run.totals,
        "counts": run.counts,
        "hash": run.hash,
        "expires_at": to_iso(run.expires_at),
        "reason": run.reason,
        "code": run.code,
    }


FindingOutcome = Literal["applied", "skipped"]


class FindingRow(Struct, frozen=True, kw_only=True):
    """A finding as it is kept, and what became of it."""

    number: int
    finding: Finding
    outcome: FindingOutcome | None
    outcome_reason: str | None


def finding_to_dict(row: FindingRow) -> dict[str, Any]:
    """A finding: what differs, whose word counts, who wrote last, how it is mended, and what became of it."""
    it = row.finding
    return {
        "number": row.number,
        "kind": it.kind,
        "thing": it.key.kind,
        "clerk_id": it.key.id,
        "id": it.here,
        "label": it.label,
        "differences": [
            {"field": d.field, "clerk": d.clerk, "here": d.here, "belongs_to": d.owner} for d in it.differences
        ],
        "wrote_last": it.wrote_last,
        "wrote_at": to_iso(it.wrote_at),
        "mend": it.mend,
        "note": it.note,
        "outcome": row.outcome,
        "outcome_reason": row.outcome_reason,
    }


class Freshness(Struct, frozen=True):
    """How things stood at `looked_at`. `behind`: people whom Clerk changed and who are not so here, for too long.

    `newest_event_at` is when the newest delivery came that was applied; None: none ever came. Not `is_synced`:
    nobody has synced yet, and there are people missing who were in Clerk before the first delivery came.
    """

    looked_at: int
    newest_event_at: int | None
    behind: int
    is_synced: bool = True

    @property
    def is_arriving(self) -> bool:
        """Whether the newest delivery is so young that the webhook can't be called quiet."""
        return self.newest_event_at is not None and self.looked_at - self.newest_event_at < WEBHOOK_GRACE_PERIOD

    @property
    def is_stale(self) -> bool:
        """Whether someone should look at the webhook."""
        return self.behind > 0

    @property
    def words(self) -> str | None:
        """What to tell an admin; None while all is well."""
        if not self.is_stale:
            return None
        people = "1 person" if self.behind == 1 else f"{self.behind} people"
        if not self.is_synced:
            return f"Nothing was synced yet. Missing here, or different: {people}."
        if self.is_arriving:
            return f"Webhooks arrive, but not all of them. Missing here, or different: {people}."
        if self.newest_event_at is None:
            return f"No webhook ever came, and Clerk has {people} who are not so here."
        silence = _format_duration(max(0, self.looked_at - self.newest_event_at))
        return f"No webhook for {silence} while Clerk changed {people}."


def freshness_to_dict(fresh: Freshness | None) -> dict[str, Any] | None:
    """How the webhook stood when it was last looked at."""
    if fresh is None:
        return None
    return {
        "looked_at": to_iso(fresh.looked_at),
        "newest_event_at": to_iso(fresh.newest_event_at),
        "behind": fresh.behind,
        "warning": fresh.words,
    }


T = TypeVar("T")


async def run_concurrently(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in the order of the jobs."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


class SyncOverview(Struct, frozen=True, kw_only=True):
    """How sync stands. `check` and `mend` are the last that came to their end, `suspects` what the last run found
    gone, by kind of thing; `newest_at` when the newest event came that was applied."""

    unfinished: Sequence[Run]
    runs: Sequence[Run]
    check: Run | None
    mend: Run | None
    suspects: dict[str, int]
    freshness: Freshness | None
    newest_event_at: int | None


class RunDetails(Struct, frozen=True, kw_only=True):
    """What a run's page shows: rows of it (or of its plan), what mends or mended it, what else is under way."""

    rows: Sequence[FindingRow]
    mending: Run | None
    is_busy: bool
    open_rows: int
    suspects: dict[str, int]


SYNC_TOPIC = "sync"
LEASE_DURATION = MINUTE
PLAN_LIFETIME = 15 * MINUTE
WEBHOOK_GRACE_PERIOD = 5 * MINUTE


"""A webhook may be on its way for so long."""


REQUEST_LIFETIME = 10 * MINUTE
NOT_STARTED = "not_begun"


class SyncBusyError(TemporaryError):
    """Another sync is under way."""


class SyncLeaseLostError(PermanentError):
    """The lease went to another process: whatever this one still wanted to write is refused."""

    def __init__(self) -> None:
        super().__init__("Another process has taken the sync over.", code="overtaken")


class SyncRefusedError(ChangeRejectedError):
    """A run that was refused as a whole. Nothing was changed."""

    def __init__(self, message: str, *, code: str, status: int = CONFLICT) -> None:
        super().__init__(message, code=code, status=status)


class SyncLease(Struct, frozen=True):
    """The right to sync, until someone else may take it. `fence` makes a sleeper's write fail."""

    holder: str
    fence: int


class EntityTotals(Struct, frozen=True, kw_only=True):
    """How many of a kind Clerk said there are, before and after, and how many were read."""

    before: int
    fetched: int
    after: int
    is_whole: bool
    unreadable: int = 0


def _format_duration(milliseconds: int) -> str:
    if milliseconds < HOUR:
        return f"{milliseconds // MINUTE} min"
    hours = milliseconds // HOUR
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"


class ClerkListReader(Protocol):
    """Reading everything. Each method raises ClerkUnavailableError or ClerkRejectedError; see instep.clerk.instance_scanner."""

    async def find_instance(self) -> str | None:
        """The id of the instance; None where it is not told."""

    async def count(self, kind: EntityKind) -> int:
        """How many there are now."""

    async def count_within(self, window: CreationWindow) -> int | None:
        """How many a window has now; None where nobody counts that."""

    async def windows(self, kind: EntityKind) -> list[CreationWindow]:
        """The windows of a kind, which together are everything."""

    def pages(self, window: CreationWindow, cursor: ListingCursor | None = None) -> AsyncIterator[ListingPage]:
        """The pages of a window, from the beginning or from where a walk stopped."""

    async def list_changed(self, *, offset: int) -> Sequence[Observation]:
        """A page of users, the last changed first."""

    async def find_absent(self, asks: Sequence[NeedsRefetch]) -> set[EntityKey]:
        """Those of which the provider says for certain, and in more than one way where it can, that it has none."""


class EntityAccess(Protocol):
    """Reading single things, and writing to the provider what belongs to the database."""

    async def fetch(self, asks: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """See identity.ports.Directory.look."""

    async def write(self, finding: Finding) -> Observation:
        """Write the database's values of a row to the provider; gives the thing as it is there now."""


class SyncProgress(Struct, frozen=True):
    """How far a run is: `done` of `total` things of a kind; `total` None where nobody knows."""

    kind: EntityKind
    done: int
    total: int | None


ProgressCallback = Callable[[SyncProgress], None]
