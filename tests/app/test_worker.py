"""Whatever there is to do is begun at once, in whichever process it came up; a notice that is lost costs a second."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from instep.app import worker as app_worker
from instep.app.worker import DueTimes, Worker
from instep.core.db import Database
from instep.core.errors import TemporaryError
from instep.core.pubsub import PostgresRelay, PubSub
from instep.sync.models import SYNC_TOPIC

pytestmark = pytest.mark.anyio
PATIENCE = 20


class Done:
    """Something that is run once for each time that it is asked for; `failure` is raised instead, once."""

    def __init__(self) -> None:
        self.left, self.looks = 0, 0
        self.failure: Exception | None = None
        self._changed = asyncio.Condition()

    async def run_once(self) -> int:
        self.looks += 1
        done, self.left = self.left, 0
        failure, self.failure = self.failure, None
        async with self._changed:
            self._changed.notify_all()
        if failure is not None:
            raise failure
        return done

    resume_due = run_once

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(holds)


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by themselves: only a notice makes them."""
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 3_600.0)


@asynccontextmanager
async def working(live: PubSub) -> AsyncIterator[tuple[Worker, Done, Done]]:
    """A worker that has looked at everything once and found nothing: itself, its inbox and its syncs."""
    inbox, sync = Done(), Done()
    worker = Worker(inbox, Done(), live, (), sync.run_once)  # type: ignore[arg-type]
    worker.start()
    for it in (inbox, sync):
        await it.until(lambda it=it: it.looks > 0)  # type: ignore[misc]
    yield worker, inbox, sync
    await worker.stop()


@asynccontextmanager
async def joined(url: str, *lives: PubSub) -> AsyncIterator[None]:
    """Processes on one PostgreSQL."""
    db = Database(url)
    relays = [PostgresRelay(db, live) for live in lives]
    for it in relays:
        it.start()
        await it.is_listening.wait()
    yield
    for it in relays:
        await it.stop()
    db.close()


async def does(done: Done, ask: Callable[[], Any]) -> None:
    """Something comes up, and is done."""
    done.left = 1
    ask()
    await done.until(lambda: done.left == 0)


@pytest.mark.usefixtures("never_looks")
async def test_what_arrives_here_is_worked_at_once() -> None:
    async with working(PubSub()) as (worker, inbox, _):
        await does(inbox, worker.wake)


@pytest.mark.usefixtures("never_looks")
async def test_what_arrives_where_nobody_works_is_worked_at_once_elsewhere(postgres_url: str) -> None:
    here, there = PubSub(), PubSub()
    idle = Worker(Done(), Done(), here)  # type: ignore[arg-type]
    async with joined(postgres_url, here, there), working(there) as (_, inbox, _):
        await does(inbox, idle.wake)


@pytest.mark.usefixtures("never_looks")
async def test_who_works_what_arrived_here_tells_no_other_process() -> None:
    live, told = PubSub(), []
    live.relay = told.append
    async with working(live) as (worker, inbox, _):
        await does(inbox, worker.wake)
    assert told == []


@pytest.mark.usefixtures("never_looks")
async def test_a_sync_that_is_asked_for_at_one_replica_begins_at_once_at_another(postgres_url: str) -> None:
    here, there = PubSub(), PubSub()
    async with joined(postgres_url, here, there), working(there) as (_, _, sync):
        await does(sync, lambda: here.publish([SYNC_TOPIC]))


async def test_without_any_notice_it_is_found_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.01)
    async with working(PubSub()) as (_, inbox, sync):
        for it in (inbox, sync):
            await does(it, lambda: None)


@pytest.mark.parametrize("failure", [TemporaryError("Not now."), ZeroDivisionError()], ids=["foreseen", "a fault"])
async def test_a_failure_ends_nothing(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.01)
    async with working(PubSub()) as (_, inbox, _):
        inbox.failure = failure
        await inbox.until(lambda: inbox.failure is None)
        await does(inbox, lambda: None)


async def test_an_idle_worker_that_hears_every_notice_looks_at_most_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, waited = 0, 0.0
    is_enough = asyncio.Event()

    async def due_times() -> DueTimes:
        nonlocal looks
        looks += 1
        if looks > 50:
            is_enough.set()
        return DueTimes(None, None, None)

    async def wait(awake: asyncio.Event, seconds: float | None) -> None:
        nonlocal waited
        if seconds is None:
            await awake.wait()
        else:
            waited += seconds
            await asyncio.sleep(0)

    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(app_worker, "_wait_for_event", wait)
    idle = [Done(), Done(), Done()]
    worker = Worker(idle[0], idle[1], PubSub(), (), idle[2].run_once, due_times, lambda: True)  # type: ignore[arg-type]
    worker.start()
    await asyncio.wait_for(is_enough.wait(), PATIENCE)
    await worker.stop()
    assert waited >= 10 * (looks - 1)
    assert [it.looks for it in idle] == [1, 1, 1], "no loop looks for itself"


@pytest.mark.parametrize("part", ["inbox", "operations", "sync"])
async def test_what_is_due_wakes_its_own_loop(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.01)
    loops = {name: Done() for name in ("inbox", "operations", "sync")}
    due = DueTimes(**{name: 1 if name == part else None for name in loops})

    async def due_times() -> DueTimes:
        return due

    worker = Worker(
        loops["inbox"],  # type: ignore[arg-type]
        loops["operations"],  # type: ignore[arg-type]
        PubSub(),
        (),
        loops["sync"].run_once,
        due_times,
    )
    worker.start()
    await loops[part].until(lambda: loops[part].looks > 3)
    await worker.stop()
    assert {name for name, done in loops.items() if done.looks > 1} == {part}


async def test_something_due_soon_is_looked_at_in_time() -> None:
    worker = Worker(Done(), Done(), PubSub(), is_fully_subscribed=lambda: True, clock=lambda: 10_000)  # type: ignore[arg-type]
    wakes = {name: asyncio.Event() for name in ("inbox", "operations", "sync")}
    assert worker._wake_due(DueTimes(13_000, None, None), wakes) == 3.0
    assert not wakes["inbox"].is_set()
    assert worker._wake_due(DueTimes(13_000, 9_000, None), wakes) == app_worker.POLL_INTERVAL
    assert wakes["operations"].is_set()
