"""The pace in practice: several processes, one limit that Clerk enforces, and nobody is ever turned away."""

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
from instep.clerk.rate_limiter import EXTRA_PERMITS, ClerkRateLimiter, block_shared_permits, permits_table
from instep.clerk.sliding_window import PERMIT_LIFETIME, RateLimit, RateLimitState, RequestPriority
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
            pacer = ClerkRateLimiter(
                Database(f"{migrated_url}-pace" if "sqlite" in migrated_url else migrated_url, threads=1), limit()
            )
            transport = httpx2.ASGITransport(app=emulator)
            client = ClerkClient(
                emulator.secret_key, api_url=emulator.site.url, transport=transport, pacer=pacer, timeout=60
            )
            stack.push_async_callback(client.close)
            return client

        yield make


def limit() -> RateLimit:
    return RateLimit(MOST, SECOND_LONG)


def pacer_of(client: ClerkClient) -> ClerkRateLimiter:
    assert client._backend._pacer is not None
    return client._backend._pacer


async def backfill(client: ClerkClient, calls: int, *, full: asyncio.Event | None = None) -> None:
    """So many calls of a sync, six at a time; `full` is set when the limit is reached."""
    left = iter(range(calls))
    walk = client.everything()

    async def lane() -> None:
        for number in left:
            await walk.count("user")
            if full is not None and number >= MOST:
                full.set()

    await asyncio.gather(*(lane() for _ in range(6)))


def turned_away(emulator: Emulator) -> int:
    return sum(it.status == 429 for it in emulator.request_log.list())


