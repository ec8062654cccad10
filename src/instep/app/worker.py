"""Background worker: processes deliveries, operations, sync requests and periodic tasks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from msgspec import structs

from instep.app.database import DueTimes
from instep.app.scheduler import PeriodicTask, run_periodically
from instep.core.clock import MINUTE, SECOND, Clock, ClockRollbackDetector, monotonic_now, now
from instep.core.errors import InstepError, describe_error
from instep.core.pubsub import PubSub
from instep.operations.executor import OperationExecutor
from instep.sync.models import SYNC_TOPIC
from instep.webhooks.processor import BATCH_SIZE, DeliveryProcessor

log = structlog.get_logger(__name__)
CLOCK_POLL_INTERVAL = 1.0
CLAMP_INTERVAL = 10 * MINUTE
DELIVERY_RECEIVED_TOPIC = "arrived"
OPERATION_DEFERRED_TOPIC = "operations-deferred"
POLL_INTERVAL = 1.0
IDLE_POLL_INTERVAL = 20.0  # seconds between two polls of an idle process that receives every notification
BATCHING_THRESHOLD, BATCHING_DELAY = 8, 0.05


@dataclass
class Worker:
    """Processes deliveries until stopped, whenever `pubsub` notifies that one was received or is due.

    Open operations and requested sync runs have loops of their own, so that a slow Clerk never delays deliveries.
    `find_due_times` reads the next due times (see repository.find_due_times); without it each loop polls every second.
    `is_fully_subscribed` returns whether notifications of all other processes currently arrive here.
    """

    delivery_processor: DeliveryProcessor
    executor: OperationExecutor
    pubsub: PubSub
    periodic_tasks: Sequence[PeriodicTask] = ()
    run_sync_once: Callable[[], Awaitable[int]] | None = None
    find_due_times: Callable[[], Awaitable[DueTimes]] | None = None
    is_fully_subscribed: Callable[[], bool] = lambda: False
    clock: Clock = now
    _recheck_event: asyncio.Event = field(default_factory=asyncio.Event)
    clock_monitor: "ClockRollbackMonitor | None" = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def wake(self) -> None:
        """Notify of a new delivery: this worker if it runs, else those of other processes."""
        notify = self.pubsub.publish_local if self._tasks else self.pubsub.publish
        notify([DELIVERY_RECEIVED_TOPIC])

    def start(self) -> None:
        """Start on the running event loop."""
        received, deferred, requested = asyncio.Event(), asyncio.Event(), asyncio.Event()
        coroutines = [
            _set_on_topic(self.pubsub, DELIVERY_RECEIVED_TOPIC, received),
            self._repeat("deliveries", self._process_deliveries, received),
            self._repeat("operations", self.executor.resume_due, deferred),
            *(run_periodically(it) for it in self.periodic_tasks),
        ]
        if self.clock_monitor is not None:
            coroutines.append(self.clock_monitor.run())
        if self.run_sync_once is not None:
            coroutines += [
                _set_on_topic(self.pubsub, SYNC_TOPIC, requested),
                self._repeat("sync", self.run_sync_once, requested),
            ]
        if self.find_due_times is not None:
            wake_events = {"deliveries": received, "operations": deferred, "sync": requested}
            coroutines += [
                _set_on_topic(self.pubsub, OPERATION_DEFERRED_TOPIC, self._recheck_event),
                self._wake_loops(self.find_due_times, wake_events),
            ]
        self._tasks = [asyncio.create_task(it) for it in coroutines]

    async def stop(self) -> None:
        """Stop after the present batch; a harder stop loses nothing either."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _process_deliveries(self) -> int:
        """Process one batch.

        While many arrive and few are pending, wait for some more: a transaction costs about the same for few and many.
        """
        claimed = await self.delivery_processor.run_once()
        if BATCHING_THRESHOLD <= claimed < BATCH_SIZE:
            await asyncio.sleep(BATCHING_DELAY)
        return claimed

    async def _repeat(self, name: str, run_once: Callable[[], Awaitable[int]], wake_event: asyncio.Event) -> None:
        """Run repeatedly; wait for `wake_event` where there was nothing to do.

        A failure is logged, never ends the loop, and is followed by a pause of a second.
        """
        while True:
            try:
                if await run_once():
                    self._recheck_event.set()
                    continue
            except InstepError as error:
                log.warning("worker_waiting", part=name, error=describe_error(error))
                await asyncio.sleep(POLL_INTERVAL)
            except Exception:
                log.exception("worker_failed", part=name)
                await asyncio.sleep(POLL_INTERVAL)
            await _wait_for_event(wake_event, None if self.find_due_times is not None else POLL_INTERVAL)

    async def _wake_loops(
        self, find_due_times: Callable[[], Awaitable[DueTimes]], wake_events: Mapping[str, asyncio.Event]
    ) -> None:
        """Wake each loop whose work is due; read the due times again after work was done or an operation deferred."""
        while True:
            pause = POLL_INTERVAL
            try:
                pause = self._wake_due(await find_due_times(), wake_events)
            except InstepError as error:
                log.warning("worker_waiting", part="due_times", error=describe_error(error))
            except Exception:
                log.exception("worker_failed", part="due_times")
            await asyncio.sleep(min(pause, POLL_INTERVAL))
            await _wait_for_event(self._recheck_event, pause - POLL_INTERVAL)

    def _wake_due(self, due: DueTimes, wake_events: Mapping[str, asyncio.Event]) -> float:
        """Wake the loops with due work; return the seconds until the next poll.

        A sync run may be left over, or run elsewhere, for long: it does not shorten the interval.
        """
        at = self.clock()
        times: dict[str, int] = {name: time for name, time in structs.asdict(due).items() if time is not None}
        for name in (name for name, time in times.items() if time <= at):
            wake_events[name].set()
        if not self.is_fully_subscribed():
            return POLL_INTERVAL
        waits = [(time - at) / SECOND for name, time in times.items() if name != "sync"]
        return max(POLL_INTERVAL, min([IDLE_POLL_INTERVAL, *waits]))


