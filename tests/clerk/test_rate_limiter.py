"""Rate limiter in practice: several processes share one limit that Clerk enforces, and no call is limited."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import sqlalchemy as sa

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock as EmulatorClock
from clerk_emulator.wire import rate_limits
from instep.clerk.client import ClerkClient
from instep.clerk.rate_limiter import (
    EXTRA_PERMITS,
    PERMIT_LIFETIME,
    ClerkRateLimiter,
    RateLimit,
    RateLimitState,
    RequestPriority,
    block_shared_permits,
    permits_table,
)
from instep.core.db import Database
from instep.domain.errors import ClerkUnavailableError
from instep.domain.models import ClerkId, EntityKey
from instep.domain.reconcile import NeedsRefetch
from tests.support.clocks import Ticking
from tests.support.faults import failing

pytestmark = pytest.mark.anyio
SECOND_LONG = 1_000
MOST = 20
CALLS = 60

Process = Callable[[], ClerkClient]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """An emulator that enforces MOST calls in a second, so that nobody has to wait ten."""
    monkeypatch.setattr(rate_limits, "SECOND", 100)
    monkeypatch.setitem(rate_limits.INSTANCE_LIMITS, "development", MOST)
    emulator = Emulator()
    emulator.state.settings.rate_limits = "development"
    return emulator


@pytest.fixture
async def process(migrated_url: str, emulator: Emulator) -> AsyncIterator[Process]:
    """Makes clients as each process has one: nothing is shared but the database."""
    async with AsyncExitStack() as stack:

        def make() -> ClerkClient:
            limiter = ClerkRateLimiter(
                Database(f"{migrated_url}-pace" if "sqlite" in migrated_url else migrated_url, threads=1), limit()
            )
            transport = httpx2.ASGITransport(app=emulator)
            client = ClerkClient(
                emulator.secret_key, api_url=emulator.site.url, transport=transport, rate_limiter=limiter, timeout=60
            )
            stack.push_async_callback(client.close)
            return client

        yield make


def limit() -> RateLimit:
    return RateLimit(MOST, SECOND_LONG)


def get_rate_limiter(client: ClerkClient) -> ClerkRateLimiter:
    assert client._backend._rate_limiter is not None
    return client._backend._rate_limiter


async def run_backfill(client: ClerkClient, calls: int, *, full: asyncio.Event | None = None) -> None:
    """So many calls of a sync, six at a time; `full` is set when the limit is reached."""
    left = iter(range(calls))
    scanner = client.make_scanner()

    async def send_calls() -> None:
        for number in left:
            await scanner.count("user")
            if full is not None and number >= MOST:
                full.set()

    await asyncio.gather(*(send_calls() for _ in range(6)))


def count_limited_calls(emulator: Emulator) -> int:
    return sum(item.status == 429 for item in emulator.request_log.list())


@pytest.mark.parametrize("processes", [1, 2])
async def test_no_call_is_limited_with_any_number_of_processes(
    process: Process, emulator: Emulator, processes: int
) -> None:
    clients = [process() for _ in range(processes)]
    await asyncio.gather(*(run_backfill(item, CALLS // processes) for item in clients))
    assert count_limited_calls(emulator) == 0
    assert len(emulator.request_log.list()) == CALLS


async def test_without_the_rate_limiter_calls_are_limited(emulator: Emulator) -> None:
    """The test before could not fail otherwise."""
    emulator.state.clock = EmulatorClock(wall=Ticking())
    client = ClerkClient(emulator.secret_key, api_url=emulator.site.url, transport=httpx2.ASGITransport(app=emulator))
    ended = await asyncio.gather(*(client.count_users() for _ in range(MOST + 5)), return_exceptions=True)
    assert any(isinstance(item, ClerkUnavailableError) for item in ended)
    assert count_limited_calls(emulator) > 0
    await client.close()


async def test_an_edit_precedes_a_backfill_that_started_earlier(process: Process, emulator: Emulator) -> None:
    client, other_client = process(), process()
    order: list[str] = []
    full = asyncio.Event()

    async def slowly() -> None:
        await run_backfill(client, CALLS, full=full)
        order.append("backfill")

    async def at_once(client: ClerkClient) -> None:
        await client.count_users()
        order.append("edit")

    flood = asyncio.create_task(slowly())
    await full.wait()
    await asyncio.gather(at_once(client), at_once(other_client))
    await flood
    assert order == ["edit", "edit", "backfill"]


async def test_a_429_pauses_all_processes_for_its_retry_after(process: Process, emulator: Emulator) -> None:
    client, other_client = process(), process()
    await asyncio.gather(client.count_users(), other_client.count_users())
    emulator.fail("GetUsersCount", status=429, retry_after=30, count=1)
    with pytest.raises(ClerkUnavailableError):
        await client.count_users()
    get_rate_limiter(other_client)._leased = 0  # those that it had in hand are gone a moment later
    before = len(emulator.request_log.list())
    for each in (client, other_client):
        with pytest.raises(ClerkUnavailableError, match="limiting requests") as caught:
            await each.count_users()
        assert caught.value.is_without_effect
        assert 25 < (caught.value.retry_after or 0) <= 30
        with pytest.raises(ClerkUnavailableError):
            await each.fetch([NeedsRefetch(EntityKey("user", ClerkId("user_1")))])
    assert len(emulator.request_log.list()) == before, "nobody asked meanwhile"


async def test_a_canceled_wait_uses_no_permit(process: Process) -> None:
    limiter = get_rate_limiter(process())
    await limiter.block_all(1)
    impatient, patient = (asyncio.create_task(limiter.take(RequestPriority.EDIT)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert impatient.cancelled()
    assert limiter._queue == []


async def test_public_keys_need_no_permit(process: Process) -> None:
    client = process()
    await client.fetch_jwks()
    assert get_rate_limiter(client).request_count == 0


async def test_a_missing_database_fails_waiting_calls(tmp_path: object, emulator: Emulator) -> None:
    limiter = ClerkRateLimiter(Database(f"sqlite:///{tmp_path}/a/pace.db", threads=1), limit())
    (tmp_path / "a").rmdir()  # type: ignore[operator]
    with pytest.raises(ClerkUnavailableError, match="rate limiter failed"):
        await limiter.take(RequestPriority.BACKFILL)
    await limiter.close()


@pytest.fixture
async def limiter(migrated_url: str) -> AsyncIterator[ClerkRateLimiter]:
    limiter = ClerkRateLimiter(
        Database(f"{migrated_url}-pace" if "sqlite" in migrated_url else migrated_url, threads=1), RateLimit(1_000)
    )
    yield limiter
    await limiter.close()


async def count_granted_permits(limiter: ClerkRateLimiter) -> int:
    """How many permits count as used or in somebody's hand."""
    stored = await limiter.db.read(lambda conn: conn.execute(sa.select(permits_table.c.spent)).scalar_one())
    return sum(count for _, count in msgspec.json.decode(stored, type=RateLimitState).grants)


