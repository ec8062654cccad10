"""Use cases of sync: check, plan, apply, backfill and recent changes, one at a time under a lease."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from instep.audit.repository import build_change_entry, build_joined_entries, record_entries
from instep.core.clock import DAY, HOUR, SECOND, Clock, is_in_future
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, PermanentError, describe_error
from instep.core.i18n import lazy_gettext
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
from instep.sync.apply import ClerkWriter, PlanApplier, explain_deletion_excess
from instep.sync.backfill import Backfill, BackfillWriter, create_deferred_indexes, decode_window_progress
from instep.sync.models import (
    LEASE_DURATION,
    PLAN_LIFETIME,
    ClerkListReader,
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
FINDINGS_RETENTION = 14 * DAY
CHANGED_SINCE_MARGIN = 600 * SECOND
RESUME_WINDOW = DAY
ROLE_REFRESH_INTERVAL = HOUR
PROGRESS_INTERVAL = SECOND
SYNC_BUSY = lazy_gettext("Another sync is running. Only one runs at a time; try again when it has ended.")
UNEXPECTED_FAILURE = lazy_gettext("An unexpected error occurred; see the log.")
PLAN_OF_OTHER_INSTANCE = lazy_gettext("This plan was created for another Clerk instance. Create a new one.")


def _ignore(_: object) -> None:
    pass


def _bind_nothing(_conn: Conn, instance_id: str, *, now: int) -> str:
    return instance_id


def _never_rebound(_conn: Conn) -> int:
    return 0


@dataclass(frozen=True)
class SyncService:
    """Check, plan, apply, backfill and apply recent changes.

    `find_bound_instance` returns the Clerk instance of this database (None: not known yet), `bind_instance` stores the
    secret key's, `find_rebound_at` returns the time of the last rebinding. `find_newest_event_at` returns the time at
    which the newest applied delivery was received. `on_organizations_changed` gets the ids of changed organizations;
    `on_run_changed` is called when a run starts, progresses or ends. The parameter `run_id` of each method names the
    requested run that it executes (see jobs.RunQueue); without it a new run is created.
    """

    db: Database
    source: ClerkListReader
    writer: ClerkWriter
    clock: Clock
    policy: FieldOwnership = field(default_factory=FieldOwnership)
    find_bound_instance: Callable[[Conn], str | None] = _ignore
    bind_instance: Callable[..., str] = _bind_nothing
    find_rebound_at: Callable[[Conn], int] = _never_rebound
    find_newest_event_at: Callable[[Conn], int | None] = _ignore
    on_organizations_changed: Callable[[set[str]], None] = _ignore
    on_run_changed: Callable[[], None] = lambda: None
    roles: "RoleReader | None" = None

    async def check(self, *, actor: str, on_progress: ProgressCallback = _ignore, run_id: str | None = None) -> Run:
        """Report every difference, however many there are, and change nothing.

        Raises SyncRefusedError (key of another instance), SyncBusyError, ClerkUnavailableError, ClerkRejectedError.
        """
        async with hold_lease(self.db, self.clock) as lease, self._record_run("check", actor, lease, run_id) as run:
            return await self._scan(run, lease, on_progress)

    async def plan(
        self,
        *,
        actor: str,
        allow_gone: int | None = None,
        on_progress: ProgressCallback = _ignore,
        run_id: str | None = None,
    ) -> Run:
        """Store the changes that would be applied, sealed by a hash and valid for 15 minutes.

        `allow_gone` is the number of deletions of each kind that may be applied. A plan with more is created as well,
        with the code `fuse`.

        Raises as `check`, and SyncRefusedError where Clerk's lists are incomplete or more than 100,000 rows differ.
        """
        wish = {} if allow_gone is None else {"allow_gone": allow_gone}
        async with (
            hold_lease(self.db, self.clock) as lease,
            self._record_run("plan", actor, lease, run_id, wish=wish) as run,
        ):
            return await self._scan(run, lease, on_progress, allow_gone)

    async def apply(
        self,
        plan_id: str,
        *,
        actor: str,
        chosen: Sequence[int] | None = None,
        allow_gone: int | None = None,
        on_progress: ProgressCallback = _ignore,
        run_id: str | None = None,
    ) -> Run:
        """Apply a plan, or the rows with the chosen numbers. `allow_gone` overrides the plan's own.

        1. Check that the plan is unchanged and not expired, and that it does not delete more than allowed.
        2. Check each row's precondition again, and each deletion also in Clerk.
        3. Write in small transactions, each with its audit entries.

        Raises SyncRefusedError, SyncBusyError, ClerkUnavailableError.
        """
        async with hold_lease(self.db, self.clock) as lease:
            plan = await self._require_applicable_plan(plan_id)
            async with self._record_run("apply", actor, lease, run_id, plan_id=plan_id) as run:
                await self._check_instance()
                allowed = plan.wish.get("allow_gone") if allow_gone is None else allow_gone
                excess = await self.db.read(explain_deletion_excess, plan_id, chosen=chosen, allowed=allowed)
                if excess:
                    raise SyncRefusedError(excess, code="fuse")
                recorder = self._make_progress_recorder(run, lease, on_progress)
                applier = PlanApplier(
                    db=self.db,
                    source=self.source,
                    writer=self.writer,
                    policy=self.policy,
                    clock=self.clock,
                    plan_id=plan_id,
                    lease=lease,
                    actor=actor,
                    on_progress=recorder.record,
                    chosen=None if chosen is None else frozenset(chosen),
                )
                async with recorder.save_periodically():
                    counts = await applier.run(plan.differences if chosen is None else len(chosen))
                self.on_organizations_changed(applier.changed_organization_ids)
                return await self._finish(run, lease, counts=counts)

    async def backfill(
        self,
        *,
        actor: str,
        kinds: Sequence[EntityKind] = ENTITY_KINDS,
        on_progress: ProgressCallback = _ignore,
        run_id: str | None = None,
    ) -> Run:
        """Import everything of these kinds, resuming an interrupted backfill. Deletes nothing."""
        async with hold_lease(self.db, self.clock) as lease:
            interrupted = await self._find_interrupted()
            progress = interrupted.progress if interrupted else {}
            async with self._record_run("first", actor, lease, run_id, progress=progress) as run:
                await self._check_instance()
                recorder = self._make_progress_recorder(run, lease, on_progress)
                writer = BackfillWriter(
                    db=self.db,
                    clerk=self.writer,
                    clock=self.clock,
                    run_id=run.id,
                    lease=lease,
                    actor=actor,
                    windows=decode_window_progress(run.progress),
                )
                backfill = Backfill(
                    db=self.db, source=self.source, writer=writer, on_progress=recorder.record, kinds=kinds
                )
                async with recorder.save_periodically():
                    await backfill.run()
                return await self._finish(run, lease, counts=dict(writer.counts), totals=backfill.totals)

    async def needs_backfill(self) -> bool:
        """Return whether the mirror is empty, or the last backfill was interrupted and can be resumed."""
        if await self.db.read(snapshot.is_mirror_empty):
            return True
        return await self._find_interrupted() is not None

    async def apply_recent_changes(self, *, actor: str, since: int | None = None, run_id: str | None = None) -> Run:
        """Apply the users that Clerk changed since then (Unix ms), or since the newest applied event."""
        async with hold_lease(self.db, self.clock) as lease, self._record_run("changed", actor, lease, run_id) as run:
            await self._check_instance()
            newest = await self.db.read(self.find_newest_event_at) if since is None else since
            if newest is None:
                text = lazy_gettext("No webhook has been applied here yet. Run: instep sync apply")
                raise SyncRefusedError(text, code="no_event")
            return await self._finish(
                run, lease, counts=await self._apply_changed_users(run, lease, newest - CHANGED_SINCE_MARGIN)
            )

    async def _apply_changed_users(self, run: Run, lease: SyncLease, since: int) -> dict[str, int]:
        fetched = written = 0
        while page := await self.source.list_changed(offset=fetched):
            recent = [it for it in page if it.version >= since]
            written += await self._apply_users(recent, run, lease)
            fetched += len(page)
            if len(recent) < len(page):
                break
        return {"looked_at": fetched, "applied": written}

    async def _apply_users(self, users: Sequence[Observation], run: Run, lease: SyncLease) -> int:
        """Apply these users. Those marked as absent here are fetched once more before they are restored."""
        refetches, written = await self.db.write(self._reconcile, [RefetchResult(it) for it in users], run, lease)
        if not refetches:
            return written
        results = match_refetch_results(refetches, await self.writer.refetch(refetches))
        return written + (await self.db.write(self._reconcile, list(results.values()), run, lease))[1]

    def _reconcile(
        self, conn: Conn, results: Sequence[RefetchResult], run: Run, lease: SyncLease
    ) -> tuple[list[NeedsRefetch], int]:
        """Reconcile in one transaction; return what must be fetched again, and the number of changes."""
        now = self.clock()
        repository.renew_lease(conn, lease, now=now)
        unit_of_work = open_unit_of_work(conn, [it.state for it in results])
        decisions = [unit_of_work.reconcile_refetched(it) for it in results]
        changed = [it for it in decisions if isinstance(it, Change)]
        self.on_organizations_changed(apply_unit_of_work(conn, unit_of_work, now=now))
        entries = [
            build_change_entry(it, unit_of_work, actor=run.actor, cause=run.id, action="changed") for it in changed
        ]
        record_entries(conn, [*entries, *build_joined_entries(unit_of_work.local_memberships)], now=now)
        return [it for it in decisions if isinstance(it, NeedsRefetch)], len(changed)

    async def _scan(
        self, run: Run, lease: SyncLease, on_progress: ProgressCallback, allow_gone: int | None = None
    ) -> Run:
        """Compare both sides; seal the findings where they are a plan."""
        await self._check_instance()
        recorder = self._make_progress_recorder(run, lease, on_progress)
        scan = Scan(
            db=self.db,
            source=self.source,
            policy=self.policy,
            clock=self.clock,
            run_id=run.id,
            lease=lease,
            started_at=run.started_at,
            on_progress=recorder.record,
            refetch=self.writer.refetch,
            is_check=run.kind == "check",
        )
        try:
            async with recorder.save_periodically():
                counts = await scan.run()
        finally:
            totals = msgspec.to_builtins(scan.totals)
            await self.db.write(repository.update_run, run.id, lease, {"totals": totals}, now=self.clock())
        sealed: dict[str, object] = {}
        if run.kind == "plan":
            now = self.clock()
            sealed = {"hash": await self.db.read(repository.hash_plan, run.id), "expires_at": now + PLAN_LIFETIME}
            excess = await self.db.read(explain_deletion_excess, run.id, chosen=None, allowed=allow_gone)
            sealed |= {"reason": str(excess), "code": "fuse"} if excess else {}
        return await self._finish(run, lease, counts=counts, **sealed)

    async def _check_instance(self) -> None:
        """Compare the secret key's instance with this database's; bind the database where none is known.

        Raises SyncRefusedError where they differ.
        """
        theirs = await self.source.find_instance()
        if theirs is None:
            return
        ours = await self.db.read(self.find_bound_instance) or await self.db.write(self._bind_instance, theirs)
        if ours != theirs:
            text = lazy_gettext(
                "The secret key belongs to %(theirs)s, and this database to %(ours)s. Nothing was read or changed.",
                theirs=theirs,
                ours=ours,
            )
            raise SyncRefusedError(text, code="wrong_instance")

    def _bind_instance(self, conn: Conn, theirs: str) -> str:
        return self.bind_instance(conn, theirs, now=self.clock())

    async def _find_interrupted(self) -> Run | None:
        """Return the backfill that can be resumed; never one of another instance."""
        since = max(self.clock() - RESUME_WINDOW, await self.db.read(self.find_rebound_at))
        return await self.db.read(_find_interrupted_backfill, since=since)

    async def _require_applicable_plan(self, plan_id: str) -> Run:
        """Return the plan. Raises SyncRefusedError where it can't be applied."""
        plan = await self.db.read(repository.find_stored_run, plan_id)
        if plan is None or plan.kind != "plan":
            raise SyncRefusedError(lazy_gettext("There is no plan %(id)s.", id=plan_id), code="no_plan", status=404)
        if plan.state != "done" or plan.hash is None:
            text = lazy_gettext("This plan was not finished: %(reason)s", reason=plan.reason or plan.state)
            raise SyncRefusedError(text, code="bad_plan")
        if not is_in_future(plan.expires_at or 0, self.clock(), PLAN_LIFETIME):
            text = lazy_gettext("This plan is older than 15 minutes. Create a new one.")
            raise SyncRefusedError(text, code="plan_expired")
        if await self.db.read(self.find_rebound_at) >= (plan.ended_at or 0):
            raise SyncRefusedError(PLAN_OF_OTHER_INSTANCE, code="plan_expired")
        if await self.db.read(repository.hash_plan, plan_id) != plan.hash:
            raise SyncRefusedError(lazy_gettext("This plan was changed after it was created."), code="plan_changed")
        return plan

    @asynccontextmanager
    async def _record_run(
        self, kind: RunKind, actor: str, lease: SyncLease, run_id: str | None, **more: Any
    ) -> AsyncIterator[Run]:
        """Store a run that starts; store its failure with the reason."""
        now = self.clock()
        about: dict[str, Any] = {"id": run_id or new_id("syn"), "kind": kind, "state": "running", "actor": actor}
        run = Run(**about, **more, impersonator=get_impersonator(actor), started_at=now, changed_at=now)
        await self.db.write(repository.start_run, run, lease, is_requested=run_id is not None)
        await self.db.write(repository.delete_old_findings, before=now - FINDINGS_RETENTION)
        self.on_run_changed()
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
        except Exception:  # a bug: a run left in state "running" would be taken for an interrupted one and resumed
            with suppress(InstepError):
                await self._fail(run, lease, "failed", PermanentError(UNEXPECTED_FAILURE, code="broke"))
            raise

    async def _read_roles(self) -> None:
        """Read the instance's roles before a run; a failure is logged and does not stop the run."""
        if self.roles is None:
            return
        try:
            await self.roles.read()
        except InstepError as error:
            log.warning("roles_read_failed", error=str(error))

    async def _fail(self, run: Run, lease: SyncLease, state: str, error: InstepError) -> None:
        code = error.code if isinstance(error, PermanentError) else "temporary"
        log.warning("sync_run_failed", run=run.id, kind=run.kind, state=state, code=code, reason=describe_error(error))
        if code != "overtaken":
            now = self.clock()
            values = {"state": state, "reason": str(error), "code": code, "ended_at": now}
            await self.db.write(repository.update_run, run.id, lease, values, now=now)
            self.on_run_changed()

    async def _finish(self, run: Run, lease: SyncLease, **values: object) -> Run:
        now = self.clock()
        await self.db.write(repository.update_run, run.id, lease, {"state": "done", "ended_at": now, **values}, now=now)
        ended = await self.db.read(repository.find_stored_run, run.id)
        assert ended is not None  # noqa: S101 (written just now)
        self.on_run_changed()
        return ended

    def _make_progress_recorder(self, run: Run, lease: SyncLease, on_progress: ProgressCallback) -> "ProgressRecorder":
        return ProgressRecorder(
            db=self.db,
            clock=self.clock,
            run_id=run.id,
            lease=lease,
            on_progress=on_progress,
            on_saved=self.on_run_changed,
        )


