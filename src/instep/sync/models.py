"""Types of sync: runs, the lease, progress, freshness, findings and their JSON form, and the port that lists Clerk."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Literal, Protocol, TypeVar

from msgspec import Struct

from instep.core.clock import HOUR, MINUTE, to_iso
from instep.core.errors import PermanentError, TemporaryError
from instep.core.i18n import lazy_gettext
from instep.domain.errors import CONFLICT, ChangeRejectedError
from instep.domain.events import Observation
from instep.domain.listing import CreationWindow, ListingCursor, ListingPage
from instep.domain.models import EntityKey, EntityKind
from instep.domain.reconcile import NeedsRefetch
from instep.sync.plan import Finding

SYNC_TOPIC = "sync"
LEASE_DURATION = MINUTE
PLAN_LIFETIME = 15 * MINUTE
WEBHOOK_GRACE_PERIOD = 5 * MINUTE  # the time a webhook may take to arrive
REQUEST_LIFETIME = 10 * MINUTE
NOT_STARTED = "not_begun"

RunKind = Literal["check", "plan", "apply", "first", "changed"]
RunState = Literal["asked", "running", "done", "refused", "failed", "stopped"]
FindingOutcome = Literal["applied", "skipped"]
T = TypeVar("T")


class SyncBusyError(TemporaryError):
    """Another sync is running."""


class SyncLeaseLostError(PermanentError):
    """Another process took the lease: every further write of this run is rejected."""

    def __init__(self) -> None:
        super().__init__(lazy_gettext("Another process took over the sync."), code="overtaken")


class SyncRefusedError(ChangeRejectedError):
    """A run was refused as a whole. Nothing was changed."""

    def __init__(self, message: str, *, code: str, status: int = CONFLICT) -> None:
        super().__init__(message, code=code, status=status)


class SyncLease(Struct, frozen=True):
    """The exclusive right to sync until it expires. `fence` rejects writes of a holder that lost it meanwhile."""

    holder: str
    fence: int


class EntityTotals(Struct, frozen=True, kw_only=True):
    """Numbers of one kind: Clerk's count before and after the scan, and the entities that were fetched."""

    before: int
    fetched: int
    after: int
    is_whole: bool
    unreadable: int = 0


class SyncProgress(Struct, frozen=True):
    """Progress of a run: `done` of `total` entities of a kind; `total` None where it is unknown."""

    kind: EntityKind
    done: int
    total: int | None


ProgressCallback = Callable[[SyncProgress], None]


