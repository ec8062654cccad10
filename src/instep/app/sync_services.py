"""Build the sync services from the settings, and tune the interpreter for sync commands."""

import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog

from instep.app.config import Settings, load_settings
from instep.app.database import make_clerk_rate_limiter, make_db, make_ownership_policy
from instep.app.worker import PeriodicTask
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


@dataclass(frozen=True)
class SyncServices:
    """Sync, what a page asked of it, and the freshness of the webhook."""

    sync: SyncService
    asked: RunQueue
    fresh: FreshnessMonitor
    work: DeliveryProcessor
    every: int
    roles: RoleReader

    def periodic_tasks(self) -> tuple[PeriodicTask, ...]:
        """What every process does for itself: the instance of the secret key, the look at the webhook, the roles."""
        return (
            PeriodicTask("instance", FRESHNESS_INTERVAL / SECOND, self.work.instance_binder.verify, first=0.0),
            PeriodicTask("freshness", FRESHNESS_INTERVAL / SECOND, self.check_freshness),
            PeriodicTask("roles", FRESHNESS_INTERVAL / SECOND, self.roles.read_when_due, first=1.0),
        )

    async def check_when_due(self) -> None:
        """What a first sync left undone; then the check on the timer, unless somebody made one within the time."""
        if not await self.sync.db.read(repository.is_lease_held, now=self.sync.clock()):
            await create_deferred_indexes(self.sync.db)
        now = self.sync.clock()
        last = await self.sync.db.read(_find_last_check_at, now=now)
        if not self.every or (last is not None and is_recent(last, now, self.every)):
            return
        if await self.sync.is_empty():
            return  # before the first sync everything would differ
        try:
            run = await self.sync.check(actor="system")
        except SyncBusyError:
            return
        log.info("sync_checked", run=run.id, differences=run.differences, counts=run.counts)

    async def check_freshness(self) -> None:
        """The look at the webhook's freshness."""
        found = await self.fresh.look()
        if found.words:
            log.warning("webhook_quiet", behind=found.behind, newest_event_at=found.newest_event_at, words=found.words)


def make_sync_services(
    settings: Settings, db: Database, clerk: ClerkClient, clock: Clock, touched: Callable[[set[str]], None]
) -> SyncServices:
    """Put it together. Raises SettingsError."""
    everything, policy = clerk.everything(), make_ownership_policy(settings)
    newest = webhooks_repository.find_newest_applied_at
    roles = RoleReader(db=db, source=clerk, clock=clock)
    sync = SyncService(
        db=db,
        source=everything,
        writes=ClerkWriter(clerk),
        clock=clock,
        policy=policy,
        instance=find_bound_instance,
        bind=bind_instance,
        rebound_at=find_rebound_at,
        newest_event=newest,
        touched=touched,
        news=lambda: touched({SYNC_TOPIC}),
        roles=roles,
    )
    fresh = FreshnessMonitor(
        db=db,
        source=everything,
        clock=clock,
        newest_event=newest,
        first_event=webhooks_repository.find_first_received_at,
        policy=policy,
        news=lambda: touched({ATTENTION, SYNC_TOPIC}),
    )
    work = DeliveryProcessor(
        db=db,
        clerk=clerk,
        parse=parsing.parse_webhook,
        on_change=lambda worked: touched(worked.touched),
        clock=clock,
        read_roles=roles.read,
    )
    return SyncServices(
        sync, RunQueue(sync, _make_freshness_check(fresh)), fresh, work, settings.instep_sync_every * MINUTE, roles
    )


def _make_freshness_check(fresh: FreshnessMonitor) -> Callable[[], Awaitable[None]]:
    """After a run of somebody's, the webhook is looked at again: the notice may go."""

    async def look() -> None:
        try:
            await fresh.look()
        except InstepError as error:
            log.warning("webhook_not_looked_at", error=describe_error(error))

    return look


@asynccontextmanager
async def open_sync_services() -> AsyncIterator[SyncServices]:
    """Sync alone, from the settings, for commands that need nothing else. Raises SettingsError, SchemaOutdatedError."""
    settings = load_settings()
    held = settings.clerk_secret_key
    db = make_db(settings)
    pacer = make_clerk_rate_limiter(settings)
    clerk = ClerkClient(held.get_secret_value() if held else None, api_url=settings.clerk_api_url, pacer=pacer)
    try:
        check_schema(db.engine)
        yield make_sync_services(settings, db, clerk, now, lambda _: None)
    finally:
        await clerk.close()
        db.close()


def _find_last_check_at(conn: Conn, *, now: int) -> int | None:
    last = repository.list_stored_runs(conn, kinds=["check", "plan"], limit=1, now=now)
    return last[0].started_at if last else None


SWITCH_INTERVAL = 0.0005  # seconds; the interpreter's own is ten times that
GC_THRESHOLD = (
    50_000  # objects made until the garbage collector looks: a page of answers is thousands, and none is a cycle
)


@contextmanager
def tune_interpreter() -> Iterator[None]:
    """Give threads quick turns while everything is read on one and written on another.

    A thread that comes back from a statement waits for the interpreter as long as the other one's turn lasts: 5 ms are
    longer than most statements. What was made before is left out of what the garbage collector looks through.
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