@dataclass
class ClockRollbackMonitor:
    """Clamps due times at start, when the clock goes back, and every ten minutes.

    The last is for a clock that went back while no worker was running, or on another machine. Each of `clamp_due_times`
    returns the number of rows it changed; `wake` is called when there were any.
    """

    clock: Clock
    clamp_due_times: Sequence[Callable[[], Awaitable[int]]]
    wake: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Monitor until cancelled; there is no query between two clampings."""
        detector, clamped_at = ClockRollbackDetector(self.clock), None
        while True:
            if has_gone_back := detector.has_gone_back():
                log.warning("clock_went_back")
            if clamped_at is None or has_gone_back or monotonic_now() - clamped_at >= CLAMP_INTERVAL:
                clamped_at = monotonic_now() if await self._clamp() else None
            await asyncio.sleep(CLOCK_POLL_INTERVAL)

    async def _clamp(self) -> bool:
        """Return whether everything was clamped; a failure is logged, and retried at the next poll."""
        try:
            count = sum([await clamp() for clamp in self.clamp_due_times])
        except InstepError as error:
            log.warning("worker_waiting", part="clock", error=describe_error(error))
            return False
        except Exception:
            log.exception("worker_failed", part="clock")
            return False
        if count:
            log.warning("due_times_clamped", rows=count)
            self.wake()
        return True


async def _wait_for_event(wake_event: asyncio.Event, seconds: float | None) -> None:
    """Wait until `wake_event` is set, for `seconds` at most (None: without a limit), and clear it."""
    if seconds is None or seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wake_event.wait()
    wake_event.clear()


async def _set_on_topic(pubsub: PubSub, topic: str, wake_event: asyncio.Event) -> None:
    async for _ in pubsub.listen(topic):
        wake_event.set()