def _find_interrupted_backfill(conn: Conn, *, since: int) -> Run | None:
    """Return the last backfill if it did not complete and was active since then."""
    last = repository.list_stored_runs(conn, kinds=["first"], limit=5)
    started = [it for it in last if it.progress or it.state == "done"]
    can_resume = bool(started) and started[0].state in ("running", "stopped", "failed")
    return started[0] if can_resume and started[0].changed_at >= since else None


@asynccontextmanager
async def hold_lease(db: Database, clock: Clock) -> AsyncIterator[SyncLease]:
    """Hold the exclusive right to sync. Raises SyncBusyError. A process that dies blocks others for up to a minute."""
    lease = await db.write(_take_lease, new_id("syn"), clock=clock)
    if lease is None:
        raise SyncBusyError(SYNC_BUSY, retry_after=LEASE_DURATION / SECOND)
    renewal = asyncio.create_task(_renew_lease(db, lease, clock))
    try:
        yield lease
    finally:
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        await db.write(repository.release_lease, lease)


def _take_lease(conn: Conn, holder: str, *, clock: Clock) -> SyncLease | None:
    return repository.take_lease(conn, holder, now=clock())


async def _renew_lease(db: Database, lease: SyncLease, clock: Clock) -> None:
    while True:
        await asyncio.sleep(LEASE_DURATION / SECOND / 4)
        try:
            await db.write(repository.renew_lease, lease, now=clock())
        except InstepError as error:  # the run's own writes will fail as well
            log.warning("sync_lease_renewal_failed", error=describe_error(error))


