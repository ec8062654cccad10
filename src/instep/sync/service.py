"""Use cases of sync: check, plan, apply, backfill and recent changes, one at a time under a lease."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from instep.audit.entries import build_change_entry, build_joined_entries
from instep.audit.repository import record_entries
from instep.core.clock import DAY, HOUR, SECOND, Clock, is_in_future
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, PermanentError, describe_error
from instep.core.ids import new_id
from instep.core.request_context import get_impersonator
from instep.domain.events import Observation
from instep.domain.models import ENTITY_KINDS, EntityKind
from instep.domain.ports import RolesApi
from instep.domain.reconcile import Change, NeedsRefetch, RefetchResult, match_refetch_results
from instep.mirror import roles, snapshot
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.unit_of_work import open_unit_of_work
from instep.sync import repository
from instep.sync.apply import PlanApplier, explain_deletion_excess
from instep.sync.backfill import Backfill, BackfillWriter, create_deferred_indexes, decode_window_progress
from instep.sync.models import (
    LEASE_DURATION,
    PLAN_LIFETIME,
    ClerkListReader,
    EntityAccess,
    ProgressCallback,
    Run,
    RunKind,
    SyncBusyError,
    SyncLease,
    SyncProgress,
    SyncRefusedError,
)
from instep.sync.plan import FieldOwnership
from instep.sync.scan import Scan

log = structlog.get_logger(__name__)
SYNC_BUSY = "Another sync is under way. Only one runs at a time; try again when it has ended."


@asynccontextmanager
async def hold_lease(db: Database, clock: Clock) -> AsyncIterator[SyncLease]:
    """Hold the right to sync. Raises Busy. A process that dies keeps it for a minute at the most."""
    lease = await db.write(_take_lease, new_id("syn"), clock=clock)
    if lease is None:
        raise SyncBusyError(SYNC_BUSY, retry_after=LEASE_DURATION / SECOND)
    beat = asyncio.create_task(_renew_lease(db, lease, clock))
    try:
        yield lease
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        await db.write(repository.release_lease, lease)


def _take_lease(conn: Conn, holder: str, *, clock: Clock) -> SyncLease | None:
    return repository.take_lease(conn, holder, now=clock())


async def _renew_lease(db: Database, lease: SyncLease, clock: Clock) -> None:
    while True:
        await asyncio.sleep(LEASE_DURATION / SECOND / 4)
        try:
            await db.write(repository.renew_lease, lease, now=clock())
        except InstepError as error:  # the run's own writes will find out
            log.warning("sync_lease", error=describe_error(error))


ROLE_REFRESH_INTERVAL = HOUR


@dataclass(frozen=True)
class RoleReader:
    """Keeps the roles of the instance as Clerk has them. `changed` hears that they are others now."""

    db: Database
    source: RolesApi
    clock: Clock
    changed: Callable[[], None] = lambda: None

    async def read(self) -> int:
        """Read all of them; gives how many there are. Raises ClerkUnavailableError and ClerkRejectedError."""
        found = await self.source.list_roles()
        if await self.db.write(roles.replace_roles, found, now=self.clock()):
            self.changed()
        return len(found.roles)

    async def read_when_due(self) -> None:
        """Read them where they were never read, or not within the hour. Raises as `read`."""
        if await self.db.read(self._is_due):
            await self.read()

    def _is_due(self, conn: Conn) -> bool:
        last = roles.find_last_listed_at(conn)
        return last is None or not 0 <= self.clock() - last < ROLE_REFRESH_INTERVAL


FINDINGS_RETENTION = 14 * DAY
CHANGED_SINCE_MARGIN = 600 * SECOND
RESUME_WINDOW = DAY
UNEXPECTED_FAILURE = "It broke; the log says why."
WRONG_INSTANCE = "The secret key belongs to {there}, and this database to {here}. Nothing was read or changed."
PLAN_OF_OTHER_INSTANCE = "This plan was made for another Clerk instance. Make a new one."


def _ignore(_: object) -> None:
    pass


def _bind_nothing(_conn: Conn, instance_id: str, *, now: int) -> str:
    return instance_id


def _never_rebound(_conn: Conn) -> int:
    return 0


@dataclass
class ProgressRecorder:
    """Hears how far a run is, and tells it on. `news` is told each time that the database knows more."""

    db: Database
    clock: Clock
    run_id: str
    lease: SyncLease
    told: ProgressCallback
    news: Callable[[], None]
    _last: SyncProgress | None = None
    _kept: SyncProgress | None = None
    _started_at: int = 0
    _started_with: int = 0

    def __call__(self, progress: SyncProgress) -> None:
        """It is as far as this now."""
        if self._last is None or self._last.kind != progress.kind:
            self._started_at, self._started_with = self.clock(), progress.done
        self._last = progress
        self.told(progress)

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Keep it once a second for as long as this lasts."""
        task = asyncio.create_task(self._forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def keep(self) -> None:
        """Keep how far it is, unless that is kept already: what, how many of how many, since when, and from where."""
        last = self._last
        if last is None or last is self._kept:
            return
        stage = {
            "kind": last.kind,
            "done": last.done,
            "total": last.total,
            "begun_at": self._started_at,
            "begun_with": self._started_with,
        }
        await self.db.write(repository.update_run, self.run_id, self.lease, {"stage": stage}, now=self.clock())
        self._kept = last
        self.news()

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL / SECOND)
            try:
                await self.keep()
            except InstepError as error:  # the run's own writes will find out
                log.warning("sync_stage", run=self.run_id, error=describe_error(error))


