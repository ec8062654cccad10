"""What a clock that went back has put off is pulled in: rows are due at times, and nobody looks before."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from instep.kit.clock import MINUTE, Clock, StepWatch, monotonic
from instep.kit.errors import InstepError, described

log = structlog.get_logger(__name__)
LOOK_EVERY = 1.0
PULL_EVERY = 10 * MINUTE


@dataclass
class ClockWatch:
    """Pulls in at the start, when the clock is seen to go back, and every ten minutes.

    The last is for a clock that went back while no worker ran, or on another machine. Each of `pull_in` returns how
    many rows it has pulled in; `wake` is called when there were any.
    """

    clock: Clock
    pull_in: Sequence[Callable[[], Awaitable[int]]]
    wake: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Watch until cancelled; no query is made between two pulls."""
        steps, pulled_at = StepWatch(self.clock), None
        while True:
            if has_gone_back := steps.has_gone_back():
                log.warning("clock_went_back")
            if pulled_at is None or has_gone_back or monotonic() - pulled_at >= PULL_EVERY:
                pulled_at = monotonic() if await self._pull_in() else None
            await asyncio.sleep(LOOK_EVERY)

    async def _pull_in(self) -> bool:
        """Return whether all of it could be done; a failure is logged, and tried again at the next look."""
        try:
            count = sum([await pull_in() for pull_in in self.pull_in])
        except InstepError as error:
            log.warning("worker_waits", part="clock", error=described(error))
            return False
        except Exception:
            log.exception("worker_failed", part="clock")
            return False
        if count:
            log.warning("pulled_in", rows=count)
            self.wake()
        return True