@pytest.mark.parametrize("processes", [1, 2])
async def test_nobody_is_turned_away_however_many_processes_ask(
    process: Process, emulator: Emulator, processes: int
) -> None:
    clients = [process() for _ in range(processes)]
    await asyncio.gather(*(backfill(it, CALLS // processes) for it in clients))
    assert turned_away(emulator) == 0
    assert len(emulator.request_log.list()) == CALLS


async def test_without_the_pace_the_same_is_turned_away(emulator: Emulator) -> None:
    """The test before could not fail otherwise."""
    emulator.state.clock = EmulatorClock(wall=Ticking())
    client = ClerkClient(emulator.secret_key, api_url=emulator.site.url, transport=httpx2.ASGITransport(app=emulator))
    ended = await asyncio.gather(*(client.count_users() for _ in range(MOST + 5)), return_exceptions=True)
    assert any(isinstance(it, ClerkUnavailableError) for it in ended)
    assert turned_away(emulator) > 0
    await client.close()


async def test_an_edit_goes_before_a_backfill_that_was_there_first(process: Process, emulator: Emulator) -> None:
    client, other = process(), process()
    order: list[str] = []
    full = asyncio.Event()

    async def slowly() -> None:
        await backfill(client, CALLS, full=full)
        order.append("backfill")

    async def at_once(one: ClerkClient) -> None:
        await one.count_users()
        order.append("edit")

    flood = asyncio.create_task(slowly())
    await full.wait()
    await asyncio.gather(at_once(client), at_once(other))
    await flood
    assert order == ["edit", "edit", "backfill"]


async def test_when_clerk_limits_one_all_wait_as_long_as_it_says(process: Process, emulator: Emulator) -> None:
    one, other = process(), process()
    await asyncio.gather(one.count_users(), other.count_users())
    emulator.fail("GetUsersCount", status=429, retry_after=30, count=1)
    with pytest.raises(ClerkUnavailableError):
        await one.count_users()
    pacer_of(other)._leased = 0  # those that it had in hand are gone a moment later
    before = len(emulator.request_log.list())
    for client in (one, other):
        with pytest.raises(ClerkUnavailableError, match="limiting us") as caught:
            await client.count_users()
        assert caught.value.is_without_effect
        assert 25 < (caught.value.retry_after or 0) <= 30
        with pytest.raises(ClerkUnavailableError):
            await client.look([NeedsRefetch(EntityKey("user", ClerkId("user_1")))])
    assert len(emulator.request_log.list()) == before, "nobody asked meanwhile"


async def test_whoever_gives_up_waiting_costs_nobody_a_permit(process: Process) -> None:
    pacer = pacer_of(process())
    await pacer.block_all(1)
    impatient, patient = (asyncio.create_task(pacer.take(RequestPriority.EDIT)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert impatient.cancelled()
    assert pacer._queue == []


async def test_public_keys_cost_no_permit(process: Process) -> None:
    client = process()
    await client.fetch_jwks()
    assert pacer_of(client).asked == 0


async def test_without_its_database_nobody_waits_for_ever(tmp_path: object, emulator: Emulator) -> None:
    pacer = ClerkRateLimiter(Database(f"sqlite:///{tmp_path}/a/pace.db", threads=1), limit())
    (tmp_path / "a").rmdir()  # type: ignore[operator]
    with pytest.raises(ClerkUnavailableError, match="pace can't be kept"):
        await pacer.take(RequestPriority.BACKFILL)
    await pacer.close()


@pytest.fixture
async def pacer(migrated_url: str) -> AsyncIterator[ClerkRateLimiter]:
    pacer = ClerkRateLimiter(
        Database(f"{migrated_url}-pace" if "sqlite" in migrated_url else migrated_url, threads=1), RateLimit(1_000)
    )
    yield pacer
    await pacer.close()


async def noted(pacer: ClerkRateLimiter) -> int:
    """How many permits count as used or in somebody's hand."""
    kept = await pacer.db.read(lambda conn: conn.execute(sa.select(permits_table.c.spent)).scalar_one())
    return sum(count for _, count in msgspec.json.decode(kept, type=RateLimitState).grants)


async def test_what_an_edit_took_ahead_in_vain_goes_back_with_the_next_question(pacer: ClerkRateLimiter) -> None:
    await pacer.take(RequestPriority.EDIT)
    assert (pacer._leased, await noted(pacer)) == (EXTRA_PERMITS, 1 + EXTRA_PERMITS)
    await pacer.take(RequestPriority.BACKFILL)
    assert (pacer._leased, await noted(pacer)) == (0, 2)
    await pacer.take(RequestPriority.EDIT)
    pacer._lease_expires_at = asyncio.get_running_loop().time()  # what is in hand may not be used any more
    await pacer.take(RequestPriority.EDIT)
    assert (pacer._leased, await noted(pacer)) == (EXTRA_PERMITS, 4 + EXTRA_PERMITS)


async def test_what_went_back_is_used_no_more_although_nothing_was_granted(pacer: ClerkRateLimiter) -> None:
    await pacer.take(RequestPriority.EDIT)
    await pacer.db.write(block_shared_permits, 30_000)  # another process heard it
    waiting = asyncio.create_task(pacer.take(RequestPriority.BACKFILL))
    async with asyncio.timeout(30):
        while await noted(pacer) != 1:
            pass
    assert pacer._leased == 0
    waiting.cancel()


async def test_calls_that_follow_an_edit_use_what_it_took_ahead(pacer: ClerkRateLimiter) -> None:
    await pacer.take(RequestPriority.EDIT)
    pacer._lease_expires_at, asked = float("inf"), pacer.asked
    for _ in range(EXTRA_PERMITS):
        await pacer.take(RequestPriority.EDIT)
    assert (pacer.asked, pacer._leased, await noted(pacer)) == (asked, 0, 1 + EXTRA_PERMITS)


async def test_what_was_in_hand_for_a_whole_window_does_not_go_back(pacer: ClerkRateLimiter) -> None:
    """By a clock that was put back meanwhile, others may have been noted in its slot."""
    await pacer.take(RequestPriority.EDIT)
    pacer._lease_expires_at = asyncio.get_running_loop().time() - pacer.limit.window / SECOND_LONG
    await pacer.take(RequestPriority.BACKFILL)
    assert await noted(pacer) == 2 + EXTRA_PERMITS


class Far(Database):
    """A database so far away that every permit is over when it comes."""

    async def write(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        granted = await super().write(fn, *args, **kwargs)
        await asyncio.sleep(PERMIT_LIFETIME / SECOND_LONG)
        return granted


async def test_where_every_permit_comes_too_late_that_is_said_and_nobody_waits_for_ever(migrated_url: str) -> None:
    pacer = ClerkRateLimiter(
        Far(f"{migrated_url}-pace" if "sqlite" in migrated_url else migrated_url, threads=1), RateLimit(1_000)
    )
    async with asyncio.timeout(30):
        ended = await asyncio.gather(*(pacer.take(it) for it in RequestPriority), return_exceptions=True)
    assert [type(it) for it in ended] == [ClerkUnavailableError] * 3
    assert "too slow" in str(ended[0])
    await pacer.close()


async def test_calls_go_on_at_a_part_of_the_pace_while_the_shared_row_can_not_be_written(tmp_path: Path) -> None:
    """A disk that is full ends no session: Clerk can still be asked about them."""
    db = Database(f"sqlite:///{tmp_path / 'pace.db'}", threads=1)
    sa.event.listen(db.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    alone = ClerkRateLimiter(db, RateLimit(20, window=100))
    with pytest.raises(ClerkUnavailableError):  # what others were granted may still be under way
        await alone.take(RequestPriority.EDIT)
    await asyncio.sleep(alone.limit.cycle / SECOND_LONG)
    await alone.take(RequestPriority.EDIT)
    assert alone._local_limiter is not None
    assert alone._local_limiter.reserve(RequestPriority.EDIT, 20, asyncio.get_running_loop().time()).count <= 2
    await alone.close()


async def test_the_pace_is_shared_again_once_the_row_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instep.clerk.rate_limiter.SHARED_ROW_RETRY_DELAY", 0.0)
    db = Database(f"sqlite:///{tmp_path / 'pace.db'}", threads=1)
    pacer = ClerkRateLimiter(db, RateLimit(20, window=100))
    with failing(db), pytest.raises(ClerkUnavailableError):
        await pacer.take(RequestPriority.EDIT)
    await pacer.take(RequestPriority.EDIT)
    assert pacer._local_limiter is None
    await pacer.close()
