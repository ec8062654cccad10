"""What runs by itself: the inbox, worked as soon as something is in it, and operations that are still open."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
from msgspec import Struct

from instep.inbox.work import BATCH, Work
from instep.journal.run import Runner
from instep.kit.errors import InstepError

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
BUSY, GATHER = 8, 0.05


class Chore(Struct, frozen=True):
    """Something done again and again, `every` so many seconds; a failure is logged, and waits for the next time."""

    name: str
    every: float
    run: Callable[[], Awaitable[None]]


@dataclass
class Worker:
    """Works the inbox until stopped. `wake` says that something arrived; it looks every second anyway.

    Open operations, and runs of sync that were asked for, are looked at every second beside it, so that a slow Clerk
    never holds the inbox up.
    """

    work: Work
    runner: Runner
    chores: Sequence[Chore] = ()
    sync: Callable[[], Awaitable[int]] | None = None
    _awake: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Something is in the inbox."""
        self._awake.set()

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._tasks = [
            asyncio.create_task(_forever("inbox", self._work_inbox, self._doze), name="instep-inbox"),
            asyncio.create_task(_forever("operations", self.runner.resume_due, _sleep), name="instep-operations"),
            *([asyncio.create_task(_forever("sync", self.sync, _sleep), name="instep-sync")] if self.sync else []),
            *(asyncio.create_task(_again_and_again(it), name=f"instep-{it.name}") for it in self.chores),
        ]

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

    async def _doze(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._awake.wait()
        except TimeoutError:
            pass
        self._awake.clear()


async def _forever(name: str, run_once: Callable[[], Awaitable[int]], rest: Callable[[], Awaitable[None]]) -> None:
    """Run again and again, resting where there was nothing to do; a failure is logged and never ends it."""
    while True:
        try:
            if await run_once():
                continue
        except InstepError as error:
            log.warning("worker_waits", part=name, error=str(error))
            await _sleep()
        except Exception:
            log.exception("worker_failed", part=name)
            await _sleep()
        await rest()


async def _again_and_again(chore: Chore) -> None:
    """Do a chore by the clock, the first time after a while: whoever starts has other things to do."""
    while True:
        await asyncio.sleep(chore.every)
        try:
            await chore.run()
        except InstepError as error:
            log.warning("chore_waits", chore=chore.name, error=str(error))
        except Exception:
            log.exception("chore_failed", chore=chore.name)


async def _sleep() -> None:
    await asyncio.sleep(LOOK_EVERY)
