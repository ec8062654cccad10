"""Build the sync services from the settings, and tune the interpreter for sync commands."""

import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog

from instep.app.config import Settings, load_settings
from instep.app.database import make_clerk_rate_limiter, make_db, make_ownership_policy
from instep.app.scheduler import PeriodicTask
from instep.clerk import parsing
from instep.clerk.client import ClerkClient
from instep.console.attention_pages import ATTENTION_TOPIC as ATTENTION
from instep.core.clock import MINUTE, SECOND, Clock, is_recent, now
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, describe_error
from instep.core.schema_migrations import check_schema
from instep.mirror.instance_binding import bind_instance, find_bound_instance, find_rebound_at
from instep.sync import repository
from instep.sync.apply import ClerkWriter
from instep.sync.backfill import create_deferred_indexes
from instep.sync.jobs import FreshnessMonitor, RunQueue
from instep.sync.models import SYNC_TOPIC, SyncBusyError
from instep.sync.service import RoleReader, SyncService
from instep.webhooks import repository as webhooks_repository
from instep.webhooks.processor import DeliveryProcessor

log = structlog.get_logger(__name__)
FRESHNESS_INTERVAL = 5 * MINUTE
MAX_CHECK_POLL = 10 * MINUTE
SWITCH_INTERVAL = 0.0005  # seconds; the interpreter's default is ten times that
GC_THRESHOLD = 50_000  # allocations between collections: a page of results is thousands of objects without a cycle


@dataclass(frozen=True)
class SyncServices:
    """Sync, its request queue, the freshness monitor and the delivery processor."""

    sync: SyncService
    run_queue: RunQueue
    freshness: FreshnessMonitor
    delivery_processor: DeliveryProcessor
    check_interval: int
    role_reader: RoleReader

    def periodic_tasks(self) -> tuple[PeriodicTask, ...]:
        """Return the periodic tasks of every process: instance binding, freshness, scheduled check and roles."""
        return (
            PeriodicTask(
                "instance", FRESHNESS_INTERVAL / SECOND, self.delivery_processor.instance_binder.verify, first=0.0
            ),
            PeriodicTask("freshness", FRESHNESS_INTERVAL / SECOND, self.check_freshness),
            PeriodicTask("check", _get_check_poll_seconds(self.check_interval), self.check_when_due),
            PeriodicTask("roles", FRESHNESS_INTERVAL / SECOND, self.role_reader.read_when_due, first=1.0),
        )

    async def check_when_due(self) -> None:
        """Create indexes that a backfill left deferred; then check, unless there was a check within the interval."""
        if not await self.sync.db.read(repository.is_lease_taken, now=self.sync.clock()):
            await create_deferred_indexes(self.sync.db)
        now = self.sync.clock()
        last = await self.sync.db.read(_find_last_check_at, now=now)
        if not self.check_interval or (last is not None and is_recent(last, now, self.check_interval)):
            return
        if await self.sync.needs_backfill():
            return  # before the first sync everything differs
        try:
            run = await self.sync.check(actor="system")
        except SyncBusyError:
            return
        log.info("sync_checked", run=run.id, differences=run.differences, counts=run.counts)

    async def check_freshness(self) -> None:
        """Check the webhook freshness, and log a warning."""
        found = await self.freshness.check()
        if found.warning:
            log.warning(
                "webhook_events_missing",
                behind=found.behind,
                newest_event_at=found.newest_event_at,
                warning=found.warning,
            )


def _get_check_poll_seconds(every: int) -> float:
    """Return how often to look whether a check is due that runs `every` so many milliseconds (0: never).

    Six times as often, between every minute and every ten: an idle database is left alone meanwhile.
    """
    return max(MINUTE, min(MAX_CHECK_POLL, every // 6 if every else MAX_CHECK_POLL)) / SECOND


def make_sync_services(
    settings: Settings, db: Database, clerk: ClerkClient, clock: Clock, publish: Callable[[set[str]], None]
) -> SyncServices:
    """Build the services of sync. Raises SettingsError."""
    source, policy = clerk.make_scanner(), make_ownership_policy(settings)
    find_newest_event_at = webhooks_repository.find_newest_applied_at
    roles = RoleReader(db=db, source=clerk, clock=clock)
    sync = SyncService(
        db=db,
        source=source,
        writer=ClerkWriter(clerk),
        clock=clock,
        policy=policy,
        find_bound_instance=find_bound_instance,
        bind_instance=bind_instance,
        find_rebound_at=find_rebound_at,
        find_newest_event_at=find_newest_event_at,
        on_organizations_changed=publish,
        on_run_changed=lambda: publish({SYNC_TOPIC}),
        roles=roles,
    )
    freshness = FreshnessMonitor(
        db=db,
        source=source,
        clock=clock,
        find_newest_event_at=find_newest_event_at,
        find_first_event_at=webhooks_repository.find_first_received_at,
        policy=policy,
        on_change=lambda: publish({ATTENTION, SYNC_TOPIC}),
    )
    processor = DeliveryProcessor(
        db=db,
        clerk=clerk,
        parse=parsing.parse_webhook,
        on_change=lambda result: publish(result.touched),
        clock=clock,
        read_roles=roles.read,
    )
    return SyncServices(
        sync=sync,
        run_queue=RunQueue(sync, _make_freshness_check(freshness)),
        freshness=freshness,
        delivery_processor=processor,
        check_interval=settings.instep_sync_every * MINUTE,
        role_reader=roles,
    )


def _make_freshness_check(freshness: FreshnessMonitor) -> Callable[[], Awaitable[None]]:
    """Return a freshness check that runs after each requested run, so that an outdated warning disappears."""

    async def check() -> None:
        try:
            await freshness.check()
        except InstepError as error:
            log.warning("freshness_check_failed", error=describe_error(error))

    return check


@asynccontextmanager
async def open_sync_services() -> AsyncIterator[SyncServices]:
    """Open the services of sync from the settings, for commands that need nothing else.

    Raises SettingsError, SchemaOutdatedError.
    """
    settings = load_settings()
    secret_key = settings.clerk_secret_key
    db = make_db(settings)
    pacer = make_clerk_rate_limiter(settings)
    clerk = ClerkClient(
        secret_key.get_secret_value() if secret_key else None, api_url=settings.clerk_api_url, rate_limiter=pacer
    )
    try:
        check_schema(db.engine)
        yield make_sync_services(settings, db, clerk, now, lambda _: None)
    finally:
        await clerk.close()
        db.close()


def _find_last_check_at(conn: Conn, *, now: int) -> int | None:
    last = repository.list_stored_runs(conn, kinds=["check", "plan"], limit=1, as_of=now)
    return last[0].started_at if last else None


@contextmanager
def tune_interpreter() -> Iterator[None]:
    """Shorten thread switches and delay garbage collection while one thread reads and another writes.

    A thread that returns from a statement waits for the interpreter until the other thread's switch interval ends: 5 ms
    is longer than most statements. Existing objects are excluded from garbage collection.
    """
    before, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(before)
