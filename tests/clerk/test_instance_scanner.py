"""Scans of an instance: creations and deletions between two pages neither skip nor repeat a row."""

import random
from typing import Any

import httpx2
import pytest

from instep.core.db import Database
from instep.domain.models import ENTITY_KINDS
from instep.mirror.tables import users
from tests.support.clocks import START
from tests.sync.world import DAY, World, make_world, seed, small_pages

pytestmark = pytest.mark.anyio


@pytest.fixture
def db(sqlite_migrated_url: str) -> Any:
    """The walk does not depend on the database."""
    db = Database(sqlite_migrated_url)
    yield db
    db.close()


@pytest.fixture
def world(db: Database) -> World:
    """Clerk and an empty mirror."""
    return make_world(db)


async def scan_all(world: World, kind: Any) -> list[str]:
    """The ids that a walk of all windows gives, in its order."""
    source = world.sync.source
    found: list[str] = []
    for window in await source.windows(kind):
        async for page in source.pages(window):
            assert all(page.since <= it.entity.joined_at for it in page.items)
            assert page.until is None or all(it.entity.joined_at < page.until for it in page.items)
            found += [it.key.id for it in page.items]
    return found


@pytest.mark.parametrize("step", [1_000, 0])
@pytest.mark.parametrize("count", [0, 1, 5, 99, 101])
async def test_a_scan_reads_each_row_once(world: World, monkeypatch: pytest.MonkeyPatch, count: int, step: int) -> None:
    small_pages(monkeypatch, 5)
    world.emulator.seed(seed(count, organizations=7 if count > 7 else 1, step=step))
    for kind in ENTITY_KINDS:
        assert sorted(await scan_all(world, kind)) == sorted(world.ids_in_clerk()[kind])


async def test_users_are_scanned_in_windows_of_similar_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 5, window=10)
    monkeypatch.setattr("instep.clerk.instance_scanner.TARGET_WINDOWS", 4)
    wish = seed(200)
    for n, person in enumerate(wish["users"]):  # most of them at the end
        person["created_at"] = START - 300 * DAY + round(299 * DAY * (n / 200) ** 0.1)
    world.emulator.seed({"users": wish["users"]})
    windows = await world.sync.source.windows("user")
    counts = [await world.sync.source.count_within(window) or 0 for window in windows]
    assert sum(counts) == 200
    assert max(counts) <= 60
    assert windows[-1].is_open
    assert [a.until for a in windows[:-1]] == [b.since for b in windows[1:]]
    assert sorted(await scan_all(world, "user")) == sorted(world.ids_in_clerk()["user"])


@pytest.mark.parametrize("number", range(12))
async def test_changes_between_pages_neither_skip_nor_repeat_rows(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whoever is there all the time is read exactly once; a walk of members may lose its place, and then says so."""
    dice = random.Random(number)  # noqa: S311
    small_pages(monkeypatch, 10, overlap=4)
    world.emulator.seed(seed(120, organizations=2))
    state = world.emulator.state
    stay = world.ids_in_clerk()
    waiting: list[int] = list(range(120))
    dice.shuffle(waiting)

    def meanwhile(request: httpx2.Request) -> None:
        for _ in range(dice.choice([0, 0, 1, 3])):
            if waiting:
                victim = f"user_{waiting.pop():027d}"
                _delete(world, victim)
                stay["user"].discard(victim)
                stay["membership"].discard(victim.replace("user_", "orgmem_"))
        if dice.random() < 0.4:
            _join(world, dice.randrange(10**9))

    world.transport.before = meanwhile
    for kind in ("user", "membership"):
        found = await scan_all(world, kind)
        assert set(found) >= stay[kind] & world.ids_in_clerk()[kind]
        assert len(found) == len(set(found))
    assert len(state.users) > 0


def _delete(world: World, clerk_id: str) -> None:
    from clerk_emulator.state import users as people

    found = world.emulator.state.users.find(clerk_id)
    if found is not None:
        people.delete(world.emulator.state, found)


def _join(world: World, number: int) -> None:
    address = f"late{number}@example.com"
    if address not in world.emulator.state.email_owners:
        world.emulator.seed({"users": [{"email_address": address}], "organizations": []})
        from clerk_emulator.state import memberships

        state = world.emulator.state
        person = state.users.find(state.email_owners[address])
        organization = state.organizations.find(f"org_{0:027d}")
        assert person is not None
        assert organization is not None
        memberships.create(state, organization, person, "org:member", {})


async def test_an_unreadable_row_never_fails_its_page(world: World) -> None:
    world.emulator.seed(seed(3))
    bad = {"id": "user_bad", "banned": "perhaps"}
    good = (await world.call("GET", "/users"))[:2]
    world.emulator.fail("GetUserList", status=200, body=[good[0], bad, good[1]], count=3)
    (window, _) = await world.sync.source.windows("user")
    pages = [page async for page in world.sync.source.pages(window)]
    assert sum(len(page.items) for page in pages) == 2
    assert "user_bad" in pages[0].unreadable[0]


async def test_a_429_is_waited_out_and_a_failure_retried(world: World) -> None:
    world.emulator.seed(seed(3))
    world.emulator.fail("GetUserList", status=429, retry_after=7, count=2)
    world.emulator.fail("ListOrganizations", status=503, count=2)
    await world.backfill()
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_a_scan_continues_when_the_user_at_its_cursor_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch, 5)
    world.emulator.seed(seed(40))

    def meanwhile(request: httpx2.Request) -> None:
        after = request.url.params.get("starting_after")
        if after in (f"user_{9:027d}", f"user_{19:027d}"):
            _delete(world, after)

    world.transport.before = meanwhile
    found = await scan_all(world, "user")
    assert len(found) == len(set(found))
    assert set(found) >= world.ids_in_clerk()["user"]


async def test_webhooks_and_a_check_complete_a_backfill_during_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch, 10, overlap=4)
    world.emulator.seed(seed(100))
    dice = random.Random(5)  # noqa: S311
    waiting = list(range(100))
    dice.shuffle(waiting)

    def meanwhile(request: httpx2.Request) -> None:
        if dice.random() < 0.5:
            _delete(world, f"user_{waiting.pop():027d}")
        _join(world, dice.randrange(10**9))

    world.transport.before = meanwhile
    await world.backfill()
    world.transport.before = lambda _: None
    await world.plan_and_apply(allow_gone=100)
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert await world.check() == {}
    assert len(world.rows(users)) == len({row["clerk_id"] for row in world.rows(users)})
