"""What runs by itself: the inbox, worked as soon as something is in it."""

import asyncio
from dataclasses import dataclass, field

import structlog

from instep.inbox.work import Work
from instep.kit.errors import InstepError

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0


@dataclass
class Worker:
    """Works the inbox until stopped. `wake` says that something arrived; it looks every second anyway."""

    work: Work
    _awake: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something is in the inbox."""
        self._awake.set()

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._task = asyncio.create_task(self._run(), name="instep-worker")

    async def stop(self) -> None:
        """End after the batch that is being worked; nothing is lost by a harder end either."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._awake.clear()
            try:
                if await self.work.run_once():
                    continue
            except InstepError as error:
                log.warning("inbox_stopped", error=str(error))
                await asyncio.sleep(LOOK_EVERY)
                continue
            except Exception:
                log.exception("inbox_failed")
                await asyncio.sleep(LOOK_EVERY)
                continue
            await self._doze()

    async def _doze(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._awake.wait()
        except TimeoutError:
            return
