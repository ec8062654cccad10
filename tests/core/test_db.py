"""Asynchronous access to SQL: whole transactions, two families of errors, and bulk rows."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instep.core.db import Conn, Database, create_engine
from instep.core.db_errors import DatabaseRejectedError, DatabaseUnavailableError
from instep.core.sql import is_one_of, upsert_rows
from tests.support.faults import failing

pytestmark = pytest.mark.anyio

things = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("size", sa.BigInteger),
)


@pytest.fixture
def db(database_url: str) -> Any:
    db = Database(database_url)
    db.write_sync(lambda conn: things.create(conn))
    yield db
    db.close()


def put(conn: Conn, *rows: tuple[str, str | None, int | None], update: tuple[str, ...] = ()) -> None:
    listed = [dict(zip(("id", "name", "size"), row, strict=True)) for row in rows]
    upsert_rows(conn, things, listed, key="id", update=update)


def names(db: Database) -> dict[str, str | None]:
    return db.read_sync(lambda conn: {row.id: row.name for row in conn.execute(sa.select(things))})


async def test_a_write_commits_when_it_returns_and_rolls_back_when_it_raises(db: Database) -> None:
    await db.write(put, ("a", "one", 1))

    def broken(conn: Conn) -> None:
        put(conn, ("b", "two", 2))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await db.write(broken)
    assert names(db) == {"a": "one"}
    assert await db.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(things)).scalar_one()) == 1


async def test_an_upsert_inserts_once_and_updates_only_named_columns(db: Database) -> None:
    await db.write(put, ("a", "one", 1), ("b", "two", 2))
    await db.write(put, ("a", "other", 9), ("c", "three", 3))
    assert names(db) == {"a": "one", "b": "two", "c": "three"}
    await db.write(put, ("a", "other", 9), update=("name",))
    assert names(db)["a"] == "other"
    size = await db.read(lambda conn: conn.execute(sa.select(things.c.size).where(things.c.id == "a")).scalar_one())
    assert size == 1
    await db.write(put)


async def test_concurrent_writes_are_all_committed(db: Database) -> None:
    def add(conn: Conn, n: int) -> None:
        put(conn, ("all", None, 0), (f"row{n}", str(n), n))
        conn.execute(sa.update(things).where(things.c.id == "all").values(size=things.c.size + 1))

    await asyncio.gather(*[db.write(add, n) for n in range(40)])
    total = await db.read(lambda conn: conn.execute(sa.select(things.c.size).where(things.c.id == "all")).scalar_one())
    assert total == 40
    assert len(names(db)) == 41


async def test_reads_wait_for_a_thread_but_not_for_writers(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More concurrent reads would only share the processors; a long read does not block writes."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    db, most = Database(database_url, threads=4), 2
    at_work, begun, may_end = [0], threading.Semaphore(0), threading.Event()
    seen: list[int] = []

    def read(_conn: Conn) -> None:
        at_work[0] += 1
        seen.append(at_work[0])
        begun.release()
        may_end.wait(10)
        at_work[0] -= 1

    reading = [asyncio.create_task(db.read(read)) for _ in range(most + 2)]
    for _ in range(most):
        assert await asyncio.to_thread(begun.acquire, timeout=10)
    assert await db.write(lambda conn: conn.execute(sa.text("SELECT 1")).scalar_one()) == 1
    may_end.set()
    await asyncio.gather(*reading)
    db.close()
    assert max(seen) == most


async def test_a_lost_database_is_a_temporary_error(db: Database) -> None:
    with failing(db):
        with pytest.raises(DatabaseUnavailableError):
            await db.read(lambda conn: conn.execute(sa.select(things)).all())
        with pytest.raises(DatabaseUnavailableError):
            await db.write(put, ("a", "one", 1))
    with failing(db, "commit"), pytest.raises(DatabaseUnavailableError):
        await db.write(put, ("a", "one", 1))
    assert names(db) == {}


@pytest.mark.parametrize(
    "url",
    ["sqlite:////nowhere/at/all/\0", "postgresql://somebody:hunter2@127.0.0.1:1/none"],
)
async def test_an_unreachable_database_is_temporary_and_its_password_is_not_shown(url: str) -> None:
    if url.startswith("sqlite"):
        url = "sqlite:////proc/nothing.db"
    db = Database(url)
    with pytest.raises(DatabaseUnavailableError) as down:
        await db.read(lambda conn: conn.execute(sa.text("SELECT 1")).all())
    assert "hunter2" not in str(down.value)
    assert "\n" not in str(down.value)
    db.close()


async def test_invalid_values_are_a_permanent_error(db: Database) -> None:
    await db.write(put, ("a", "one", 1))
    again = sa.insert(things).values(id="a")
    with pytest.raises(DatabaseRejectedError):
        await db.write(lambda conn: conn.execute(again))


async def test_a_lost_race_is_retried(db: Database) -> None:
    """Two make the same row: the second finds it and goes on."""
    tried: list[int] = []

    def make(conn: Conn) -> None:
        tried.append(1)
        found = conn.execute(sa.select(things.c.id).where(things.c.id == "a")).scalar_one_or_none()
        if found is None:
            if len(tried) == 1:
                raise sa.exc.IntegrityError("", {}, Exception("duplicate key value violates unique constraint"))
            conn.execute(sa.insert(things).values(id="a"))

    await db.write(make)
    assert len(tried) == 2


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://a:hunter2@host/db", "postgresql://a:hunter2@host:port/db", "http://host"]
)
def test_an_invalid_database_url_is_reported_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="not a database URL") as refused:
        create_engine(url)
    assert "hunter2" not in str(refused.value)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(rows=st.dictionaries(texts, st.tuples(st.none() | texts, st.none() | st.integers(-(2**63), 2**63 - 1))))
def test_upserted_values_are_read_back_unchanged(db: Database, rows: dict[str, tuple[str | None, int | None]]) -> None:
    db.write_sync(lambda conn: conn.execute(sa.delete(things)))
    db.write_sync(put, *[(id, name, size) for id, (name, size) in rows.items()])
    query = sa.select(things.c.id, things.c.name, things.c.size)
    assert db.read_sync(lambda conn: {id: (name, size) for id, name, size in conn.execute(query)}) == rows
    wanted = [*list(rows)[:3], "not there"]
    found = db.read_sync(lambda conn: conn.execute(query.where(is_one_of(conn, things.c.id, wanted))).all())
    assert {row.id for row in found} == set(list(rows)[:3])


def test_thousands_of_ids_are_one_query(db: Database) -> None:
    db.write_sync(put, *[(f"id{n}", None, n) for n in range(5_000)])
    ids = [f"id{n}" for n in range(0, 5_000, 2)]
    query = sa.select(sa.func.count()).select_from(things)
    assert db.read_sync(lambda conn: conn.execute(query.where(is_one_of(conn, things.c.id, ids))).scalar_one()) == 2_500
    assert db.read_sync(lambda conn: conn.execute(query.where(is_one_of(conn, things.c.id, []))).scalar_one()) == 0


def test_a_bulk_write_does_not_weaken_the_next_write(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'bulk.db'}")

    def how(conn: Conn) -> tuple[int, int]:
        level, pages = (
            conn.exec_driver_sql(f"PRAGMA {it}").scalar_one() for it in ("synchronous", "wal_autocheckpoint")
        )
        return level, pages

    async def both() -> list[tuple[int, int]]:
        return [await db.write_bulk(how), await db.write(how), await db.write_bulk(how)]

    assert asyncio.run(both()) == [(1, 16000), (2, 1000), (1, 16000)]
    db.close()


async def test_a_failed_bulk_write_is_rolled_back(db: Database) -> None:
    def fail(conn: Conn) -> None:
        put(conn, ("1", "undone", 1))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await db.write_bulk(fail)
    assert names(db) == {}


def test_an_idle_transaction_does_not_block_others_indefinitely(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stops while it holds a row loses it; what it still wanted to write is not written."""
    monkeypatch.setattr("instep.core.db.MAX_IDLE_IN_TRANSACTION", 0.2)
    sleeper, other = Database(postgres_url), Database(postgres_url)
    other.write_sync(lambda conn: things.create(conn))
    other.write_sync(put, ("a", "Ada", 1))
    holds, wakes = threading.Event(), threading.Event()

    def hold_and_sleep(conn: Conn) -> None:
        conn.execute(sa.update(things).values(name="asleep"))
        holds.set()
        wakes.wait(60)
        conn.execute(sa.update(things).values(size=2))

    with ThreadPoolExecutor(1) as pool:
        sleeping = pool.submit(sleeper.write_sync, hold_and_sleep)
        assert holds.wait(60)
        other.write_sync(lambda conn: conn.execute(sa.update(things).values(name="awake")))
        wakes.set()
        with pytest.raises(DatabaseUnavailableError):
            sleeping.result(60)
    assert names(other) == {"a": "awake"}
    assert sleeper.read_sync(lambda conn: conn.execute(sa.select(things.c.size)).scalar_one()) == 1
    sleeper.close()
    other.close()
