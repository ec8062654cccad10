"""A backfill defers indexes, and they exist afterwards, however it ends."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from instep.core.db import Conn, Database
from instep.core.db_errors import DatabaseRejectedError
from instep.core.schema_migrations import migrate_schema
from instep.members.models import MemberFilter
from instep.members.repository import find_members
from instep.mirror import deferred_indexes
from instep.mirror.tables import memberships, users
from tests.support.crash import Crash
from tests.sync.world import World, make_world, seed, small_pages

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(db: Database) -> World:
    """Clerk and an empty mirror."""
    return make_world(db)


def indexes(conn: Conn) -> set[str]:
    catalog = "indexname FROM pg_indexes WHERE schemaname = current_schema()"
    if conn.dialect.name == "sqlite":
        catalog = "name FROM sqlite_master WHERE type = 'index'"
    return {str(name) for name in conn.execute(sa.text(f"SELECT {catalog}")).scalars()}


def dying_at(path: str) -> Callable[[httpx2.Request], None]:
    def before(request: httpx2.Request) -> None:
        if request.url.path.endswith(path):
            raise Crash("killed")

    return before


async def killed(world: World) -> None:
    """A first sync whose process ends while memberships are read; its lease runs out."""
    world.emulator.seed(seed(12))
    world.transport.before = dying_at("/organization_memberships")
    with pytest.raises(BaseException, match="killed"):
        await world.backfill()
    world.transport.before = lambda _: None
    world.clock.advance(120_000)


async def test_a_backfill_ends_with_every_index(world: World) -> None:
    before = world.db.read_sync(indexes)
    world.emulator.seed(seed(12))
    seen: list[list[str]] = []
    world.transport.before = lambda request: seen.append(world.db.read_sync(deferred_indexes.list_deferred_indexes))
    await world.backfill()
    may_be_held = {name for table in (users, memberships) for name in names_of(world, table.name)}
    assert may_be_held in [set(names) for names in seen], "it never held them"
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes) == []
    assert world.db.read_sync(indexes) == before


async def test_search_finds_the_same_without_indexes(world: World) -> None:
    world.emulator.seed(seed(12))
    await world.backfill()
    with_them = everybody(world)

    def let_go(conn: Conn) -> None:
        for table in (users, memberships):
            for name in deferred_indexes.list_deferrable_indexes(conn, table.name):
                conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")

    world.db.write_sync(let_go)
    assert everybody(world) == with_them


async def test_the_next_sync_creates_indexes_of_a_killed_one(world: World) -> None:
    before = world.db.read_sync(indexes)
    await killed(world)
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes)
    await world.sync.check(actor="test")
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes) == []
    assert world.db.read_sync(indexes) == before


async def test_migrating_creates_them_too(world: World) -> None:
    before = world.db.read_sync(indexes)
    await killed(world)
    migrate_schema(world.db.engine)
    assert world.db.read_sync(indexes) == before
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes) == []


async def test_resuming_keeps_deferring_and_ends_with_every_index(world: World) -> None:
    before = world.db.read_sync(indexes)
    await killed(world)
    seen: list[list[str]] = []
    world.transport.before = lambda _: seen.append(world.db.read_sync(deferred_indexes.list_deferred_indexes))
    await world.backfill()
    assert seen[0]
    assert world.db.read_sync(indexes) == before


async def test_a_failed_backfill_creates_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.db.read_sync(indexes)
    world.emulator.seed(seed(12))

    async def refused(_: Any) -> int:
        raise httpx2.ConnectError("down")

    monkeypatch.setattr(world.sync.source, "count", refused)
    with pytest.raises(httpx2.ConnectError):
        await world.backfill()
    assert world.db.read_sync(indexes) == before
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes) == []


async def test_indexes_of_filled_tables_are_not_deferred(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 5)
    world.emulator.seed(seed(12))
    await world.backfill()
    before = world.db.read_sync(indexes)
    seen: list[bool] = []
    world.transport.before = lambda _: seen.append(world.db.read_sync(indexes) == before)
    await world.backfill()
    assert seen
    assert all(seen)


async def test_an_index_that_cannot_be_created_is_created_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.db.read_sync(indexes)
    world.emulator.seed(seed(12))
    create = deferred_indexes._create_index

    def no_room(conn: Conn, name: str) -> None:
        if name == "ix_instep_memberships_page" and conn.execute(sa.select(memberships.c.id)).first():
            raise DatabaseRejectedError("no room")
        create(conn, name)

    monkeypatch.setattr(deferred_indexes, "_create_index", no_room)
    assert (await world.backfill()).state == "done"
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes) == ["ix_instep_memberships_page"]
    assert (await world.sync.check(actor="test")).state == "done"
    monkeypatch.setattr(deferred_indexes, "_create_index", create)
    await world.sync.check(actor="test")
    assert world.db.read_sync(indexes) == before


async def test_an_index_that_cannot_be_recreated_is_not_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.db.read_sync(indexes)

    def not_allowed(conn: Conn, _: str) -> None:
        conn.exec_driver_sql("CREATE INDEX nobody_has_this ON nowhere (nothing)")

    monkeypatch.setattr(deferred_indexes, "_create_index", not_allowed)
    world.db.write_sync(deferred_indexes.defer_indexes, [users.name, memberships.name])
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes) == []
    assert world.db.read_sync(indexes) == before


async def test_only_tables_of_the_backfill_lose_indexes(world: World) -> None:
    before = world.db.read_sync(indexes)
    world.emulator.seed(seed(12))
    await world.sync.backfill(actor="test", kinds=["user"])
    assert world.db.read_sync(deferred_indexes.list_deferred_indexes) == []
    assert world.db.read_sync(indexes) == before


async def test_a_name_too_long_for_an_index_is_truncated(world: World) -> None:
    before = world.db.read_sync(indexes)
    world.emulator.seed(seed(12))
    await world.call("POST", "/users", {"email_address": ["long@example.com"], "first_name": "Ada"})
    [long] = [it for it in world.emulator.state.users if it.first_name == "Ada"]
    long.first_name = "".join(chr(0x4E00 + n) for n in range(1_500))
    run = await world.backfill()
    assert run.counts.get("unreadable", 0) == 0
    kept = world.db.read_sync(
        lambda conn: conn.scalar(sa.select(users.c.first_name).where(users.c.clerk_id == long.id))
    )
    assert kept
    assert long.first_name.startswith(kept)
    assert world.db.read_sync(indexes) == before


def names_of(world: World, table: str) -> list[str]:
    return list(world.db.read_sync(lambda conn: deferred_indexes.list_deferrable_indexes(conn, table)))


def everybody(world: World) -> list[list[str]]:
    """Pages of the list: everyone, and who is looked for."""

    def read(conn: Conn) -> list[list[str]]:
        firm = str(conn.execute(sa.select(memberships.c.organization_id).limit(1)).scalar_one())
        asks = [
            MemberFilter(limit=50),
            MemberFilter(query="1"),
            MemberFilter(query="person"),
            MemberFilter(roles=frozenset({"org:member"})),
        ]
        return [[row.id for row in find_members(conn, firm, ask).rows] for ask in asks]

    found = world.db.read_sync(read)
    assert found[0]
    return found