@dataclass(frozen=True)
class SyncService:
    """Everything that sync does.

    `instance` finds the Clerk instance that this database belongs to (None: not known yet), `bind` keeps the secret
    key's then, `rebound_at` says when it last became another one. `touched` hears which organizations changed, `news`
    that a run began, went on or ended. `newest_event` is when the newest delivery came that was applied. Each method
    takes `run_id`, the run that somebody asked a worker for.
    """

    db: Database
    source: ClerkListReader
    writes: EntityAccess
    clock: Clock
    policy: FieldOwnership = field(default_factory=FieldOwnership)
    instance: Callable[[Conn], str | None] = _ignore
    bind: Callable[..., str] = _bind_nothing
    rebound_at: Callable[[Conn], int] = _never_rebound
    newest_event: Callable[[Conn], int | None] = _ignore
    touched: Callable[[set[str]], None] = _ignore
    news: Callable[[], None] = lambda: None
    roles: RoleReader | None = None

    async def check(self, *, actor: str, told: ProgressCallback = _ignore, run_id: str | None = None) -> Run:
        """Say what differs, and change nothing, however much it is.

        Raises SyncRefusedError (another instance's key), Busy, ClerkUnavailableError, ClerkRejectedError.
        """
        async with hold_lease(self.db, self.clock) as lease, self._run("check", actor, lease, run_id) as run:
            return await self._scan(run, lease, told)

    async def plan(
        self, *, actor: str, allow_gone: int | None = None, told: ProgressCallback = _ignore, run_id: str | None = None
    ) -> Run:
        """Keep what would be changed, sealed by a hash and good for 15 minutes. Raises as `check`, and SyncRefusedError
        where Clerk's lists are not whole or more than 100,000 rows differ.

        `allow_gone` is how many deletions of each kind applying it may make. A plan of more is made, and says so.
        """
        wish = {} if allow_gone is None else {"allow_gone": allow_gone}
        async with hold_lease(self.db, self.clock) as lease, self._run("plan", actor, lease, run_id, wish=wish) as run:
            return await self._scan(run, lease, told, allow_gone)

    async def apply(
        self,
        plan_id: str,
        *,
        actor: str,
        chosen: Sequence[int] | None = None,
        allow_gone: int | None = None,
        told: ProgressCallback = _ignore,
        run_id: str | None = None,
    ) -> Run:
        """Apply a plan, or the chosen rows of it. `allow_gone` takes the place of what the plan was made with.

        1 the plan must be whole, as it was kept, and young, and may not delete more than is allowed; 2 each row's
        precondition is looked at again, and a deletion also in Clerk; 3 small transactions, each with its audit.
        Raises SyncRefusedError, Busy, ClerkUnavailableError.
        """
        async with hold_lease(self.db, self.clock) as lease:
            plan = await self._good_plan(plan_id)
            async with self._run("apply", actor, lease, run_id, plan_id=plan_id) as run:
                await self._check_instance()
                allowed = plan.wish.get("allow_gone") if allow_gone is None else allow_gone
                excess = await self.db.read(explain_deletion_excess, plan_id, chosen=chosen, allowed=allowed)
                if excess:
                    raise SyncRefusedError(excess, code="fuse")
                tell = self._make_progress_recorder(run, lease, told)
                applying = PlanApplier(
                    db=self.db,
                    source=self.source,
                    writes=self.writes,
                    policy=self.policy,
                    clock=self.clock,
                    plan_id=plan_id,
                    lease=lease,
                    actor=actor,
                    told=tell,
                    chosen=None if chosen is None else frozenset(chosen),
                )
                async with tell.telling():
                    counts = await applying.run(plan.differences if chosen is None else len(chosen))
                self.touched(applying.touched)
                return await self._end(run, lease, counts=counts)

    async def first(
        self,
        *,
        actor: str,
        kinds: Sequence[EntityKind] = ENTITY_KINDS,
        told: ProgressCallback = _ignore,
        run_id: str | None = None,
    ) -> Run:
        """Take everything of these kinds in, going on where an interrupted run stopped. Deletes nothing."""
        async with hold_lease(self.db, self.clock) as lease:
            left = await self._find_interrupted()
            progress = left.progress if left else {}
            async with self._run("first", actor, lease, run_id, progress=progress) as run:
                await self._check_instance()
                tell = self._make_progress_recorder(run, lease, told)
                keeper = BackfillWriter(
                    db=self.db,
                    writes=self.writes,
                    clock=self.clock,
                    run_id=run.id,
                    lease=lease,
                    actor=actor,
                    places=decode_window_progress(run.progress),
                )
                first = Backfill(db=self.db, source=self.source, keeper=keeper, told=tell, kinds=kinds)
                async with tell.telling():
                    await first.run()
                return await self._end(run, lease, counts=dict(keeper.counts), totals=first.totals)

    async def is_empty(self) -> bool:
        """Whether nothing of Clerk's is here yet, or the first sync was interrupted."""
        if await self.db.read(snapshot.is_mirror_empty):
            return True
        return await self._find_interrupted() is not None

    async def _find_interrupted(self) -> Run | None:
        """What may be gone on with; a run of another instance may not."""
        since = max(self.clock() - RESUME_WINDOW, await self.db.read(self.rebound_at))
        return await self.db.read(_find_interrupted_backfill, since=since)

    async def changed(self, *, actor: str, since: int | None = None, run_id: str | None = None) -> Run:
        """Take in the users whom Clerk changed since then, or since the newest event that was applied."""
        async with hold_lease(self.db, self.clock) as lease, self._run("changed", actor, lease, run_id) as run:
            await self._check_instance()
            newest = await self.db.read(self.newest_event) if since is None else since
            if newest is None:
                raise SyncRefusedError("Nothing was ever applied here. Run: instep sync apply", code="no_event")
            return await self._end(
                run, lease, counts=await self._apply_changed_users(run, lease, newest - CHANGED_SINCE_MARGIN)
            )

    async def _apply_changed_users(self, run: Run, lease: SyncLease, since: int) -> dict[str, int]:
        seen = written = 0
        while page := await self.source.list_changed(offset=seen):
            recent = [it for it in page if it.version >= since]
            written += await self._take_users(recent, run, lease)
            seen += len(page)
            if len(recent) < len(page):
                break
        return {"looked_at": seen, "applied": written}

    async def _take_users(self, news: Sequence[Observation], run: Run, lease: SyncLease) -> int:
        """Take these in; whoever was called gone because Clerk did not show them is read once more for that."""
        asks, written = await self.db.write(self._decide, [RefetchResult(it) for it in news], run, lease)
        if not asks:
            return written
        answers = match_refetch_results(asks, await self.writes.fetch(asks))
        return written + (await self.db.write(self._decide, list(answers.values()), run, lease))[1]

    def _decide(
        self, conn: Conn, answers: Sequence[RefetchResult], run: Run, lease: SyncLease
    ) -> tuple[list[NeedsRefetch], int]:
        now = self.clock()
        repository.renew_lease(conn, lease, now=now)
        ledger = open_unit_of_work(conn, [it.state for it in answers])
        verdicts = [ledger.answer(it) for it in answers]
        changed = [it for it in verdicts if isinstance(it, Change)]
        self.touched(apply_unit_of_work(conn, ledger, now=now))
        entries = [build_change_entry(it, ledger, actor=run.actor, cause=run.id, action="changed") for it in changed]
        record_entries(conn, [*entries, *build_joined_entries(ledger.joined)], now=now)
        return [it for it in verdicts if isinstance(it, NeedsRefetch)], len(changed)

    async def _scan(self, run: Run, lease: SyncLease, told: ProgressCallback, allow_gone: int | None = None) -> Run:
        await self._check_instance()
        tell = self._make_progress_recorder(run, lease, told)
        scan = Scan(
            db=self.db,
            source=self.source,
            policy=self.policy,
            clock=self.clock,
            run_id=run.id,
            lease=lease,
            started_at=run.started_at,
            told=tell,
            look=self.writes.fetch,
            is_check=run.kind == "check",
        )
        try:
            async with tell.telling():
                counts = await scan.run()
        finally:
            totals = msgspec.to_builtins(scan.totals)
            await self.db.write(repository.update_run, run.id, lease, {"totals": totals}, now=self.clock())
        sealed: dict[str, object] = {}
        if run.kind == "plan":
            now = self.clock()
            sealed = {"hash": await self.db.read(repository.hash_plan, run.id), "expires_at": now + PLAN_LIFETIME}
            excess = await self.db.read(explain_deletion_excess, run.id, chosen=None, allowed=allow_gone)
            sealed |= {"reason": excess, "code": "fuse"} if excess else {}
        return await self._end(run, lease, counts=counts, **sealed)

    async def _read_roles(self) -> None:
        """Every run reads the roles of the instance first; one that can't is a run without them."""
        if self.roles is None:
            return
        try:
            await self.roles.read()
        except InstepError as error:
            log.warning("role_refresh_failed", error=str(error))

    async def _check_instance(self) -> None:
        """Compare the secret key's instance with this database's, which it becomes where none is known.

        Raises SyncRefusedError where they differ.
        """
        there = await self.source.find_instance()
        if there is None:
            return
        here = await self.db.read(self.instance) or await self.db.write(self._bind, there)
        if here != there:
            raise SyncRefusedError(WRONG_INSTANCE.format(there=there, here=here), code="wrong_instance")

    def _bind(self, conn: Conn, there: str) -> str:
        return self.bind(conn, there, now=self.clock())

    async def _good_plan(self, plan_id: str) -> Run:
        """The plan, if it may be applied. Raises SyncRefusedError."""
        plan = await self.db.read(repository.find_stored_run, plan_id)
        if plan is None or plan.kind != "plan":
            raise SyncRefusedError(f"There is no plan {plan_id}.", code="no_plan", status=404)
        if plan.state != "done" or plan.hash is None:
            raise SyncRefusedError(f"This plan was not finished: {plan.reason or plan.state}", code="bad_plan")
        if not is_in_future(plan.expires_at or 0, self.clock(), PLAN_LIFETIME):
            raise SyncRefusedError("This plan is older than 15 minutes. Make a new one.", code="plan_expired")
        if await self.db.read(self.rebound_at) >= (plan.ended_at or 0):
            raise SyncRefusedError(PLAN_OF_OTHER_INSTANCE, code="plan_expired")
        if await self.db.read(repository.hash_plan, plan_id) != plan.hash:
            raise SyncRefusedError("This plan is not what it was when it was made.", code="plan_changed")
        return plan

    @asynccontextmanager
    async def _run(
        self, kind: RunKind, actor: str, lease: SyncLease, run_id: str | None, **more: Any
    ) -> AsyncIterator[Run]:
        """A run that is kept, and whose failure is kept with its reason."""
        now = self.clock()
        about: dict[str, Any] = {"id": run_id or new_id("syn"), "kind": kind, "state": "running", "actor": actor}
        run = Run(**about, **more, impersonator=get_impersonator(actor), started_at=now, changed_at=now)
        await self.db.write(repository.start_run, run, lease, is_asked=run_id is not None)
        await self.db.write(repository.delete_old_findings, before=now - FINDINGS_RETENTION)
        self.news()
        try:
            if kind != "first":
                await create_deferred_indexes(self.db)
            await self._read_roles()
            yield run
        except SyncRefusedError as error:
            await self._fail(run, lease, "refused", error)
            raise
        except InstepError as error:
            await self._fail(run, lease, "failed", error)
            raise
        except Exception:  # a fault of ours: a run that still said that it runs would be taken for an interrupted one
            with suppress(InstepError):
                await self._fail(run, lease, "failed", PermanentError(UNEXPECTED_FAILURE, code="broke"))
            raise

    async def _fail(self, run: Run, lease: SyncLease, state: str, error: InstepError) -> None:
        code = error.code if isinstance(error, PermanentError) else "temporary"
        log.warning("sync_ended", run=run.id, kind=run.kind, state=state, code=code, reason=describe_error(error))
        if code != "overtaken":
            now = self.clock()
            values = {"state": state, "reason": str(error), "code": code, "ended_at": now}
            await self.db.write(repository.update_run, run.id, lease, values, now=now)
            self.news()

    def _make_progress_recorder(self, run: Run, lease: SyncLease, told: ProgressCallback) -> ProgressRecorder:
        return ProgressRecorder(db=self.db, clock=self.clock, run_id=run.id, lease=lease, told=told, news=self.news)

    async def _end(self, run: Run, lease: SyncLease, **values: object) -> Run:
        now = self.clock()
        await self.db.write(repository.update_run, run.id, lease, {"state": "done", "ended_at": now, **values}, now=now)
        ended = await self.db.read(repository.find_stored_run, run.id)
        assert ended is not None  # noqa: S101 (written just now)
        self.news()
        return ended


def _find_interrupted_backfill(conn: Conn, *, since: int) -> Run | None:
    """The last first sync, if it did not come to its end, and not too long ago to go on."""
    last = repository.list_stored_runs(conn, kinds=["first"], limit=5)
    begun = [it for it in last if it.progress or it.state == "done"]
    is_left = bool(begun) and begun[0].state in ("running", "stopped", "failed") and begun[0].changed_at >= since
    return begun[0] if is_left else None


PROGRESS_INTERVAL = SECOND
