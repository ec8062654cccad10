"""Whatever there is to do is begun at once, in whichever process it came up; a notice that is lost costs a second."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from instep.app import worker as worker_module
from instep.app.worker import Worker
from instep.kit.db import Db
from instep.kit.errors import TemporaryError
from instep.kit.live import Live
from instep.kit.relay import Relay
from instep.sync.model import TOPIC

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
    monkeypatch.setattr(worker_module, "LOOK_EVERY", 3_600.0)


@asynccontextmanager
async def working(live: Live) -> AsyncIterator[tuple[Worker, Done, Done]]:
    """A worker that has looked at everything once and found nothing: itself, its inbox and its syncs."""
    inbox, sync = Done(), Done()
    worker = Worker(inbox, Done(), live, (), sync.run_once)  # type: ignore[arg-type]
    worker.start()
    for it in (inbox, sync):
        await it.until(lambda it=it: it.looks > 0)  # type: ignore[misc]
    yield worker, inbox, sync
    await worker.stop()


@asynccontextmanager
async def joined(url: str, *lives: Live) -> AsyncIterator[None]:
    """Processes on one PostgreSQL."""
    db = Db(url)
    relays = [Relay(db, live) for live in lives]
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
    async with working(Live()) as (worker, inbox, _):
        await does(inbox, worker.wake)


@pytest.mark.usefixtures("never_looks")
async def test_what_arrives_where_nobody_works_is_worked_at_once_elsewhere(postgres_url: str) -> None:
    here, there = Live(), Live()
    idle = Worker(Done(), Done(), here)  # type: ignore[arg-type]
    async with joined(postgres_url, here, there), working(there) as (_, inbox, _):
        await does(inbox, idle.wake)


@pytest.mark.usefixtures("never_looks")
async def test_who_works_what_arrived_here_tells_no_other_process() -> None:
    live, told = Live(), []
    live.relay = told.append
    async with working(live) as (worker, inbox, _):
        await does(inbox, worker.wake)
    assert told == []


@pytest.mark.usefixtures("never_looks")
async def test_a_sync_that_is_asked_for_at_one_replica_begins_at_once_at_another(postgres_url: str) -> None:
    here, there = Live(), Live()
    async with joined(postgres_url, here, there), working(there) as (_, _, sync):
        await does(sync, lambda: here.publish([TOPIC]))


async def test_without_any_notice_it_is_found_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOOK_EVERY", 0.01)
    async with working(Live()) as (_, inbox, sync):
        for it in (inbox, sync):
            await does(it, lambda: None)


@pytest.mark.parametrize("failure", [TemporaryError("Not now."), ZeroDivisionError()], ids=["foreseen", "a fault"])
async def test_a_failure_ends_nothing(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(worker_module, "LOOK_EVERY", 0.01)
    async with working(Live()) as (_, inbox, _):
        inbox.failure = failure
        await inbox.until(lambda: inbox.failure is None)
        await does(inbox, lambda: None)