@dataclass
class ProgressRecorder:
    """Forwards a run's progress, and stores it once a second. `on_saved` is called after each write."""

    db: Database
    clock: Clock
    run_id: str
    lease: SyncLease
    on_progress: ProgressCallback
    on_saved: Callable[[], None]
    _last: SyncProgress | None = None
    _saved: SyncProgress | None = None
    _started_at: int = 0
    _started_with: int = 0

    def record(self, progress: SyncProgress) -> None:
        """Note and forward the present progress."""
        if self._last is None or self._last.kind != progress.kind:
            self._started_at, self._started_with = self.clock(), progress.done
        self._last = progress
        self.on_progress(progress)

    @asynccontextmanager
    async def save_periodically(self) -> AsyncIterator[None]:
        """Store the progress once a second within the context."""
        task = asyncio.create_task(self._save_forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def save(self) -> None:
        """Store the progress unless it is stored already: kind, done, total, start time and start value."""
        last = self._last
        if last is None or last is self._saved:
            return
        stage = {
            "kind": last.kind,
            "done": last.done,
            "total": last.total,
            "begun_at": self._started_at,
            "begun_with": self._started_with,
        }
        await self.db.write(repository.update_run, self.run_id, self.lease, {"stage": stage}, now=self.clock())
        self._saved = last
        self.on_saved()

    async def _save_forever(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL / SECOND)
            try:
                await self.save()
            except InstepError as error:  # the run's own writes will fail as well
                log.warning("sync_progress_not_saved", run=self.run_id, error=describe_error(error))


@dataclass(frozen=True)
class RoleReader:
    """Copies the instance's roles from Clerk to the mirror. `on_change` is called when they differ from before."""

    db: Database
    source: RolesApi
    clock: Clock
    on_change: Callable[[], None] = lambda: None

    async def read(self) -> int:
        """Copy all roles and return their number. Raises ClerkUnavailableError and ClerkRejectedError."""
        found = await self.source.list_roles()
        if await self.db.write(roles.replace_roles, found, now=self.clock()):
            self.on_change()
        return len(found.roles)

    async def read_when_due(self) -> None:
        """Copy the roles if they were not copied within the last hour. Raises as `read`."""
        if await self.db.read(self._is_due):
            await self.read()

    def _is_due(self, conn: Conn) -> bool:
        last = roles.find_last_listed_at(conn)
        return last is None or not 0 <= self.clock() - last < ROLE_REFRESH_INTERVAL
