"""The first sync goes on where it was stopped, while deliveries arrive, and reads little of it again."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest
import sqlalchemy as sa

from instep.clerk import parsing
from instep.core.db import Conn, Database
from instep.domain.events import Observation
from instep.mirror.apply import apply_observations
from instep.mirror.bulk_insert import insert_new_rows, prepare_rows
from instep.mirror.tables import memberships, organizations, users
from instep.sync import backfill
from instep.sync.models import SyncBusyError
from tests.support.crash import Crash, CrashPoints, count_points
from tests.support.locks import is_waited_for
from tests.support.people import membership, organization, user
from tests.sync.world import World, make_world, seed, small_pages

pytestmark = pytest.mark.anyio

REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.first_name = 'No' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$"""


@pytest.fixture
def postgres_world(postgres_migrated_url: str) -> Iterator[World]:
    """A world for what only PostgreSQL does."""
    db = Database(postgres_migrated_url)
    yield make_world(db)
    db.close()


def plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("id", "organization_id", "user_id")}


async def test_bulk_insert_writes_the_same_as_the_unit_of_work(world: World, db: Any) -> None:
    news = [
        organization(1, max_members=7),
        *(
            user(
                n,
                first_name=f'Tab\t{n} "quoted" \\ back\n',
                username=None if n % 2 else f"u{n}",
                public_metadata=msgspec.Raw(b'{"a": [1, "\\\\ \\n\\t"]}'),
                last_sign_in_at=n or None,
            )
            for n in range(5)
        ),
        *(membership(n, of=n, role="org:admin" if n else "org:member") for n in range(5)),
    ]

    def bulk(conn: Conn) -> list[Observation]:
        return insert_new_rows(conn, prepare_rows(news, now=5_000))

    assert db.write_sync(bulk) == []
    by_bulk = [[plain(row) for row in world.rows(table)] for table in (organizations, users, memberships)]
    counts = world.rows_of_counts()
    for table in (memberships, users, organizations):
        world.execute(sa.delete(table))
    db.write_sync(lambda conn: apply_observations(conn, news, now=5_000))
    by_ledger = [[plain(row) for row in world.rows(table)] for table in (organizations, users, memberships)]
    key = lambda row: row["clerk_id"]  # noqa: E731
    assert [sorted(it, key=key) for it in by_bulk] == [sorted(it, key=key) for it in by_ledger]
    assert [it[1:] for it in counts] == [it[1:] for it in world.rows_of_counts() if it[3]]


async def test_bulk_insert_never_changes_existing_rows(world: World, db: Any) -> None:
    def prepare(conn: Conn) -> None:
        apply_observations(conn, [organization(1), user(1, version=9, first_name="Newer")], now=1)
        conn.execute(sa.update(users).values(gone_at=7))

    db.write_sync(prepare)
    before = world.rows(users)
    news = [
        user(1, version=2, first_name="Older"),
        user(2),
        membership(1, of=1),
        membership(2, of=2),
        membership(3, of=9),
    ]
    left = db.write_sync(lambda conn: insert_new_rows(conn, prepare_rows(news, now=5)))
    assert [it.key.id for it in left] == ["user_1", "orgmem_1", "orgmem_3"]
    assert [row for row in world.rows(users) if row["clerk_id"] == "user_1"] == before


async def test_a_killed_backfill_resumes_and_reads_little_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 5)
    monkeypatch.setattr("instep.clerk.instance_scanner.TARGET_WINDOWS", 3)
    monkeypatch.setattr("instep.clerk.instance_scanner.MIN_WINDOW_SIZE", 10)
    world.emulator.seed(seed(40, organizations=2))
    for stop_at in (6, 7, 9, 11):
        calls = 0

        def dying(_: httpx2.Request, stop_at: int = stop_at) -> None:
            nonlocal calls
            calls += 1
            if calls > stop_at:
                raise Crash("killed")

        world.transport.before = dying
        with pytest.raises(BaseException, match="killed"):
            await world.backfill()
        world.transport.before = lambda _: None
        world.clock.advance(120_000)
    before = len(world.transport.calls)
    await world.backfill()
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert len(world.transport.calls) - before < 60
    assert await world.check() == {}


async def test_a_backfill_stopped_at_any_statement_resumes_completely(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch, 4)
    db = Database(migrated_url)
    points = CrashPoints()
    points.watch(db)
    world = make_world(db)
    world.emulator.seed(seed(9))
    places = await count_points(points, world.backfill)
    for at in range(1, places + 1, 4):
        for table in (memberships, users, organizations):
            world.execute(sa.delete(table))
        world.execute(sa.text("UPDATE instep_sync_runs SET state = 'done'"))
        with points.armed(at):
            await world.backfill()
        world.clock.advance(120_000)
        await world.backfill()
        assert world.ids_in_mirror() == world.ids_in_clerk()
    db.close()