async def test_unused_permits_of_an_edit_are_returned_with_the_next_request(limiter: ClerkRateLimiter) -> None:
    await limiter.take(RequestPriority.EDIT)
    assert (limiter._leased, await count_granted_permits(limiter)) == (EXTRA_PERMITS, 1 + EXTRA_PERMITS)
    await limiter.take(RequestPriority.BACKFILL)
    assert (limiter._leased, await count_granted_permits(limiter)) == (0, 2)
    await limiter.take(RequestPriority.EDIT)
    limiter._lease_expires_at = asyncio.get_running_loop().time()  # what is in hand may not be used any more
    await limiter.take(RequestPriority.EDIT)
    assert (limiter._leased, await count_granted_permits(limiter)) == (EXTRA_PERMITS, 4 + EXTRA_PERMITS)


async def test_returned_permits_are_not_used_even_if_none_are_granted(limiter: ClerkRateLimiter) -> None:
    await limiter.take(RequestPriority.EDIT)
    await limiter.db.write(block_shared_permits, 30_000)  # another process heard it
    waiting = asyncio.create_task(limiter.take(RequestPriority.BACKFILL))
    async with asyncio.timeout(30):
        while await count_granted_permits(limiter) != 1:
            pass
    assert limiter._leased == 0
    waiting.cancel()


async def test_following_calls_use_the_extra_permits_of_an_edit(limiter: ClerkRateLimiter) -> None:
    await limiter.take(RequestPriority.EDIT)
    limiter._lease_expires_at, asked = float("inf"), limiter.request_count
    for _ in range(EXTRA_PERMITS):
        await limiter.take(RequestPriority.EDIT)
    assert (limiter.request_count, limiter._leased, await count_granted_permits(limiter)) == (
        asked,
        0,
        1 + EXTRA_PERMITS,
    )


async def test_a_lease_older_than_a_window_is_not_returned(limiter: ClerkRateLimiter) -> None:
    """By a clock that was put back meanwhile, others may have been noted in its slot."""
    await limiter.take(RequestPriority.EDIT)
    limiter._lease_expires_at = asyncio.get_running_loop().time() - limiter.limit.window / SECOND_LONG
    await limiter.take(RequestPriority.BACKFILL)
    assert await count_granted_permits(limiter) == 2 + EXTRA_PERMITS


class SlowDatabase(Database):
    """A database so far away that every permit is over when it comes."""

    async def write(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        granted = await super().write(fn, *args, **kwargs)
        await asyncio.sleep(PERMIT_LIFETIME / SECOND_LONG)
        return granted


async def test_calls_fail_if_every_permit_expires_before_it_arrives(migrated_url: str) -> None:
    limiter = ClerkRateLimiter(
        SlowDatabase(f"{migrated_url}-pace" if "sqlite" in migrated_url else migrated_url, threads=1), RateLimit(1_000)
    )
    async with asyncio.timeout(30):
        ended = await asyncio.gather(*(limiter.take(item) for item in RequestPriority), return_exceptions=True)
    assert [type(item) for item in ended] == [ClerkUnavailableError] * 3
    assert "too slow" in str(ended[0])
    await limiter.close()


async def test_calls_continue_at_a_lower_rate_while_the_shared_row_is_unavailable(tmp_path: Path) -> None:
    """A disk that is full ends no session: Clerk can still be asked about them."""
    db = Database(f"sqlite:///{tmp_path / 'pace.db'}", threads=1)
    sa.event.listen(db.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    limiter = ClerkRateLimiter(db, RateLimit(20, window=100))
    with pytest.raises(ClerkUnavailableError):  # what others were granted may still be under way
        await limiter.take(RequestPriority.EDIT)
    await asyncio.sleep(limiter.limit.cycle / SECOND_LONG)
    await limiter.take(RequestPriority.EDIT)
    assert limiter._local_limiter is not None
    assert limiter._local_limiter.reserve(RequestPriority.EDIT, 20, asyncio.get_running_loop().time()).count <= 2
    await limiter.close()


async def test_the_limit_is_shared_again_once_the_row_is_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instep.clerk.rate_limiter.SHARED_ROW_RETRY_DELAY", 0.0)
    db = Database(f"sqlite:///{tmp_path / 'pace.db'}", threads=1)
    limiter = ClerkRateLimiter(db, RateLimit(20, window=100))
    with failing(db), pytest.raises(ClerkUnavailableError):
        await limiter.take(RequestPriority.EDIT)
    await limiter.take(RequestPriority.EDIT)
    assert limiter._local_limiter is None
    await limiter.close()
