"""Whatever there is to do is begun at once, in whichever process it came up; a notice that is lost costs a second."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from instep.app import worker as app_worker
from instep.app.database import DueTimes
from instep.app.worker import Worker
from instep.core.clock import Millis
from instep.core.db import Database
from instep.core.errors import TemporaryError
from instep.core.pubsub import PostgresRelay, PubSub
from instep.sync.models import SYNC_TOPIC

pytestmark = pytest.mark.anyio
PATIENCE = 20


class Done:
    """Something that is run once for each time that it is asked for; `failure` is raised instead, once."""

    def __init__(self) -> None:
        self.left, self.polls = 0, 0
        self.failure: Exception | None = None
        self._changed = asyncio.Condition()

    async def run_once(self) -> int:
        self.polls += 1
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
def without_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """No loop polls: only a notification wakes it."""
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 3_600.0)


@asynccontextmanager
async def working(pubsub: PubSub) -> AsyncIterator[tuple[Worker, Done, Done]]:
    """A worker that has looked at everything once and found nothing: itself, its deliveries and its syncs."""
    deliveries, sync = Done(), Done()
    worker = Worker(deliveries, Done(), pubsub, (), sync.run_once)  # type: ignore[arg-type]
    worker.start()
    for it in (deliveries, sync):
        await it.until(lambda it=it: it.polls > 0)  # type: ignore[misc]
    yield worker, deliveries, sync
    await worker.stop()


@asynccontextmanager
async def joined(url: str, *lives: PubSub) -> AsyncIterator[None]:
    """Processes on one PostgreSQL."""
    db = Database(url)
    relays = [PostgresRelay(db, pubsub) for pubsub in lives]
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


@pytest.mark.usefixtures("without_polling")
async def test_a_delivery_received_here_is_processed_immediately() -> None:
    async with working(PubSub()) as (worker, deliveries, _):
        await does(deliveries, worker.wake)


@pytest.mark.usefixtures("without_polling")
async def test_a_delivery_received_by_a_process_without_worker_is_processed_elsewhere(postgres_url: str) -> None:
    here, there = PubSub(), PubSub()
    idle = Worker(Done(), Done(), here)  # type: ignore[arg-type]
    async with joined(postgres_url, here, there), working(there) as (_, deliveries, _):
        await does(deliveries, idle.wake)


@pytest.mark.usefixtures("without_polling")
async def test_a_process_with_a_worker_notifies_no_other_process() -> None:
    pubsub = PubSub()
    told: list[Iterable[str]] = []
    pubsub.relay = told.append
    async with working(pubsub) as (worker, deliveries, _):
        await does(deliveries, worker.wake)
    assert told == []


@pytest.mark.usefixtures("without_polling")
async def test_a_sync_requested_at_one_replica_starts_immediately_at_another(postgres_url: str) -> None:
    here, there = PubSub(), PubSub()
    async with joined(postgres_url, here, there), working(there) as (_, _, sync):
        await does(sync, lambda: here.publish([SYNC_TOPIC]))


async def test_without_notifications_work_is_found_by_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.01)
    async with working(PubSub()) as (_, deliveries, sync):
        for it in (deliveries, sync):
            await does(it, lambda: None)


@pytest.mark.parametrize("failure", [TemporaryError("Not now."), ZeroDivisionError()], ids=["foreseen", "a fault"])
async def test_a_failure_ends_nothing(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.01)
    async with working(PubSub()) as (_, deliveries, _):
        deliveries.failure = failure
        await deliveries.until(lambda: deliveries.failure is None)
        await does(deliveries, lambda: None)


async def test_an_idle_subscribed_worker_polls_at_most_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    polls, waited = 0, 0.0
    is_enough = asyncio.Event()

    async def find_due_times() -> DueTimes:
        nonlocal polls
        polls += 1
        if polls > 50:
            is_enough.set()
        return DueTimes(None, None, None)

    async def wait(wake_event: asyncio.Event, seconds: float | None) -> None:
        nonlocal waited
        if seconds is None:
            await wake_event.wait()
        else:
            waited += seconds
            await asyncio.sleep(0)

    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(app_worker, "_wait_for_event", wait)
    idle = [Done(), Done(), Done()]
    worker = Worker(idle[0], idle[1], PubSub(), (), idle[2].run_once, find_due_times, lambda: True)  # type: ignore[arg-type]
    worker.start()
    await asyncio.wait_for(is_enough.wait(), PATIENCE)
    await worker.stop()
    assert waited >= 10 * (polls - 1)
    assert [it.polls for it in idle] == [1, 1, 1], "no loop polls for itself"


@pytest.mark.parametrize("part", ["deliveries", "operations", "sync"])
async def test_due_work_wakes_its_own_loop(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(app_worker, "POLL_INTERVAL", 0.01)
    loops = {name: Done() for name in ("deliveries", "operations", "sync")}
    due = DueTimes(**{name: 1 if name == part else None for name in loops})

    async def find_due_times() -> DueTimes:
        return due

    worker = Worker(
        loops["deliveries"],  # type: ignore[arg-type]
        loops["operations"],  # type: ignore[arg-type]
        PubSub(),
        (),
        loops["sync"].run_once,
        find_due_times,
    )
    worker.start()
    await loops[part].until(lambda: loops[part].polls > 3)
    await worker.stop()
    assert {name for name, done in loops.items() if done.polls > 1} == {part}


async def test_due_work_is_polled_in_time() -> None:
    worker = Worker(Done(), Done(), PubSub(), is_fully_subscribed=lambda: True, clock=lambda: Millis(10_000))  # type: ignore[arg-type]
    wake_events = {name: asyncio.Event() for name in ("deliveries", "operations", "sync")}
    assert worker._wake_due(DueTimes(13_000, None, None), wake_events) == 3.0
    assert not wake_events["deliveries"].is_set()
    assert worker._wake_due(DueTimes(13_000, 9_000, None), wake_events) == app_worker.POLL_INTERVAL
    assert wake_events["operations"].is_set()
