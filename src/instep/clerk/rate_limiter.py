"""Rate limiter of Backend API calls; permits are leased from a database row shared by all replicas."""

import asyncio
import heapq
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import msgspec
import sqlalchemy as sa
import structlog

from instep.clerk.sliding_window import (
    PERMIT_LIFETIME,
    PermitGrant,
    RateLimit,
    RateLimitState,
    RequestPriority,
    grant_permits,
    pause_permits,
    return_permits,
)
from instep.core.clock import SECOND
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database, limit_database_waits, metadata
from instep.core.db_errors import DatabaseUnavailableError
from instep.core.errors import InstepError, describe_error
from instep.core.sql import upsert_rows
from instep.domain.errors import ClerkUnavailableError

log = structlog.get_logger(__name__)
MAX_LEASE_SIZE = 16
EXTRA_PERMITS = 4
MAX_SLEEP_SECONDS = 1.0
MAX_BLOCKED_WAIT = 5.0
SHARED_ROW_TIMEOUT = 3.0  # seconds that a permit waits for the shared row
SHARED_ROW_RETRY_DELAY = 5.0  # seconds for which it is not asked for after it could not be had
LOCAL_LIMIT_DIVISOR = 10  # a process alone takes this part of the limit: ten replicas stay under it together
MAX_EXPIRED_LEASES = 8  # times in a row that permits came too late to be used
DATABASE_TOO_SLOW_MESSAGE = "the database is too slow, every permit came too late."
RATE_LIMITED_MESSAGE = "Clerk is limiting us. We will try again in {wait:.0f} s; nothing is lost."


class LocalRateLimiter:
    """The pace of this process while the shared row can't be written: a share of the limit that harms nobody.

    Nothing is granted in the first window: what all replicas were granted before may still be under way. Times are
    seconds of the event loop's clock, which never goes back.
    """

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.shared_retry_at = now
        self._limit = RateLimit(max(1, limit.most // LOCAL_LIMIT_DIVISOR), limit.window)
        self._begins = now + limit.cycle / SECOND
        self._spent = RateLimitState()

    def reserve(self, urgency: RequestPriority, want: int, now: float) -> PermitGrant:
        """Return up to `want` permits. Raises DatabaseUnavailableError within the first window."""
        if now < self._begins:
            raise DatabaseUnavailableError(retry_after=self._begins - now)
        self._spent, granted = grant_permits(self._spent, self._limit, urgency, want, int(now * SECOND))
        return granted

    def close(self, seconds: float, now: float) -> None:
        """Grant nothing for so long: Clerk said so."""
        self._spent = pause_permits(self._spent, int(seconds * SECOND), int(now * SECOND))


@dataclass
class ClerkRateLimiter:
    """The permits of one process. `db` is its own, so that a permit waits for no other transaction.

    `waited` hears how many seconds a call waited, `limited` that Clerk turned one away; `asked` counts the questions
    to the shared row.
    """

    db: Database
    limit: RateLimit
    on_wait: Callable[[float], None] = lambda _: None
    limited: Callable[[], None] = lambda: None
    asked: int = 0
    _leased: int = 0
    _lease_slot: int = 0
    _lease_urgency: RequestPriority = RequestPriority.EDIT
    _lease_expires_at: float = 0.0
    _expired_leases: int = 0
    _queue: "list[tuple[RequestPriority, int, asyncio.Future[None]]]" = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)
    _fetching: "asyncio.Task[None] | None" = None
    _wake_event: asyncio.Event = field(default_factory=asyncio.Event)
    _is_ready: bool = False
    _local_limiter: "LocalRateLimiter | None" = None

    async def take(self, urgency: RequestPriority) -> None:
        """Wait for a permit. Raises ClerkUnavailableError where all is closed for long, and nobody ought to wait for that."""
        loop = asyncio.get_running_loop()
        if self._leased and urgency <= self._lease_urgency and loop.time() < self._lease_expires_at:
            self._leased -= 1
            return
        began, place = loop.time(), loop.create_future()
        if self._queue and urgency < self._queue[0][0]:
            self._wake_event.set()
        heapq.heappush(self._queue, (urgency, next(self._numbers), place))
        if self._fetching is None or self._fetching.done():
            self._fetching = loop.create_task(self._fetch())
        await place
        self.on_wait(loop.time() - began)

    async def block_all(self, seconds: float) -> None:
        """Clerk limits us: nobody asks anything for so long, whichever process it is."""
        self._leased = 0
        self.limited()
        try:
            await self._ensure_table()
            await self.db.write(block_shared_permits, int(seconds * SECOND))
        except InstepError as error:
            log.warning("pace_not_kept", error=describe_error(error))
            if self._local_limiter is not None:
                self._local_limiter.close(seconds, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Let go of the database."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        self.db.close()

    async def _ensure_table(self) -> None:
        if self.db.is_sqlite and not self._is_ready:
            await self.db.write(create_table)
        self._is_ready = True

    async def _fetch(self) -> None:
        """Serve whoever waits, until nobody does."""
        while self._queue:
            try:
                await self._serve()
            except Exception as error:  # whatever it is, nobody may wait for ever
                self._refuse(ClerkUnavailableError(f"The pace can't be kept: {error}", is_without_effect=True))

    async def _serve(self) -> None:
        urgency = self._queue[0][0]
        waiting = sum(it[0] == urgency for it in self._queue)
        want = min(MAX_LEASE_SIZE, waiting + (EXTRA_PERMITS if urgency is RequestPriority.EDIT else 0))
        granted, began = await self._reserve(urgency, want)
        if granted.count:
            self._leased, self._lease_slot = granted.count, granted.slot
            self._lease_urgency, self._lease_expires_at = urgency, began + PERMIT_LIFETIME / SECOND
            self._count_expired_lease(is_late=asyncio.get_running_loop().time() >= self._lease_expires_at)
            self._grant_permits()
            return
        self._refuse_late(granted)
        self._wake_event.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(granted.wait / SECOND, MAX_SLEEP_SECONDS) if self._queue else 0):
                await self._wake_event.wait()

    async def _reserve(self, urgency: RequestPriority, want: int) -> tuple[PermitGrant, float]:
        """Permits from the shared row, and when they were asked for; from this process alone while it can't be had."""
        time = asyncio.get_running_loop().time
        began = time()
        unused = self._take_unused_lease(began)
        if self._local_limiter is None or began >= self._local_limiter.shared_retry_at:
            self.asked += 1
            try:
                with limit_database_waits(SHARED_ROW_TIMEOUT):
                    await self._ensure_table()
                    granted = await self.db.write(reserve_shared_permits, self.limit, urgency, want, unused)
            except DatabaseUnavailableError as error:
                log.warning("pace_not_shared", error=describe_error(error))
                self._local_limiter = self._local_limiter or LocalRateLimiter(self.limit, time())
                self._local_limiter.shared_retry_at = time() + SHARED_ROW_RETRY_DELAY
            else:
                self._local_limiter = None
                return granted, began
        began = time()
        return self._local_limiter.reserve(urgency, want, began), began

    def _take_unused_lease(self, now: float) -> PermitGrant:
        """Let go of what is in hand: it goes back, unless it counts no more, or by a clock that was put back since."""
        is_noted = now < self._lease_expires_at + self.limit.window / SECOND
        unused, self._leased = PermitGrant(self._leased if is_noted else 0, slot=self._lease_slot), 0
        return unused

    def _count_expired_lease(self, *, is_late: bool) -> None:
        """Raises TimeoutError where it is always so: asking on would use up the permits of all, and serve nobody."""
        self._expired_leases = self._expired_leases + 1 if is_late else 0
        if self._expired_leases >= MAX_EXPIRED_LEASES:
            self._expired_leases = 0
            raise TimeoutError(DATABASE_TOO_SLOW_MESSAGE)

    def _grant_permits(self) -> None:
        """Permits are good for `LASTS` after they were asked for; those that came too late are lost."""
        while self._queue and self._leased and asyncio.get_running_loop().time() < self._lease_expires_at:
            if self._queue[0][0] > self._lease_urgency:
                return
            place = heapq.heappop(self._queue)[2]
            if not place.done():
                self._leased -= 1
                place.set_result(None)

    def _refuse_late(self, granted: PermitGrant) -> None:
        wait = granted.wait / SECOND
        if granted.is_closed and wait > MAX_BLOCKED_WAIT:
            silence = ClerkUnavailableError(
                RATE_LIMITED_MESSAGE.format(wait=wait), retry_after=wait, is_without_effect=True, status=429
            )
            self._refuse(silence, but=(RequestPriority.BACKFILL,))

    def _refuse(self, silence: ClerkUnavailableError, *, but: Collection[RequestPriority] = ()) -> None:
        """Tell those who wait that they wait in vain, `but` for those who can wait."""
        for urgency, _, place in self._queue:
            if urgency not in but and not place.done():
                place.set_exception(silence)
        self._queue = [it for it in self._queue if it[0] in but]
        heapq.heapify(self._queue)


ROW_NAME = "clerk"
_grants_decoder = msgspec.json.Decoder(RateLimitState)
_database_clock = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)


