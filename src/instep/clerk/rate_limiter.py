"""Rate limiter of Backend API calls; permits are leased from a database row shared by all replicas."""

import asyncio
import heapq
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count

import msgspec
import sqlalchemy as sa
import structlog
from msgspec import Struct

from instep.core.clock import SECOND
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database, limit_database_waits, metadata
from instep.core.db_errors import DatabaseUnavailableError
from instep.core.errors import InstepError, describe_error
from instep.core.sql import upsert_rows
from instep.domain.errors import ClerkUnavailableError

log = structlog.get_logger(__name__)
PERMIT_LIFETIME = 150  # milliseconds after its request within which a permit may be used
MAX_TRANSIT = 100  # milliseconds that a call may take to arrive at Clerk
SLOT_LENGTH = 20  # milliseconds; grants of one slot are counted together
BACKFILL_BATCH_DELAY = 60  # milliseconds that a backfill waits longer than necessary, to request larger batches
MAX_CLOCK_LEAP = 60_000  # milliseconds; a state further in the future was written before the clock was set back
MAX_PAUSE = 3_600_000  # milliseconds
MAX_LEASE_SIZE = 16
EXTRA_PERMITS = 4
MAX_SLEEP_SECONDS = 1.0
MAX_BLOCKED_WAIT = 5.0  # seconds; a caller that would have to wait longer gets an error, except a backfill
SHARED_ROW_TIMEOUT = 3.0  # seconds that a request for permits waits for the shared row
SHARED_ROW_RETRY_DELAY = 5.0  # seconds until the shared row is tried again after a failure
LOCAL_LIMIT_DIVISOR = 10  # share of the limit of a process without the shared row: ten replicas stay below the limit
MAX_EXPIRED_LEASES = 8  # consecutive leases that expired before they arrived
ROW_NAME = "clerk"
DATABASE_TOO_SLOW_MESSAGE = "the database is too slow, every permit expired before it arrived."
RATE_LIMITED_MESSAGE = "Clerk is limiting requests. We will retry in {wait:.0f} s; nothing is lost."


class RequestPriority(IntEnum):
    """Priority of a request: a change that a person waits for, a refetch for a webhook delivery, anything else."""

    EDIT = 0
    REFETCH = 1
    BACKFILL = 2


