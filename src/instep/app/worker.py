"""What runs by itself: the inbox, runs of sync that were asked for, and operations that are still open.

Each is looked for in its own rows every second; a notice makes that at once, and one that is lost costs a second. Why
no engine carries them: docs/decisions/0008-rows-are-the-queue.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from msgspec import Struct

from instep.inbox.work import BATCH, Work
from instep.journal.run import Runner
from instep.kit.errors import InstepError
from instep.kit.live import Live
from instep.sync.model import TOPIC as SYNC

log = structlog.get_logger(__name__)

ARRIVED = "arrived"
LOOK_EVERY = 1.0
BUSY, GATHER = 8, 0.05


class Chore(Struct, frozen=True):
    """Something done again and again, `every` so many seconds; a failure is logged, and waits for the next time.

    `first`: after how many seconds it is done for the first time, where that is not `every`.
    """

    name: str
    every: float
    run: Callable[[], Awaitable[None]]
    first: float | None = None


@dataclass
class Worker:
    """Works the inbox until stopped, whenever `live` tells that something arrived; it looks every second anyway.

    Open operations, and runs of sync that were asked for, have loops of their own, so that a slow Clerk never holds
    the inbox up.
    """

    work: Work
    runner: Runner
    live: Live
    chores: Sequence[Chore] = ()
    sync: Callable[[], Awaitable[int]] | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Something is in the inbox: for this worker where it runs, else for those of other processes."""
        tell = self.live.tell if self._tasks else self.live.publish
        tell([ARRIVED])

    def start(self) -> None:
        """Begin, on the running event loop."""
        arrived, asked = asyncio.Event(), asyncio.Event()
        runs = [
            _hear(self.live, ARRIVED, arrived),
            _forever("inbox", self._work_inbox, arrived),
            _forever("operations", self.runner.resume_due, asyncio.Event()),
            *(_again_and_again(it) for it in self.chores),
        ]
        if self.sync is not None:
            runs += [_hear(self.live, SYNC, asked), _forever("sync", self.sync, asked)]
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


async def _hear(live: Live, topic: str, awake: asyncio.Event) -> None:
    async for _ in live.listen(topic):
        awake.set()


async def _forever(name: str, run_once: Callable[[], Awaitable[int]], awake: asyncio.Event) -> None:
    """Run again and again; where there was nothing to do, rest until `awake` is set. A failure is logged, never ends
    it, and is given a second."""
    while True:
        try:
            if await run_once():
                continue
        except InstepError as error:
            log.warning("worker_waits", part=name, error=str(error))
            await asyncio.sleep(LOOK_EVERY)
        except Exception:
            log.exception("worker_failed", part=name)
            await asyncio.sleep(LOOK_EVERY)
        await _doze(awake)


async def _doze(awake: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_EVERY):
            await awake.wait()
    except TimeoutError:
        pass
    awake.clear()


async def _again_and_again(chore: Chore) -> None:
    """Do a chore by the clock, the first time after a while: whoever starts has other things to do."""
    wait = chore.every if chore.first is None else chore.first
    while True:
        await asyncio.sleep(wait)
        wait = chore.every
        try:
            await chore.run()
        except InstepError as error:
            log.warning("chore_waits", chore=chore.name, error=str(error))
        except Exception:
            log.exception("chore_failed", chore=chore.name)
