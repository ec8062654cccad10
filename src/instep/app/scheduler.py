"""Periodic tasks of a process: the scheduled sync check, freshness, roles and the cleanup of expired data."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from msgspec import Struct

from instep.auth.repository import delete_stale_sessions
from instep.core.clock import DAY, HOUR, SECOND, Clock, is_recent
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, describe_error
from instep.mirror.instance_binding import find_fact, set_fact
from instep.webhooks.repository import delete_processed_before

log = structlog.get_logger(__name__)
RETENTION = 30 * DAY
CLEANUP_INTERVAL = DAY
CLEANUP_BATCH_SIZE = 5_000
CLEANED_UP_AT_FACT = "cleaned_up_at"


class PeriodicTask(Struct, frozen=True):
    """A task that a process runs every `every` seconds; a failure is logged, and the next run comes as usual.

    `first`: seconds until the first run, where that is not `every`. Every replica runs its own tasks, so a task that
    must run once for all of them decides by the database whether it is due.
    """

    name: str
    every: float
    run: Callable[[], Awaitable[object]]
    first: float | None = None


async def run_periodically(task: PeriodicTask) -> None:
    """Run a task until cancelled."""
    wait = task.every if task.first is None else task.first
    while True:
        await asyncio.sleep(wait)
        wait = task.every
        try:
            await task.run()
        except InstepError as error:
            log.warning("periodic_task_postponed", task=task.name, error=describe_error(error))
        except Exception:
            log.exception("periodic_task_failed", task=task.name)


@dataclass(frozen=True)
class ExpiredDataCleanup:
    """Deletes processed deliveries and stale sessions older than 30 days."""

    db: Database
    clock: Clock

    async def delete_expired(self) -> None:
        """Delete in small transactions. Until then a replay from Clerk's dashboard may reuse a delivery id."""
        before = self.clock() - RETENTION
        sessions = await self.db.write(delete_stale_sessions, before=before)
        deliveries = 0
        while count := await self.db.write(delete_processed_before, before=before, limit=CLEANUP_BATCH_SIZE):
            deliveries += count
        log.info("expired_data_deleted", sessions=sessions, deliveries=deliveries)


class ScheduledJob(Struct, frozen=True):
    """A job with a schedule. `cron` has five fields, in UTC; `max_interval`: maximum seconds between two runs."""

    name: str
    cron: str
    run: Callable[[], Awaitable[object]]
    max_interval: int = 24 * 3600


def make_scheduled_jobs(db: Database, clock: Clock, sync_services: SyncServices) -> list[ScheduledJob]:
    """Return all scheduled jobs."""
    minutes = _get_check_minutes(sync_services.check_interval)
    return [
        ScheduledJob(
            "instep-sync-check",
            f"*/{minutes} * * * *",
            sync_services.check_when_due,
            max_interval=minutes * MINUTE // SECOND,
        ),
        ScheduledJob("instep-forget", "17 3 * * *", ExpiredDataCleanup(db, clock).delete_expired),
    ]


def _get_check_minutes(check_interval: int) -> int:
    """Return the minutes between two looks whether a check with this interval (milliseconds) is due.

    One sixth of the interval, between one minute and ten, so that an idle database is queried rarely.
    """
    minutes = check_interval // MINUTE if check_interval else MAX_CHECK_MINUTES
    return max(1, min(MAX_CHECK_MINUTES, minutes // 6))


TABLE_PREFIX = "instep_"
RESTART_DELAY = 5.0
STOP_TIMEOUT = 3.0
RESCHEDULE_INTERVAL = 600.0
RESCHEDULE_SLACK = 60  # seconds
RESCHEDULE_DELAYED_JOBS = f"""UPDATE {TABLE_PREFIX}pgqueuer_schedules SET next_run = NOW()
WHERE entrypoint = %(name)s AND next_run > NOW() + %(longest)s"""  # noqa: S608 (composed of constants)


@dataclass
class Scheduler:
    """Runs jobs on schedule until stopped; a job that fails is logged and runs again at its next time."""

    db: Database
    jobs: Sequence[ScheduledJob]
    _task: asyncio.Task[None] | None = None
    _is_stopped: bool = False
    _managers: list[SchedulerManager] = field(default_factory=list)

    def start(self) -> None:
        """Start on the running event loop."""
        self._task = asyncio.create_task(self._run_forever(), name="instep-scheduler")

    async def stop(self) -> None:
        """Stop; a running job gets `STOP_TIMEOUT` seconds."""
        self._is_stopped = True
        for manager in self._managers:
            manager.shutdown.set()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT if self._managers else 0)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run_forever(self) -> None:
        while not self._is_stopped:
            try:
                await self._run()
            except (psycopg.Error, PgqException, RuntimeError) as error:
                log.warning("scheduler_failed", error=str(error).strip())
            if not self._is_stopped:  # PgQueuer swallows a cancellation, so the flag is checked
                await asyncio.sleep(RESTART_DELAY)

    async def _run(self) -> None:
        if self.db.is_sqlite:
            await self._manage(InMemoryQueries(driver=InMemoryDriver()))
            return
        async with await connect_unpooled(make_libpq_url(self.db.engine.url)) as conn:
            rescheduling = asyncio.create_task(self._reschedule_delayed_jobs(conn))
            try:
                await self._manage(make_queries(conn))
            finally:
                rescheduling.cancel()
                await asyncio.gather(rescheduling, return_exceptions=True)

    async def _reschedule_delayed_jobs(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Run jobs now that were delayed because the clock of PostgreSQL went back."""
        while True:
            for job in self.jobs:
                try:
                    await conn.execute(
                        RESCHEDULE_DELAYED_JOBS,
                        {"name": job.name, "longest": timedelta(seconds=job.max_interval + RESCHEDULE_SLACK)},
                    )
                except psycopg.Error as error:  # PgQueuer gets the same error and restarts
                    log.warning("scheduler_reschedule_failed", error=str(error).strip())
            await asyncio.sleep(RESCHEDULE_INTERVAL)

    async def _manage(self, queries: Any) -> None:
        manager = SchedulerManager(queries)
        for job in self.jobs:
            manager.schedule(job.name, job.cron)(_log_failures(job))
        self._managers = [manager]
        await manager.run()


def _log_failures(job: ScheduledJob) -> Callable[[Any], Awaitable[None]]:
    async def run(_schedule: Any) -> None:
        try:
            await job.run()
        except InstepError as error:
            log.warning("scheduled_job_failed", job=job.name, error=describe_error(error))

    return run


def make_queries(conn: psycopg.AsyncConnection[Any]) -> Queries:
    """Return PgQueuer's queries, on tables with the prefix instep_."""
    names = DBSettings(prefix=TABLE_PREFIX)
    return Queries(
        PsycopgDriver(conn),
        qbe=qb.QueryBuilderEnvironment(settings=names),
        qbq=qb.QueryQueueBuilder(settings=names),
        qbs=qb.QuerySchedulerBuilder(settings=names),
    )


async def install_tables(db: Database) -> None:
    """Upgrade PgQueuer's own tables; part of `instep migrate`. Does nothing on SQLite."""
    if db.is_sqlite:
        return
    async with await connect_unpooled(make_libpq_url(db.engine.url)) as conn:
        await make_queries(conn).apply_upgrade()
