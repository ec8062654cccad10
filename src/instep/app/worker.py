"""Background worker: processes deliveries, operations, sync requests and periodic tasks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import sqlalchemy as sa
import structlog
from msgspec import Struct, structs

from instep.app.scheduler import PeriodicTask, run_periodically
from instep.core.clock import MINUTE, SECOND, Clock, ClockRollbackDetector, monotonic_now, now
from instep.core.db import Conn
from instep.core.errors import InstepError, describe_error
from instep.core.pubsub import PubSub
from instep.operations import repository
from instep.operations.executor import OperationExecutor
from instep.sync import repository as sync_repository
from instep.sync.models import SYNC_TOPIC as SYNC
from instep.webhooks import repository as webhooks_repository
from instep.webhooks.processor import BATCH_SIZE, DeliveryProcessor

log = structlog.get_logger(__name__)
CLOCK_POLL_INTERVAL = 1.0
PULL_IN_INTERVAL = 10 * MINUTE


@dataclass
class ClockRollbackMonitor:
    """Pulls in at the start, when the clock is seen to go back, and every ten minutes.

    The last is for a clock that went back while no worker ran, or on another machine. Each of `pull_in` returns how
    many rows it has pulled in; `wake` is called when there were any.
    """

    clock: Clock
    clamp_due_times: Sequence[Callable[[], Awaitable[int]]]
    wake: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Watch until cancelled; no query is made between two pulls."""
        steps, pulled_at = ClockRollbackDetector(self.clock), None
        while True:
            if has_gone_back := steps.has_gone_back():
                log.warning("clock_went_back")
            if pulled_at is None or has_gone_back or monotonic_now() - pulled_at >= PULL_IN_INTERVAL:
                pulled_at = monotonic_now() if await self._pull_in() else None
            await asyncio.sleep(CLOCK_POLL_INTERVAL)

    async def _pull_in(self) -> bool:
        """Return whether all of it could be done; a failure is logged, and tried again at the next look."""
        try:
            count = sum([await pull_in() for pull_in in self.clamp_due_times])
        except InstepError as error:
            log.warning("worker_waits", part="clock", error=describe_error(error))
            return False
        except Exception:
            log.exception("worker_failed", part="clock")
            return False
        if count:
            log.warning("pulled_in", rows=count)
            self.wake()
        return True


class DueTimes(Struct, frozen=True):
    """When the next delivery, operation and run of sync are due (Unix milliseconds); None where none waits."""

    inbox: int | None
    operations: int | None
    sync: int | None


def find_due_times(conn: Conn) -> DueTimes:
    """Read all three in one query."""
    queries = (webhooks_repository.NEXT_DUE_AT_QUERY, repository.NEXT_DUE_AT_QUERY, sync_repository.OLDEST_UNFINISHED)
    return DueTimes(*conn.execute(sa.select(*(it.scalar_subquery() for it in queries))).one())


DELIVERY_RECEIVED_TOPIC = "arrived"
OPERATION_DEFERRED_TOPIC = "operations-deferred"
POLL_INTERVAL = 1.0
IDLE_POLL_INTERVAL = 20.0


"""Seconds between two looks of an idle process that hears every notice."""


BATCHING_THRESHOLD, BATCHING_DELAY = 8, 0.05