async def test_deliveries_may_arrive_during_a_backfill(world: World, monkeypatch: pytest.MonkeyPatch, db: Any) -> None:
    """What a webhook brought before its page is read stays as the newest version has it."""
    small_pages(monkeypatch, 5)
    world.emulator.seed(seed(30))
    listed = await world.call("GET", "/users?limit=500&order_by=%2Bcreated_at")
    news = [
        parsing.to_user(msgspec.json.decode(msgspec.json.encode(it), type=parsing.ClerkUserPayload)) for it in listed
    ]
    waiting = iter(news)

    def meanwhile(request: httpx2.Request) -> None:
        for _ in range(3):
            it = next(waiting, None)
            if it is not None:
                newer = msgspec.structs.replace(it, version=it.version + 5, digest="newer")
                db.write_sync(lambda conn, newer=newer: apply_observations(conn, [newer], now=7))

    world.transport.before = meanwhile
    await world.backfill()
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert sum(row["digest"] == "newer" for row in world.rows(users)) > 10


async def test_existing_rows_are_reconciled_without_other_locks(postgres_world: World) -> None:
    """Whoever writes to the mirror locks people first: not after what was inserted in the same transaction."""
    world = postgres_world
    world.emulator.seed(seed(2))
    await world.backfill()
    world.execute(sa.delete(memberships).where(memberships.c.clerk_id.like("%1")))
    with world.db.engine.connect() as other:
        person = sa.select(users.c.id).where(users.c.clerk_id.like("%0"))
        other.execute(person.with_for_update(read=True, key_share=True))  # as another bulk load does
        taking = asyncio.create_task(world.sync.backfill(actor="test", kinds=["membership"]))
        assert await asyncio.to_thread(is_waited_for, other, taking.done)
        assert world.ids_in_mirror() == world.ids_in_clerk(), "what is new is kept"
        other.execute(sa.select(users.c.id).with_for_update(nowait=True))
    assert (await taking).counts == {"new": 1, "left": 1}


async def test_a_name_that_the_database_cannot_store_is_replaced(postgres_world: World) -> None:
    world = postgres_world
    world.emulator.seed(seed(5))
    found = world.emulator.state.users.find(f"user_{2:027d}")
    assert found is not None
    found.first_name = "nul\0here"
    await world.backfill()
    name = world.db.read_sync(
        lambda conn: conn.scalar(sa.select(users.c.first_name).where(users.c.clerk_id == found.id))
    )
    assert name == "nul\ufffdhere"
    assert f"user_{3:027d}" in world.active_ids(users)


async def test_the_rest_of_a_page_with_a_rejected_row_is_stored_and_counted_once(postgres_world: World) -> None:
    """One is new, one is changed, one is what the database does not take, three are as they were."""
    world = postgres_world
    world.emulator.seed(seed(6))
    await world.backfill()
    world.execute(sa.text(REFUSING))
    world.execute(sa.text("CREATE TRIGGER no BEFORE UPDATE ON instep_users FOR EACH ROW EXECUTE FUNCTION refuse()"))
    for number, name in ((1, "Changed"), (2, "No")):
        user = world.emulator.state.users.find(f"user_{number:027d}")
        assert user is not None
        user.first_name, user.updated_at = name, user.updated_at + 1
    world.execute(sa.delete(memberships))
    world.execute(sa.delete(users).where(users.c.clerk_id == f"user_{4:027d}"))
    run = await world.sync.backfill(actor="test", kinds=["user"])
    assert run.counts == {"new": 1, "changed": 1, "left": 3, "unreadable": 1}
    assert {row["first_name"] for row in world.rows(users)} == {
        "First0",
        "Changed",
        *(f"First{n}" for n in range(2, 6)),
    }


async def test_only_the_given_kinds_are_imported(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.sync.backfill(actor="test", kinds=("user",))
    assert len(world.rows(users)) == 5
    assert world.rows(organizations) == []


async def test_missing_parents_of_memberships_are_fetched(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.sync.backfill(actor="test", kinds=("membership",))
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_a_second_backfill_is_refused_immediately(world: World) -> None:
    world.emulator.seed(seed(5))
    results = await asyncio.gather(world.backfill(), world.backfill(), return_exceptions=True)
    assert sum(isinstance(it, SyncBusyError) for it in results) == 1
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert backfill.MAX_CONCURRENT_WINDOWS > 1
