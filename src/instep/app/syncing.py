"""Sync with what it needs, from the settings, and what of it runs by the clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from instep.access.attention import TOPIC as ATTENTION
from instep.app.config import Settings, load_settings
from instep.app.database import make_db, make_policy
from instep.app.pacing import make_pacer
from instep.app.worker import Chore
from instep.clerk import wire
from instep.clerk.client import ClerkClient
from instep.inbox import store
from instep.inbox.instance import bind, find_bound, find_rebound_at
from instep.inbox.work import Work
from instep.kit.clock import MINUTE, SECOND, Clock, is_within, now
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError, described
from instep.kit.schema import check
from instep.sync import store as sync_store
from instep.sync.asked import Asked
from instep.sync.first import make_held
from instep.sync.fresh import Fresh
from instep.sync.model import TOPIC, Busy
from instep.sync.roles import RoleReader
from instep.sync.run import Sync
from instep.sync.writes import Writing

log = structlog.get_logger(__name__)
FRESH_EVERY = 5 * MINUTE


@dataclass(frozen=True)
class Syncing:
    """Sync, what a page asked of it, and the freshness of the webhook."""

    sync: Sync
    asked: Asked
    fresh: Fresh
    work: Work
    every: int
    roles: RoleReader

    def chores(self) -> tuple[Chore, ...]:
        """What every process does for itself: the instance of the secret key, the look at the webhook, the roles."""
        return (
            Chore("instance", FRESH_EVERY / SECOND, self.work.binding.verify, first=0.0),
            Chore("freshness", FRESH_EVERY / SECOND, self.look_when_due),
            Chore("roles", FRESH_EVERY / SECOND, self.roles.read_when_due, first=1.0),
        )

    async def check_when_due(self) -> None:
        """What a first sync left undone; then the check on the timer, unless somebody made one within the time."""
        if not await self.sync.db.read(sync_store.is_held, now=self.sync.clock()):
            await make_held(self.sync.db)
        now = self.sync.clock()
        last = await self.sync.db.read(_last_check, now=now)
        if not self.every or (last is not None and is_within(last, now, self.every)):
            return
        if await self.sync.is_empty():
            return  # before the first sync everything would differ
        try:
            run = await self.sync.check(actor="system")
        except Busy:
            return
        log.info("sync_checked", run=run.id, differences=run.differences, counts=run.counts)

    async def look_when_due(self) -> None:
        """The look at the webhook's freshness."""
        found = await self.fresh.look()
        if found.words:
            log.warning("webhook_quiet", behind=found.behind, newest_event_at=found.newest_event_at, words=found.words)


def make_syncing(
    settings: Settings, db: Db, clerk: ClerkClient, clock: Clock, touched: Callable[[set[str]], None]
) -> Syncing:
    """Put it together. Raises BadSettings."""
    everything, policy = clerk.everything(), make_policy(settings)
    newest = store.find_newest_applied
    roles = RoleReader(db=db, source=clerk, clock=clock)
    sync = Sync(
        db=db,
        source=everything,
        writes=Writing(clerk),
        clock=clock,
        policy=policy,
        instance=find_bound,
        bind=bind,
        rebound_at=find_rebound_at,
        newest_event=newest,
        touched=touched,
        news=lambda: touched({TOPIC}),
        roles=roles,
    )
    fresh = Fresh(
        db=db,
        source=everything,
        clock=clock,
        newest_event=newest,
        first_event=store.find_first_received,
        policy=policy,
        news=lambda: touched({ATTENTION, TOPIC}),
    )
    work = Work(
        db=db,
        directory=clerk,
        read=wire.say,
        told=lambda worked: touched(worked.touched),
        clock=clock,
        read_roles=roles.read,
    )
    return Syncing(sync, Asked(sync, _looking(fresh)), fresh, work, settings.instep_sync_every * MINUTE, roles)


def _looking(fresh: Fresh) -> Callable[[], Awaitable[None]]:
    """After a run of somebody's, the webhook is looked at again: the notice may go."""

    async def look() -> None:
        try:
            await fresh.look()
        except InstepError as error:
            log.warning("webhook_not_looked_at", error=described(error))

    return look


@asynccontextmanager
async def open_syncing() -> AsyncIterator[Syncing]:
    """Sync alone, from the settings, for commands that need nothing else. Raises BadSettings, SchemaOutdated."""
    settings = load_settings()
    held = settings.clerk_secret_key
    db = make_db(settings)
    pacer = make_pacer(settings)
    clerk = ClerkClient(held.get_secret_value() if held else None, api_url=settings.clerk_api_url, pacer=pacer)
    try:
        check(db.engine)
        yield make_syncing(settings, db, clerk, now, lambda _: None)
    finally:
        await clerk.close()
        db.close()


def _last_check(conn: Conn, *, now: int) -> int | None:
    last = sync_store.list_runs(conn, kinds=["check", "plan"], limit=1, now=now)
    return last[0].started_at if last else None