class Run(Struct, frozen=True, kw_only=True):
    """One run; the fields are the columns of `instep_sync_runs`.

    `counts` are findings by kind, or rows by result. `progress` is the position of each window of a first sync,
    `stage` the progress that is displayed (see ProgressRecorder), `wish` the parameters of a request (see RunQueue).
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
        """Number of findings."""
        return sum(self.counts.values())


def run_to_dict(run: Run) -> dict[str, Any]:
    """Return a run as JSON."""
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


class FindingRow(Struct, frozen=True, kw_only=True):
    """A stored finding and its outcome."""

    number: int
    finding: Finding
    outcome: FindingOutcome | None
    outcome_reason: str | None


def finding_to_dict(row: FindingRow) -> dict[str, Any]:
    """Return a finding as JSON: the differences, their owners, the last writer, the repair target and the outcome."""
    finding = row.finding
    return {
        "number": row.number,
        "kind": finding.kind,
        "thing": finding.key.kind,
        "clerk_id": finding.key.id,
        "id": finding.here,
        "label": finding.label,
        "differences": [
            {"field": d.field, "clerk": d.clerk, "here": d.here, "belongs_to": d.owner} for d in finding.differences
        ],
        "wrote_last": finding.wrote_last,
        "wrote_at": to_iso(finding.wrote_at),
        "mend": finding.repair_target,
        "note": finding.note,
        "outcome": row.outcome,
        "outcome_reason": row.outcome_reason,
    }


class Freshness(Struct, frozen=True):
    """Webhook freshness at `looked_at`; the fields are columns of `instep_freshness`.

    `behind` counts users changed in Clerk whose change is overdue here. `newest_event_at` is the time at which the
    newest applied delivery was received, None if there was none. `is_synced` is False while no sync has completed, so
    users created before the first delivery are missing.
    """

    looked_at: int
    newest_event_at: int | None
    behind: int
    is_synced: bool = True

    @property
    def is_arriving(self) -> bool:
        """Return whether the newest delivery is recent enough to consider the webhook active."""
        return self.newest_event_at is not None and self.looked_at - self.newest_event_at < WEBHOOK_GRACE_PERIOD

    @property
    def is_stale(self) -> bool:
        """Return whether an admin should check the webhook."""
        return self.behind > 0

    @property
    def warning(self) -> str | None:
        """Warning for admins in English; None while there is nothing to report. Pages use describe_freshness."""
        if not self.is_stale:
            return None
        people = "1 person" if self.behind == 1 else f"{self.behind} people"
        if not self.is_synced:
            return f"Nothing was synced yet. Missing here, or different: {people}."
        if self.is_arriving:
            return f"Webhooks arrive, but not all of them. Missing here, or different: {people}."
        if self.newest_event_at is None:
            return f"No webhook has ever arrived. Missing here, or different: {people}."
        silence = _format_duration(max(0, self.looked_at - self.newest_event_at))
        return f"No webhook for {silence} while Clerk changed {people}."


def _format_duration(milliseconds: int) -> str:
    if milliseconds < HOUR:
        return f"{milliseconds // MINUTE} min"
    hours = milliseconds // HOUR
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"


def freshness_to_dict(freshness: Freshness | None) -> dict[str, Any] | None:
    """Return the result of the last freshness check as JSON."""
    if freshness is None:
        return None
    return {
        "looked_at": to_iso(freshness.looked_at),
        "newest_event_at": to_iso(freshness.newest_event_at),
        "behind": freshness.behind,
        "warning": freshness.warning,
    }


class SyncOverview(Struct, frozen=True, kw_only=True):
    """Data of the sync page. `last_check` and `last_sync` are the last runs that completed.

    `suspected_deletions` are the deletions that the last run found, by kind of entity; `newest_event_at` is the time
    at which the newest applied delivery was received.
    """

    unfinished: Sequence[Run]
    runs: Sequence[Run]
    last_check: Run | None
    last_sync: Run | None
    suspected_deletions: dict[str, int]
    freshness: Freshness | None
    newest_event_at: int | None


class RunDetails(Struct, frozen=True, kw_only=True):
    """Data of a run's page: a page of its rows, the run that applies it, and whether another run is active."""

    rows: Sequence[FindingRow]
    apply_run: Run | None
    is_busy: bool
    open_rows: int
    suspected_deletions: dict[str, int]


class ClerkListReader(Protocol):
    """Port that lists everything in Clerk; instep.clerk.instance_scanner implements it.

    Each method raises ClerkUnavailableError or ClerkRejectedError.
    """

    async def find_instance(self) -> str | None:
        """Return the instance id; None where Clerk does not provide it."""

    async def count(self, kind: EntityKind) -> int:
        """Return the present number of entities of a kind."""

    async def count_within(self, window: CreationWindow) -> int | None:
        """Return the present number of entities in a window; None where it can't be counted."""

    async def windows(self, kind: EntityKind) -> list[CreationWindow]:
        """Return the windows of a kind, which together cover everything."""

    def pages(self, window: CreationWindow, cursor: ListingCursor | None = None) -> AsyncIterator[ListingPage]:
        """Return the pages of a window, from the beginning or from a cursor."""

    async def list_changed(self, *, offset: int) -> Sequence[Observation]:
        """Return a page of users, the last changed first."""

    async def find_absent(self, asks: Sequence[NeedsRefetch]) -> set[EntityKey]:
        """Return those that Clerk certainly does not have, confirmed in more than one way where possible."""


async def run_concurrently(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all jobs and return the results in their order. Raises the first failure, not an exception group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
