"""Background jobs of sync: execute requested runs and monitor webhook freshness."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from instep.audit.repository import NewAuditEntry, record_entries
from instep.core.clock import Clock, is_recent, monotonic_now
from instep.core.db import Conn, Database
from instep.core.errors import InstepError
from instep.core.i18n import lazy_gettext
from instep.core.ids import new_id
from instep.core.request_context import get_impersonator, impersonation_context
from instep.domain.errors import CONFLICT
from instep.domain.events import Observation
from instep.mirror import snapshot
from instep.sync import plan, repository
from instep.sync.backfill import decode_window_progress
from instep.sync.models import (
    NOT_STARTED,
    REQUEST_LIFETIME,
    WEBHOOK_GRACE_PERIOD,
    ClerkListReader,
    Freshness,
    Run,
    RunKind,
    RunState,
    SyncBusyError,
    SyncRefusedError,
)
from instep.sync.plan import FieldOwnership
from instep.sync.service import SyncService

log = structlog.get_logger(__name__)
NOT_STARTED_IN_TIME = lazy_gettext("No worker started it within 10 minutes.")
WITHDRAWN = lazy_gettext("The request was withdrawn.")
FAILED_BEFORE_START = lazy_gettext("An unexpected error occurred before it started; see the log.")
MAX_FRUITLESS_RESUMES = 5
RESUMED_WITHOUT_PROGRESS = lazy_gettext(
    "Its worker ended each time before it made progress, most likely for lack of memory. See the worker's log, "
    "give it more memory, then start it again: it resumes where it was."
)


async def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class RunQueue:
    """Stores requests for runs, and executes them: a worker checks for one every second.

    `after_run` is called when a run has ended.
    """

    sync: SyncService
    after_run: Callable[[], Awaitable[None]] = _do_nothing

    @property
    def db(self) -> Database:
        """The database."""
        return self.sync.db

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self.sync.clock

    async def request(
        self,
        kind: RunKind,
        *,
        actor: str,
        plan_id: str | None = None,
        chosen: Sequence[int] | None = None,
        allow_gone: int | None = None,
    ) -> Run:
        """Store a request for the next worker. Raises SyncRefusedError while another is waiting or running."""
        rows = None if chosen is None else sorted(set(chosen))
        resumes = {"in_vain": 0, "came": 0} if kind == "first" else None
        wish = {"chosen": rows, "allow_gone": allow_gone, "goes_on": resumes}
        return await self._store_request(kind, actor, wish, plan_id)

    async def _store_request(self, kind: RunKind, actor: str, wish: dict[str, Any], plan_id: str | None = None) -> Run:
        now = self.clock()
        run = Run(
            id=new_id("syn"),
            kind=kind,
            state="asked",
            actor=actor,
            impersonator=get_impersonator(actor),
            started_at=now,
            changed_at=now,
            plan_id=plan_id,
            wish={name: value for name, value in wish.items() if value is not None},
        )
        await self.db.write(self._insert_request, run)
        self.sync.on_run_changed()
        return run

    def _insert_request(self, conn: Conn, run: Run) -> None:
        repository.request_run(conn, run)
        entry = NewAuditEntry(actor=run.actor, action=f"sync.{run.kind}", target=run.plan_id or run.id, cause=run.id)
        record_entries(conn, [entry], now=run.started_at)

    async def withdraw(self, run_id: str) -> None:
        """End a request that no worker has started. Raises SyncRefusedError where one has."""
        if not await self._end(run_id, "stopped", WITHDRAWN, "withdrawn"):
            raise SyncRefusedError(lazy_gettext("It has already started."), code="begun", status=CONFLICT)
        self.sync.on_run_changed()

    async def run_once(self) -> int:
        """Execute the oldest request; return 0 where none waits, or another sync is running.

        A backfill whose worker is gone is resumed, unless it made no progress too often in a row. A request that
        waited longer than REQUEST_LIFETIME is ended instead. The run's state and reason record how it ended.
        """
        run, interrupted = await self.db.read(repository.find_next_run, now=self.clock())
        if interrupted is not None:
            run = await self._resume(interrupted)
        if run is None:
            return 0
        if not is_recent(run.started_at, self.clock(), REQUEST_LIFETIME):
            await self._end(run.id, "stopped", NOT_STARTED_IN_TIME, NOT_STARTED)
            return 1
        try:
            with impersonation_context(run.actor, run.impersonator):
                await self._dispatch_run(run)
        except SyncBusyError:
            return 0
        except SyncRefusedError as error:
            await self._end(run.id, "refused", str(error), error.code)
        except InstepError as error:
            await self._end(run.id, "failed", str(error), getattr(error, "code", "temporary"))
        except Exception:
            await self._end(run.id, "failed", FAILED_BEFORE_START, NOT_STARTED)
            raise
        await self.after_run()
        return 1

    async def _resume(self, interrupted: Run) -> Run | None:
        """Request the rest of a backfill whose worker is gone.

        Fails it where it made no progress in the last five resumes either: what ends its process would do so again.
        """
        progress, before = _measure_progress(interrupted), interrupted.wish["goes_on"]
        fruitless = 1 if progress > before["came"] else before["in_vain"] + 1
        if fruitless <= MAX_FRUITLESS_RESUMES:
            wish = {"goes_on": {"in_vain": fruitless, "came": progress}}
            with impersonation_context(interrupted.actor, interrupted.impersonator):
                return await self._store_request("first", interrupted.actor, wish)
        log.error("backfill_abandoned", run=interrupted.id, progress=progress)
        await self.db.write(
            repository.fail_interrupted_run,
            interrupted.id,
            now=self.clock(),
            reason=str(RESUMED_WITHOUT_PROGRESS),
            code="in_vain",
        )
        self.sync.on_run_changed()
        return None

    async def _dispatch_run(self, run: Run) -> None:
        actor, run_id = run.actor, run.id
        if run.kind == "check":
            await self.sync.check(actor=actor, run_id=run_id)
        elif run.kind == "plan":
            await self.sync.plan(actor=actor, allow_gone=run.wish.get("allow_gone"), run_id=run_id)
        elif run.kind == "apply":
            await self.sync.apply(run.plan_id or "", actor=actor, chosen=run.wish.get("chosen"), run_id=run_id)
        elif run.kind == "first":
            await self.sync.backfill(actor=actor, run_id=run_id)
        else:
            await self.sync.apply_recent_changes(actor=actor, run_id=run_id)

    async def _end(self, run_id: str, state: RunState, reason: str, code: str) -> bool:
        is_ended = await self.db.write(
            repository.end_requested_run, run_id, state, now=self.clock(), reason=str(reason), code=code
        )
        self.sync.on_run_changed()
        return is_ended


def _measure_progress(run: Run) -> int:
    """Return the progress of a backfill: rows that were read and stored, plus windows that are done."""
    return sum(it.fetched + it.is_done for windows in decode_window_progress(run.progress).values() for it in windows)


def _find_no_event(_: Conn) -> None:
    return None


@dataclass
class FreshnessMonitor:
    """Checks for overdue webhooks and stores the result: in memory for metrics, in the database for pages.

    `find_first_event_at` returns the time at which the oldest stored delivery was received; `on_change` is called
    when the result differs from the one before.
    """

    db: Database
    source: ClerkListReader
    clock: Clock
    find_newest_event_at: Callable[[Conn], int | None]
    find_first_event_at: Callable[[Conn], int | None] = _find_no_event
    policy: FieldOwnership = field(default_factory=FieldOwnership)
    on_change: Callable[[], None] = lambda: None
    last: Freshness | None = None
    _ahead_since: dict[str, int] = field(default_factory=dict)

    async def check(self) -> Freshness:
        """Compare the users that Clerk changed last with the mirror.

        Raises ClerkUnavailableError, ClerkRejectedError.
        """
        changed = await self.source.list_changed(offset=0)
        now = self.clock()
        due = [it for it in changed if it.version < now - WEBHOOK_GRACE_PERIOD or self._is_long_ahead(it, now)]
        before, found = await self.db.read(self._compare_with_mirror, due, now)
        self.last = found
        await self.db.write(repository.save_freshness, found)
        if before is None or (before.behind, before.is_synced) != (found.behind, found.is_synced):
            self.on_change()
        return found

    def _is_long_ahead(self, seen: Observation, now: int) -> bool:
        """Return whether a change ahead of our clock was first seen a while ago, so that no clock rollback hides it."""
        if seen.version <= now:
            self._ahead_since.pop(seen.key.id, None)
            return False
        return monotonic_now() - self._ahead_since.setdefault(seen.key.id, monotonic_now()) >= WEBHOOK_GRACE_PERIOD

    def _compare_with_mirror(
        self, conn: Conn, due: Sequence[Observation], now: int
    ) -> tuple[Freshness | None, Freshness]:
        behind = self._find_behind(conn, due)
        first = self.find_first_event_at(conn)
        is_older = any(first is None or it.version < first for it in behind)
        is_synced = not is_older or repository.is_synced(conn)
        return repository.find_freshness(conn), Freshness(now, self.find_newest_event_at(conn), len(behind), is_synced)

    def _find_behind(self, conn: Conn, users: Sequence[Observation]) -> list[Observation]:
        ours = {it.clerk_id: it for it in snapshot.find_mirror_rows(conn, "user", [it.key.id for it in users])}
        behind = []
        for user in users:
            our = ours.get(user.key.id)
            is_newer = our is None or (user.version > our.version and not our.is_deleted) or our.absent_at is not None
            if is_newer and (our is None or plan.find_differences(user, our, self.policy) is not None):
                behind.append(user)
        return behind
