"""Silence is noticed: no webhook while Clerk changed people."""

from typing import Any

import pytest

from instep.core.clock import HOUR, MINUTE
from instep.sync.jobs import FreshnessMonitor
from instep.sync.models import Freshness
from tests.sync.world import World, seed

pytestmark = pytest.mark.anyio


def make_monitor(world: World, newest: int | None) -> FreshnessMonitor:
    return FreshnessMonitor(
        db=world.db, source=world.sync.source, clock=world.clock, find_newest_event_at=lambda _conn: newest
    )


async def test_users_whose_change_in_clerk_is_missing_here_are_counted(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.backfill()
    newest = world.clock()
    monitor = make_monitor(world, newest)
    assert (await monitor.check()).warning is None
    for n in range(3):
        await world.call("PATCH", f"/users/user_{n:027d}", {"first_name": "New"})
    assert (await monitor.check()).warning is None  # a webhook may still be on its way
    world.clock.advance(26 * HOUR)
    assert (await monitor.check()).warning == "No webhook for 26 h while Clerk changed 3 people."
    assert monitor.last is not None
    await world.sync.apply_recent_changes(actor="test", since=newest)
    assert (await monitor.check()).warning is None


async def test_only_recent_changes_are_read_and_applied(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.backfill()
    newest = world.clock()
    object.__setattr__(world.sync, "find_newest_event_at", lambda _conn: newest)
    await world.call("PATCH", f"/users/user_{1:027d}", {"first_name": "New"})
    run = await world.sync.apply_recent_changes(actor="test")
    assert run.counts["applied"] == 1
    assert await world.check() == {}


@pytest.mark.parametrize(
    ("quiet", "words"),
    [(7 * MINUTE, "7 min"), (26 * HOUR, "26 h"), (100 * HOUR, "4 days")],
)
def test_the_warning_names_the_duration(quiet: int, words: Any) -> None:
    assert f"No webhook for {words} while" in str(Freshness(quiet, 0, 2).warning)
    assert "1 person" in str(Freshness(quiet, 0, 1).warning)
    assert "No webhook has ever arrived" in str(Freshness(quiet, None, 1).warning)
    assert Freshness(quiet, 0, 0).warning is None