def reserve_shared_permits(
    conn: Conn, limit: RateLimit, urgency: RequestPriority, want: int, unused: PermitGrant
) -> PermitGrant:
    """Up to `want` permits, for all replicas to see; `unused` ones go back before."""

    def change(spent: RateLimitState, now: int) -> tuple[RateLimitState, PermitGrant]:
        return grant_permits(return_permits(spent, unused.slot, unused.count), limit, urgency, want, now)

    return _update_grants(conn, change)


def block_shared_permits(conn: Conn, wait: int) -> None:
    """Nobody gets a permit for `wait` milliseconds."""
    _update_grants(conn, lambda spent, now: (pause_permits(spent, wait, now), PermitGrant(0)))


def _update_grants(
    conn: Conn, change: Callable[[RateLimitState, int], tuple[RateLimitState, PermitGrant]]
) -> PermitGrant:
    query = sa.select(permits_table.c.spent).where(permits_table.c.name == ROW_NAME).with_for_update()
    kept = conn.execute(query).scalar_one_or_none()
    if kept is None:
        upsert_rows(conn, permits_table, [{"name": ROW_NAME, "spent": "{}"}], key="name")
        kept = conn.execute(query).scalar_one()
    spent, granted = change(_grants_decoder.decode(kept), _read_database_clock(conn))
    written = sa.update(permits_table).where(permits_table.c.name == ROW_NAME)
    conn.execute(written.values(spent=msgspec.json.encode(spent).decode()))
    return granted


def _read_database_clock(conn: Conn) -> int:
    """The database's own time, once the row is ours; on SQLite all who share it are on one machine."""
    if conn.dialect.name == "sqlite":
        return system_now()
    return int(conn.execute(sa.select(_database_clock)).scalar_one())


def create_table(conn: Conn) -> None:
    """Have the table, in a file that has nothing else."""
    permits_table.create(conn, checkfirst=True)


permits_table = sa.Table(
    "instep_pace",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("spent", sa.Text, nullable=False),
    comment="Permits to call Clerk, granted lately to all replicas together. On SQLite in a file beside the database.",
)
