"""Background jobs of sync: execute requested runs and monitor webhook freshness."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from instep.audit.entries import NewAuditEntry
from instep.audit.repository import record_entries
from instep.core.clock import Clock, is_recent, monotonic_now
from instep.core.db import Conn, Database
from instep.core.errors import InstepError
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
NOT_STARTED_IN_TIME = "No worker took it on within 10 minutes."
WITHDRAWN = "It was withdrawn."
FAILED_BEFORE_START = "It broke before it began; the log says why."
MAX_FRUITLESS_RESUMES = 5
RESUMED_WITHOUT_PROGRESS = (
    "Its worker ended each time before it came any further, most likely for lack of memory. See the worker's log, "
    "give it more memory, then start it again: it goes on where it was."
)


async def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class RunQueue:
    """Asks for runs, and carries them out: a worker looks for one every second. `after` runs when one has ended."""

    sync: SyncService
    after: Callable[[], Awaitable[None]] = _do_nothing

    @property
    def db(self) -> Database:
        """The database."""
        return self.sync.db

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self.sync.clock

    async def ask(
        self,
        kind: RunKind,
        *,
        actor: str,
        plan_id: str | None = None,
        chosen: Sequence[int] | None = None,
        allow_gone: int | None = None,
    ) -> Run:
        """Keep what is wanted, for the next worker. Raises SyncRefusedError while another is asked for or under way."""
        rows = None if chosen is None else sorted(set(chosen))
        goes_on = {"in_vain": 0, "came": 0} if kind == "first" else None
        wish = {"chosen": rows, "allow_gone": allow_gone, "goes_on": goes_on}
        return await self._keep(kind, actor, wish, plan_id)

    async def _keep(self, kind: RunKind, actor: str, wish: dict[str, Any], plan_id: str | None = None) -> Run:
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
        await self.db.write(self._ask, run)
        self.sync.news()
        return run

    async def withdraw(self, id: str) -> None:
        """End a run that no worker has begun. Raises SyncRefusedError where one has."""
        if not await self._end(id, "stopped", WITHDRAWN, "withdrawn"):
            raise SyncRefusedError("It has begun already.", code="begun", status=CONFLICT)
        self.sync.news()

    async def run_once(self) -> int:
        """Carry out the run that waits longest; 0 where none does, or another sync is under way.

        A first sync whose worker is gone goes on, unless that was in vain too often in a row. A run that waited too
        long is not begun any more: whoever asked does not expect it now. However it ends, the run says so.
        """
        run, left = await self.db.read(repository.find_next_run, now=self.clock())
        if left is not None:
            run = await self._go_on(left)
        if run is None:
            return 0
        if not is_recent(run.started_at, self.clock(), REQUEST_LIFETIME):
            await self._end(run.id, "stopped", NOT_STARTED_IN_TIME, NOT_STARTED)
            return 1
        try:
            await self._carry_out(run)
        except SyncBusyError:
            return 0
        except SyncRefusedError as error:
            await self._end(run.id, "refused", str(error), error.code)
        except InstepError as error:
            await self._end(run.id, "failed", str(error), getattr(error, "code", "temporary"))
        except Exception:
            await self._end(run.id, "failed", FAILED_BEFORE_START, NOT_STARTED)
            raise
        await self.after()
        return 1

    async def _go_on(self, left: Run) -> Run | None:
        """Ask for the rest of a first sync whose worker is gone. Where it did not come any further the last five times
        either, it has failed: whatever ends its process would do so for ever."""
        came, before = _measure_progress(left), left.wish["goes_on"]
        in_vain = 1 if came > before["came"] else before["in_vain"] + 1
        if in_vain <= MAX_FRUITLESS_RESUMES:
            with impersonation_context(left.actor, left.impersonator):
                return await self._keep("first", left.actor, {"goes_on": {"in_vain": in_vain, "came": came}})
        log.error("first_sync_given_up", run=left.id, came=came)
        await self.db.write(
            repository.fail_interrupted_run, left.id, now=self.clock(), reason=RESUMED_WITHOUT_PROGRESS, code="in_vain"
        )
        self.sync.news()
        return None

    async def _carry_out(self, run: Run) -> None:
        with impersonation_context(run.actor, run.impersonator):
            await self._dispatch_run(run)

    async def _dispatch_run(self, run: Run) -> None:
        actor, id = run.actor, run.id
        if run.kind == "check":
            await self.sync.check(actor=actor, run_id=id)
        elif run.kind == "plan":
            await self.sync.plan(actor=actor, allow_gone=run.wish.get("allow_gone"), run_id=id)
        elif run.kind == "apply":
            await self.sync.apply(run.plan_id or "", actor=actor, chosen=run.wish.get("chosen"), run_id=id)
        elif run.kind == "first":
            await self.sync.first(actor=actor, run_id=id)
        else:
            await self.sync.changed(actor=actor, run_id=id)

    async def _end(self, id: str, state: RunState, reason: str, code: str) -> bool:
        is_ended = await self.db.write(
            repository.end_requested_run, id, state, now=self.clock(), reason=reason, code=code
        )
        self.sync.news()
        return is_ended

    def _ask(self, conn: Conn, run: Run) -> None:
        repository.request_run(conn, run)
        entry = NewAuditEntry(actor=run.actor, action=f"sync.{run.kind}", target=run.plan_id or run.id, cause=run.id)
        record_entries(conn, [entry], now=run.started_at)


def _measure_progress(run: Run) -> int:
    """How far a first sync is: rows that were read and kept, and windows that are done."""
    return sum(it.fetched + it.is_done for places in decode_window_progress(run.progress).values() for it in places)


def _find_no_event(_: Conn) -> None:
    return None


@dataclass
class FreshnessMonitor:
    """Looks every now and then, and remembers the last answer: here for metrics, in the database for pages.

    `first_event` is when the oldest delivery came that is kept; `news` is told when the answer is another one than
    before.
    """

    db: Database
    source: ClerkListReader
    clock: Clock
    newest_event: Callable[[Conn], int | None]
    first_event: Callable[[Conn], int | None] = _find_no_event
    policy: FieldOwnership = field(default_factory=FieldOwnership)
    news: Callable[[], None] = lambda: None
    last: Freshness | None = None
    _ahead: dict[str, int] = field(default_factory=dict)

    async def look(self) -> Freshness:
        """Ask Clerk for its last changes, and the mirror whether it has them. Raises ClerkUnavailableError, ClerkRejectedError."""
        changed = await self.source.list_changed(offset=0)
        now = self.clock()
        due = [it for it in changed if it.version < now - WEBHOOK_GRACE_PERIOD or self._is_long_ahead(it, now)]
        before, found = await self.db.read(self._look_here, due, now)
        self.last = found
        await self.db.write(repository.save_freshness, found)
        if before is None or (before.behind, before.is_synced) != (found.behind, found.is_synced):
            self.news()
        return found

    def _is_long_ahead(self, seen: Observation, now: int) -> bool:
        """Return whether a change ahead of our clock was seen a while ago: a clock that went back hides nothing."""
        if seen.version <= now:
            self._ahead.pop(seen.key.id, None)
            return False
        return monotonic_now() - self._ahead.setdefault(seen.key.id, monotonic_now()) >= WEBHOOK_GRACE_PERIOD

    def _look_here(self, conn: Conn, due: Sequence[Observation], now: int) -> tuple[Freshness | None, Freshness]:
        behind = self._find_behind(conn, due)
        first = self.first_event(conn)
        is_older = any(first is None or it.version < first for it in behind)
        is_synced = not is_older or repository.is_synced(conn)
        return repository.find_freshness(conn), Freshness(now, self.newest_event(conn), len(behind), is_synced)

    def _find_behind(self, conn: Conn, news: Sequence[Observation]) -> list[Observation]:
        ours = {it.clerk_id: it for it in snapshot.find_mirror_rows(conn, "user", [it.key.id for it in news])}
        behind = []
        for it in news:
            our = ours.get(it.key.id)
            is_newer = our is None or (it.version > our.version and not our.is_deleted) or our.absent_at is not None
            if is_newer and (our is None or plan.find_differences(it, our, self.policy) is not None):
                behind.append(it)
        return behind