class RateLimit(Struct, frozen=True):
    """At most `max_calls` in any `window` (milliseconds)."""

    max_calls: int
    window: int = 10_000

    @property
    def cycle(self) -> int:
        """Milliseconds after the start of its slot when a permit is available again."""
        return self.window + PERMIT_LIFETIME + MAX_TRANSIT + SLOT_LENGTH

    def count_reserved_permits(self, priority: RequestPriority) -> int:
        """Return the number of permits that are reserved for higher priorities."""
        return {
            RequestPriority.EDIT: 0,
            RequestPriority.REFETCH: self.max_calls // 400,
            RequestPriority.BACKFILL: max(1, self.max_calls // 200),
        }[priority]


class RateLimitState(Struct, frozen=True, rename={"backfill_at": "flow_at", "paused_until": "closed_until"}):
    """Grants as (slot, count), oldest first; time up to which the backfill's rate is used; end of a pause.

    Stored as JSON with the names of its first version.
    """

    grants: tuple[tuple[int, int], ...] = ()
    backfill_at: float = 0.0
    paused_until: int = 0


class PermitGrant(Struct, frozen=True):
    """Permits granted in `slot`; if `count` is 0, the next request makes sense in `wait` milliseconds."""

    count: int
    wait: int = 0
    is_paused: bool = False
    slot: int = 0


@dataclass
class ClerkRateLimiter:
    """Rate limiter of one process. `db` is its own, so that it waits for no other transaction.

    `on_wait` is called with the seconds that a call waited, `on_limited` for each response with status 429.
    `request_count` counts requests to the shared row.
    """

    db: Database
    limit: RateLimit
    on_wait: Callable[[float], None] = lambda _: None
    on_limited: Callable[[], None] = lambda: None
    request_count: int = 0
    _leased: int = 0
    _lease_slot: int = 0
    _lease_priority: RequestPriority = RequestPriority.EDIT
    _lease_expires_at: float = 0.0
    _expired_leases: int = 0
    _queue: "list[tuple[RequestPriority, int, asyncio.Future[None]]]" = field(default_factory=list)
    _sequence: "count[int]" = field(default_factory=count)
    _fetching: "asyncio.Task[None] | None" = None
    _wake_event: asyncio.Event = field(default_factory=asyncio.Event)
    _has_table: bool = False
    _local_limiter: "LocalRateLimiter | None" = None

    async def take(self, priority: RequestPriority) -> None:
        """Wait for a permit. Raises ClerkUnavailableError if requests are paused for longer than MAX_BLOCKED_WAIT."""
        loop = asyncio.get_running_loop()
        if self._leased and priority <= self._lease_priority and loop.time() < self._lease_expires_at:
            self._leased -= 1
            return
        began, waiter = loop.time(), loop.create_future()
        if self._queue and priority < self._queue[0][0]:
            self._wake_event.set()
        heapq.heappush(self._queue, (priority, next(self._sequence), waiter))
        if self._fetching is None or self._fetching.done():
            self._fetching = loop.create_task(self._fetch())
        await waiter
        self.on_wait(loop.time() - began)

    async def block_all(self, seconds: float) -> None:
        """Pause all processes for this many seconds, because Clerk limits requests."""
        self._leased = 0
        self.on_limited()
        try:
            await self._ensure_table()
            await self.db.write(block_shared_permits, int(seconds * SECOND))
        except InstepError as error:
            log.warning("clerk_pause_not_shared", error=describe_error(error))
            if self._local_limiter is not None:
                self._local_limiter.pause(seconds, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Stop and close the database."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        self.db.close()

    async def _ensure_table(self) -> None:
        if self.db.is_sqlite and not self._has_table:
            await self.db.write(create_table)
        self._has_table = True

    async def _fetch(self) -> None:
        """Serve waiting calls until there are none."""
        while self._queue:
            try:
                await self._serve_queue()
            except Exception as error:  # any failure must reach the waiting calls
                self._reject(ClerkUnavailableError(f"The rate limiter failed: {error}", is_without_effect=True))

    async def _serve_queue(self) -> None:
        priority = self._queue[0][0]
        waiting = sum(entry[0] == priority for entry in self._queue)
        wanted = min(MAX_LEASE_SIZE, waiting + (EXTRA_PERMITS if priority is RequestPriority.EDIT else 0))
        granted, began = await self._reserve(priority, wanted)
        if granted.count:
            self._leased, self._lease_slot = granted.count, granted.slot
            self._lease_priority, self._lease_expires_at = priority, began + PERMIT_LIFETIME / SECOND
            self._count_expired_lease(is_late=asyncio.get_running_loop().time() >= self._lease_expires_at)
            self._grant_permits()
            return
        self._reject_if_paused(granted)
        self._wake_event.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(granted.wait / SECOND, MAX_SLEEP_SECONDS) if self._queue else 0):
                await self._wake_event.wait()

    async def _reserve(self, priority: RequestPriority, wanted: int) -> tuple[PermitGrant, float]:
        """Reserve permits in the shared row, or locally while it is unavailable; also return the request's time."""
        time = asyncio.get_running_loop().time
        began = time()
        unused = self._take_unused_lease(began)
        if self._local_limiter is None or began >= self._local_limiter.shared_retry_at:
            self.request_count += 1
            try:
                with limit_database_waits(SHARED_ROW_TIMEOUT):
                    await self._ensure_table()
                    granted = await self.db.write(reserve_shared_permits, self.limit, priority, wanted, unused)
            except DatabaseUnavailableError as error:
                log.warning("clerk_rate_limit_not_shared", error=describe_error(error))
                self._local_limiter = self._local_limiter or LocalRateLimiter(self.limit, time())
                self._local_limiter.shared_retry_at = time() + SHARED_ROW_RETRY_DELAY
            else:
                self._local_limiter = None
                return granted, began
        began = time()
        return self._local_limiter.reserve(priority, wanted, began), began

    def _take_unused_lease(self, now: float) -> PermitGrant:
        """Give up the lease and return its unused permits, unless they have left the window."""
        is_noted = now < self._lease_expires_at + self.limit.window / SECOND
        unused, self._leased = PermitGrant(self._leased if is_noted else 0, slot=self._lease_slot), 0
        return unused

    def _count_expired_lease(self, *, is_late: bool) -> None:
        """Count consecutive expired leases. Raises TimeoutError after MAX_EXPIRED_LEASES of them.

        Requesting more would use up the permits of all processes without serving a call.
        """
        self._expired_leases = self._expired_leases + 1 if is_late else 0
        if self._expired_leases >= MAX_EXPIRED_LEASES:
            self._expired_leases = 0
            raise TimeoutError(DATABASE_TOO_SLOW_MESSAGE)

    def _grant_permits(self) -> None:
        """Give permits to waiting calls within PERMIT_LIFETIME of the request; expired ones are lost."""
        while self._queue and self._leased and asyncio.get_running_loop().time() < self._lease_expires_at:
            if self._queue[0][0] > self._lease_priority:
                return
            waiter = heapq.heappop(self._queue)[2]
            if not waiter.done():
                self._leased -= 1
                waiter.set_result(None)

    def _reject_if_paused(self, granted: PermitGrant) -> None:
        wait = granted.wait / SECOND
        if granted.is_paused and wait > MAX_BLOCKED_WAIT:
            error = ClerkUnavailableError(
                RATE_LIMITED_MESSAGE.format(wait=wait), retry_after=wait, is_without_effect=True, status=429
            )
            self._reject(error, excluded=(RequestPriority.BACKFILL,))

    def _reject(self, error: ClerkUnavailableError, *, excluded: Collection[RequestPriority] = ()) -> None:
        """Raise the error in all waiting calls, except those of the excluded priorities."""
        for priority, _, waiter in self._queue:
            if priority not in excluded and not waiter.done():
                waiter.set_exception(error)
        self._queue = [entry for entry in self._queue if entry[0] in excluded]
        heapq.heapify(self._queue)


class LocalRateLimiter:
    """Rate limiter of this process while the shared row is unavailable: a fixed share of the limit.

    It grants nothing during the first window, because permits granted to all replicas before may still be in use. Times
    are seconds of the event loop's clock, which is monotonic.
    """

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.shared_retry_at = now
        self._limit = RateLimit(max(1, limit.max_calls // LOCAL_LIMIT_DIVISOR), limit.window)
        self._starts_at = now + limit.cycle / SECOND
        self._state = RateLimitState()

    def reserve(self, priority: RequestPriority, wanted: int, now: float) -> PermitGrant:
        """Reserve up to `wanted` permits. Raises DatabaseUnavailableError within the first window."""
        if now < self._starts_at:
            raise DatabaseUnavailableError(retry_after=self._starts_at - now)
        self._state, granted = grant_permits(self._state, self._limit, priority, wanted, int(now * SECOND))
        return granted

    def pause(self, seconds: float, now: float) -> None:
        """Grant no permits for this many seconds, because Clerk limits requests."""
        self._state = pause_permits(self._state, int(seconds * SECOND), int(now * SECOND))


def grant_permits(
    state: RateLimitState, limit: RateLimit, priority: RequestPriority, wanted: int, now: int
) -> tuple[RateLimitState, PermitGrant]:
    """Grant up to `wanted` permits and return the new state.

    Permits of a backfill accrue at an even rate, so that higher priorities find free permits at any time, not only at
    the start of a window. A backfill waits BACKFILL_BATCH_DELAY longer than necessary, so that it sends fewer requests
    for permits; permits that accrue meanwhile are not lost.
    """
    if _is_from_future(state, now):
        state = RateLimitState(
            paused_until=now + limit.cycle
        )  # what was noted tells nothing: as if all had just been granted
    now = max(now, state.grants[-1][0]) if state.grants else now
    if now < state.paused_until:
        return state, PermitGrant(0, state.paused_until - now, is_paused=True)
    grants = tuple(grant for grant in state.grants if grant[0] > now - limit.cycle)
    reserved = limit.count_reserved_permits(priority)
    free = limit.max_calls - reserved - sum(count for _, count in grants)
    step = limit.cycle / max(1, limit.max_calls - reserved)
    backfill_at = max(state.backfill_at, now - step * max(1, limit.max_calls // 10))
    if priority is RequestPriority.BACKFILL:
        count = max(0, min(wanted, free, int((now - backfill_at) / step)))
        backfill_at += count * step
    else:
        count = max(0, min(wanted, free))
        backfill_at = state.backfill_at
    if count:
        slot = now - now % SLOT_LENGTH
        return RateLimitState(_add_grant(grants, slot, count), backfill_at, state.paused_until), PermitGrant(
            count, slot=slot
        )
    wait: float = _compute_wait(grants, limit, 1 - free, now)
    if priority is RequestPriority.BACKFILL:
        wait = max(wait, backfill_at + step - now) + BACKFILL_BATCH_DELAY
    return RateLimitState(grants, state.backfill_at, state.paused_until), PermitGrant(0, max(1, int(wait) + 1))


def pause_permits(state: RateLimitState, wait: int, now: int) -> RateLimitState:
    """Grant no permits for `wait` milliseconds, because Clerk limits requests."""
    return RateLimitState(state.grants, state.backfill_at, max(state.paused_until, now + wait))


def return_permits(state: RateLimitState, slot: int, count: int) -> RateLimitState:
    """Return `count` unused permits of `slot` to the state; they are available again immediately.

    The caller must have given them up before. Permits of an expired slot are available anyway.
    """
    grants = tuple(
        (granted_slot, granted - count if granted_slot == slot else granted) for granted_slot, granted in state.grants
    )
    return RateLimitState(tuple(grant for grant in grants if grant[1] > 0), state.backfill_at, state.paused_until)


def _is_from_future(state: RateLimitState, now: int) -> bool:
    """Return whether the state was written before the clock was set back."""
    latest = max(state.grants[-1][0] if state.grants else 0, state.backfill_at)
    return latest - now > MAX_CLOCK_LEAP or state.paused_until - now > MAX_PAUSE + MAX_CLOCK_LEAP


def _add_grant(grants: tuple[tuple[int, int], ...], slot: int, count: int) -> tuple[tuple[int, int], ...]:
    """Add a grant; grants of one slot are merged."""
    if grants and grants[-1][0] == slot:
        return (*grants[:-1], (slot, grants[-1][1] + count))
    return (*grants, (slot, count))


def _compute_wait(grants: tuple[tuple[int, int], ...], limit: RateLimit, missing: int, now: int) -> int:
    """Return the milliseconds until `missing` permits leave the window, or all of them if there are fewer."""
    free_at = now
    for slot, granted in grants:
        if missing <= 0:
            break
        free_at, missing = slot + limit.cycle, missing - granted
    return free_at - now


permits_table = sa.Table(
    "instep_pace",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("spent", sa.Text, nullable=False),
    comment="Permits to call Clerk, granted lately to all replicas together. On SQLite in a file beside the database.",
)
_grants_decoder = msgspec.json.Decoder(RateLimitState)
_database_clock = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)


def reserve_shared_permits(
    conn: Conn, limit: RateLimit, priority: RequestPriority, wanted: int, unused: PermitGrant
) -> PermitGrant:
    """Return unused permits, then reserve up to `wanted` permits in the row that all replicas share."""

    def change(state: RateLimitState, now: int) -> tuple[RateLimitState, PermitGrant]:
        return grant_permits(return_permits(state, unused.slot, unused.count), limit, priority, wanted, now)

    return _update_grants(conn, change)


def block_shared_permits(conn: Conn, wait: int) -> None:
    """Grant no permits to any replica for `wait` milliseconds."""
    _update_grants(conn, lambda state, now: (pause_permits(state, wait, now), PermitGrant(0)))


def _update_grants(
    conn: Conn, change: Callable[[RateLimitState, int], tuple[RateLimitState, PermitGrant]]
) -> PermitGrant:
    query = sa.select(permits_table.c.spent).where(permits_table.c.name == ROW_NAME).with_for_update()
    stored = conn.execute(query).scalar_one_or_none()
    if stored is None:
        upsert_rows(conn, permits_table, [{"name": ROW_NAME, "spent": "{}"}], key="name")
        stored = conn.execute(query).scalar_one()
    state, granted = change(_grants_decoder.decode(stored), _read_database_clock(conn))
    update = sa.update(permits_table).where(permits_table.c.name == ROW_NAME)
    conn.execute(update.values(spent=msgspec.json.encode(state).decode()))
    return granted


def _read_database_clock(conn: Conn) -> int:
    """Return the database's time after the row is locked. On SQLite all processes are on one machine."""
    if conn.dialect.name == "sqlite":
        return system_now()
    return int(conn.execute(sa.select(_database_clock)).scalar_one())


def create_table(conn: Conn) -> None:
    """Create the table if it is missing; on SQLite in a file of its own."""
    permits_table.create(conn, checkfirst=True)
