"""What runs by the clock runs once, however many replicas there are, and nothing keeps a process from ending."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from instep.app.scheduler import ScheduledJob, Scheduler, install_tables
from instep.core.db import Database
from instep.core.errors import TemporaryError

pytestmark = pytest.mark.anyio
PATIENCE = 20
EVERY_SECOND = "* * * * * *"


class Ran:
    """Who ran, in order; `enough` once it was so many times."""

    def __init__(self, enough: int) -> None:
        self.by: list[str] = []
        self.enough, self._enough = asyncio.Event(), enough

    def job(self, name: str, *, fails: bool = False) -> ScheduledJob:
        async def run() -> None:
            self.by.append(name)
            if len(self.by) >= self._enough:
                self.enough.set()
            if fails:
                raise TemporaryError("Not now.")

        return ScheduledJob("tick", EVERY_SECOND, run)


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def stopped(stop: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(PATIENCE):
        await stop()


async def test_a_job_runs_on_schedule_and_continues_after_a_failure(database_url: str) -> None:
    db, ran = Database(database_url), Ran(2)
    await install_tables(db)
    timer = Scheduler(db, [ran.job("here", fails=True)])
    timer.start()
    await until(ran.enough)
    await stopped(timer.stop)
    db.close()


async def test_two_replicas_never_run_the_same_tick(postgres_url: str) -> None:
    dbs, ran = [Database(postgres_url), Database(postgres_url)], Ran(3)
    await install_tables(dbs[0])
    await install_tables(dbs[1])
    timers = [Scheduler(db, [ran.job(name)]) for db, name in zip(dbs, ("here", "there"), strict=True)]
    begun = asyncio.get_running_loop().time()
    for timer in timers:
        timer.start()
    await until(ran.enough)
    ticks = asyncio.get_running_loop().time() - begun + 1
    for timer in timers:
        await stopped(timer.stop)
    assert len(ran.by) <= ticks, "one run a second at the most, whoever it is"
    for db in dbs:
        db.close()


async def test_a_process_stops_without_the_scheduler_tables(postgres_url: str) -> None:
    db = Database(postgres_url)
    timer = Scheduler(db, [Ran(1).job("here")])
    timer.start()
    await asyncio.sleep(0)
    await stopped(timer.stop)
    db.close()