@dataclass
class Worker:
    """Works the inbox until stopped, whenever `live` tells that something arrived, or is due.

    Open operations, and runs of sync that were asked for, have loops of their own, so that a slow Clerk never holds
    the inbox up. `due_times` reads what is due next (see find_due_times); without it each loop looks every second.
    `hears_all` returns whether notices of every other process reach this one at present.
    """

    work: DeliveryProcessor
    runner: OperationExecutor
    live: PubSub
    periodic_tasks: Sequence[PeriodicTask] = ()
    sync: Callable[[], Awaitable[int]] | None = None
    due_times: Callable[[], Awaitable[DueTimes]] | None = None
    is_fully_subscribed: Callable[[], bool] = lambda: False
    clock: Clock = now
    _recheck_event: asyncio.Event = field(default_factory=asyncio.Event)
    watch: ClockRollbackMonitor | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Something is in the inbox: for this worker where it runs, else for those of other processes."""
        tell = self.live.publish_local if self._tasks else self.live.publish
        tell([DELIVERY_RECEIVED_TOPIC])

    def start(self) -> None:
        """Begin, on the running event loop."""
        arrived, reopened, asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        runs = [
            _set_on_topic(self.live, DELIVERY_RECEIVED_TOPIC, arrived),
            self._repeat("inbox", self._work_inbox, arrived),
            self._repeat("operations", self.runner.resume_due, reopened),
            *(run_periodically(it) for it in self.periodic_tasks),
        ]
        if self.watch is not None:
            runs.append(self.watch.run())
        if self.sync is not None:
            runs += [_set_on_topic(self.live, SYNC, asked), self._repeat("sync", self.sync, asked)]
        if self.due_times is not None:
            wakes = {"inbox": arrived, "operations": reopened, "sync": asked}
            runs += [
                _set_on_topic(self.live, OPERATION_DEFERRED_TOPIC, self._recheck_event),
                self._watch(self.due_times, wakes),
            ]
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
        if BATCHING_THRESHOLD <= claimed < BATCH_SIZE:
            await asyncio.sleep(BATCHING_DELAY)
        return claimed

    async def _repeat(self, name: str, run_once: Callable[[], Awaitable[int]], awake: asyncio.Event) -> None:
        """Run again and again; rest until `awake` is set where there was nothing to do.

        A failure is logged, never ends it, and is given a second.
        """
        while True:
            try:
                if await run_once():
                    self._recheck_event.set()
                    continue
            except InstepError as error:
                log.warning("worker_waits", part=name, error=describe_error(error))
                await asyncio.sleep(POLL_INTERVAL)
            except Exception:
                log.exception("worker_failed", part=name)
                await asyncio.sleep(POLL_INTERVAL)
            await _wait_for_event(awake, None if self.due_times is not None else POLL_INTERVAL)

    async def _watch(self, due_times: Callable[[], Awaitable[DueTimes]], wakes: Mapping[str, asyncio.Event]) -> None:
        """Wake each loop whose work is due; what a loop has done, or an operation put off, is followed by a look."""
        while True:
            pause = POLL_INTERVAL
            try:
                pause = self._wake_due(await due_times(), wakes)
            except InstepError as error:
                log.warning("worker_waits", part="due times", error=describe_error(error))
            except Exception:
                log.exception("worker_failed", part="due times")
            await asyncio.sleep(min(pause, POLL_INTERVAL))
            await _wait_for_event(self._recheck_event, pause - POLL_INTERVAL)

    def _wake_due(self, due: DueTimes, wakes: Mapping[str, asyncio.Event]) -> float:
        """Wake the loops that something is due for; return the seconds until the next look.

        A run of sync may be left over, or under way elsewhere, for long: it makes nobody look more often.
        """
        at = self.clock()
        times: dict[str, int] = {name: time for name, time in structs.asdict(due).items() if time is not None}
        for name in (name for name, time in times.items() if time <= at):
            wakes[name].set()
        if not self.is_fully_subscribed():
            return POLL_INTERVAL
        waits = [(time - at) / SECOND for name, time in times.items() if name != "sync"]
        return max(POLL_INTERVAL, min([IDLE_POLL_INTERVAL, *waits]))


async def _wait_for_event(awake: asyncio.Event, seconds: float | None) -> None:
    """Wait until `awake` is set, for `seconds` at most (None: without a limit), and clear it."""
    if seconds is None or seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await awake.wait()
    awake.clear()


async def _set_on_topic(live: PubSub, topic: str, awake: asyncio.Event) -> None:
    async for _ in live.listen(topic):
        awake.set()
