"""What runs by the clock: PgQueuer's scheduler, one timer for all replicas on PostgreSQL, in memory on SQLite.

A schedule holds no obligation: whatever it starts looks for its work in instep's own tables, so a fault in the engine
costs latency, never data.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from msgspec import Struct
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.inmemory.driver import InMemoryDriver
from pgqueuer.adapters.inmemory.queries import InMemoryQueries
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.sm import SchedulerManager
from pgqueuer.domain.settings import DBSettings
from pgqueuer.errors import PgqException

from instep.kit.database_address import libpq_address
from instep.kit.db import Db
from instep.kit.errors import InstepError, described
from instep.kit.relay import connect

log = structlog.get_logger(__name__)
PREFIX = "instep_"
AGAIN_AFTER = 5.0
PATIENCE = 3.0
KEEP_EVERY = 600.0
SLACK = 60  # seconds
LATE = f"""UPDATE {PREFIX}pgqueuer_schedules SET next_run = NOW()
WHERE entrypoint = %(name)s AND next_run > NOW() + %(longest)s"""  # noqa: S608 (composed of constants)


class Job(Struct, frozen=True):
    """Something to run by the clock. `cron` has five fields, in UTC; `longest`: seconds between two times at most."""

    name: str
    cron: str
    run: Callable[[], Awaitable[object]]
    longest: int = 24 * 3600


@dataclass
class Timer:
    """Runs jobs by the clock until stopped; a job that fails is logged and runs again at its next time."""

    db: Db
    jobs: Sequence[Job]
    _task: asyncio.Task[None] | None = None
    _is_over: bool = False
    _managers: list[SchedulerManager] = field(default_factory=list)

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.create_task(self._forever(), name="instep-timer")

    async def stop(self) -> None:
        """End; a job under way is given `PATIENCE` seconds."""
        self._is_over = True
        for manager in self._managers:
            manager.shutdown.set()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=PATIENCE if self._managers else 0)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _forever(self) -> None:
        while not self._is_over:
            try:
                await self._run()
            except (psycopg.Error, PgqException, RuntimeError) as error:
                log.warning("timer_stopped", error=str(error).strip())
            if not self._is_over:  # the engine swallows a cancellation: ask ourselves
                await asyncio.sleep(AGAIN_AFTER)

    async def _run(self) -> None:
        if self.db.is_sqlite:
            await self._manage(InMemoryQueries(driver=InMemoryDriver()))
            return
        async with await connect(libpq_address(self.db.engine.url)) as conn:
            keeping = asyncio.create_task(self._keep_due(conn))
            try:
                await self._manage(queries_on(conn))
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

    async def _keep_due(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Have jobs run now that the clock of PostgreSQL, when it went back, has put off."""
        while True:
            for job in self.jobs:
                try:
                    await conn.execute(LATE, {"name": job.name, "longest": timedelta(seconds=job.longest + SLACK)})
                except psycopg.Error as error:  # the engine meets the same, and begins anew
                    log.warning("timer_not_watched", error=str(error).strip())
            await asyncio.sleep(KEEP_EVERY)

    async def _manage(self, queries: Any) -> None:
        manager = SchedulerManager(queries)
        for job in self.jobs:
            manager.schedule(job.name, job.cron)(_guarded(job))
        self._managers = [manager]
        await manager.run()


def _guarded(job: Job) -> Callable[[Any], Awaitable[None]]:
    async def run(_schedule: Any) -> None:
        try:
            await job.run()
        except InstepError as error:
            log.warning("job_failed", job=job.name, error=described(error))

    return run


def queries_on(conn: psycopg.AsyncConnection[Any]) -> Queries:
    """PgQueuer's statements, on tables whose names begin with instep_."""
    names = DBSettings(prefix=PREFIX)
    return Queries(
        PsycopgDriver(conn),
        qbe=qb.QueryBuilderEnvironment(settings=names),
        qbq=qb.QueryQueueBuilder(settings=names),
        qbs=qb.QuerySchedulerBuilder(settings=names),
    )


async def install(db: Db) -> None:
    """Bring PgQueuer's own tables to its version; part of `instep migrate`. Nothing to do on SQLite."""
    if db.is_sqlite:
        return
    async with await connect(libpq_address(db.engine.url)) as conn:
        await queries_on(conn).apply_upgrade()
