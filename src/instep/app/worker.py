"""What runs by itself: the inbox, runs of sync that were asked for, and operations that are still open.

One query looks for all of them: every second, or, where notices of other processes are heard, when the next one is due
and at least every 20 seconds. A notice wakes the loop it is for at once. Why no engine carries them:
docs/decisions/0008-rows-are-the-queue.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from msgspec import Struct, structs

from instep.app.clock_watch import ClockWatch
from instep.app.store import DueTimes
from instep.inbox.work import BATCH, Work
from instep.journal.run import Runner
from instep.kit.clock import SECOND, Clock, now
from instep.kit.errors import InstepError, described
from instep.kit.live import Live
from instep.sync.model import TOPIC as SYNC

log = structlog.get_logger(__name__)
ARRIVED = "arrived"
DEFERRED = "operations-deferred"
LOOK_EVERY = 1.0
QUIET = 20.0


"""Seconds between two looks of an idle process that hears every notice."""


BUSY, GATHER = 8, 0.05


class Chore(Struct, frozen=True):
    """Something done again and again, `every` so many seconds; a failure is logged, and waits for the next time.

    `first`: after how many seconds it is done for the first time, where that is not `every`.
    """

    name: str
    every: float
    run: Callable[[], Awaitable[object]]
    first: float | None = None


@dataclass
class Worker:
    """Works the inbox until stopped, whenever `live` tells that something arrived, or is due.

    Open operations, and runs of sync that were asked for, have loops of their own, so that a slow Clerk never holds
    the inbox up. `due_times` reads what is due next (see find_due_times); without it each loop looks every second.
    `hears_all` returns whether notices of every other process reach this one at present.
    """

    work: Work
    runner: Runner
    live: Live
    chores: Sequence[Chore] = ()
    sync: Callable[[], Awaitable[int]] | None = None
    due_times: Callable[[], Awaitable[DueTimes]] | None = None
    hears_all: Callable[[], bool] = lambda: False
    clock: Clock = now
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)
    watch: ClockWatch | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Something is in the inbox: for this worker where it runs, else for those of other processes."""
        tell = self.live.tell if self._tasks else self.live.publish
        tell([ARRIVED])

    def start(self) -> None:
        """Begin, on the running event loop."""
        arrived, reopened, asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        runs = [
            _hear(self.live, ARRIVED, arrived),
            self._repeat("inbox", self._work_inbox, arrived),
            self._repeat("operations", self.runner.resume_due, reopened),
            *(_again_and_again(it) for it in self.chores),
        ]
        if self.watch is not None:
            runs.append(self.watch.run())
        if self.sync is not None:
            runs += [_hear(self.live, SYNC, asked), self._repeat("sync", self.sync, asked)]
        if self.due_times is not None:
            wakes = {"inbox": arrived, "operations": reopened, "sync": asked}
            runs += [_hear(self.live, DEFERRED, self._stirred), self._watch(self.due_times, wakes)]
        self._tasks = [asyncio.create_task(it) for it in runs]

    async def stop(self) -> None:
        """End after the batch that is being worked; nothing is lost by a harder end either."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work_inbox(self) -> int:
        """One batch. While many come and few wait, some more are let gather: a transaction costs about the same for
        few and many."""
        claimed = await self.work.run_once()
        if BUSY <= claimed < BATCH:
            await asyncio.sleep(GATHER)
        return claimed

    async def _repeat(self, name: str, run_once: Callable[[], Awaitable[int]], awake: asyncio.Event) -> None:
        """Run again and again; rest until `awake` is set where there was nothing to do.

        A failure is logged, never ends it, and is given a second.
        """
        while True:
            try:
                if await run_once():
                    self._stirred.set()
                    continue
            except InstepError as error:
                log.warning("worker_waits", part=name, error=described(error))
                await asyncio.sleep(LOOK_EVERY)
            except Exception:
                log.exception("worker_failed", part=name)
                await asyncio.sleep(LOOK_EVERY)
            await _wait(awake, None if self.due_times is not None else LOOK_EVERY)

    async def _watch(self, due_times: Callable[[], Awaitable[DueTimes]], wakes: Mapping[str, asyncio.Event]) -> None:
        """Wake each loop whose work is due; what a loop has done, or an operation put off, is followed by a look."""
        while True:
            pause = LOOK_EVERY
            try:
                pause = self._wake_due(await due_times(), wakes)
            except InstepError as error:
                log.warning("worker_waits", part="due times", error=described(error))
            except Exception:
                log.exception("worker_failed", part="due times")
            await asyncio.sleep(min(pause, LOOK_EVERY))
            await _wait(self._stirred, pause - LOOK_EVERY)

    def _wake_due(self, due: DueTimes, wakes: Mapping[str, asyncio.Event]) -> float:
        """Wake the loops that something is due for; return the seconds until the next look.

        A run of sync may be left over, or under way elsewhere, for long: it makes nobody look more often.
        """
        at = self.clock()
        times: dict[str, int] = {name: time for name, time in structs.asdict(due).items() if time is not None}
        for name in (name for name, time in times.items() if time <= at):
            wakes[name].set()
        if not self.hears_all():
            return LOOK_EVERY
        waits = [(time - at) / SECOND for name, time in times.items() if name != "sync"]
        return max(LOOK_EVERY, min([QUIET, *waits]))


async def _wait(awake: asyncio.Event, seconds: float | None) -> None:
    """Wait until `awake` is set, for `seconds` at most (None: without a limit), and clear it."""
    if seconds is None or seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await awake.wait()
    awake.clear()


async def _hear(live: Live, topic: str, awake: asyncio.Event) -> None:
    async for _ in live.listen(topic):
        awake.set()


async def _again_and_again(chore: Chore) -> None:
    """Do a chore by the clock, the first time after a while: whoever starts has other things to do."""
    wait = chore.every if chore.first is None else chore.first
    while True:
        await asyncio.sleep(wait)
        wait = chore.every
        try:
            await chore.run()
        except InstepError as error:
            log.warning("chore_waits", chore=chore.name, error=described(error))
        except Exception:
            log.exception("chore_failed", chore=chore.name)
