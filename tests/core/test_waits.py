"""A request has one limit for all that it waits for the database."""

import asyncio
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from instep.core.db import Conn, Database, get_wait_budget, limit_database_waits
from instep.core.db_errors import DatabaseUnavailableError
from tests.support.locked import locked

pytestmark = pytest.mark.anyio


def touch(conn: Conn) -> int:
    conn.execute(sa.text("INSERT INTO instep_facts (name, value) VALUES ('touched', '1') ON CONFLICT DO NOTHING"))
    return 1


def test_a_limit_holds_inside_its_block_and_never_falls_below_nothing() -> None:
    assert get_wait_budget() is None
    with limit_database_waits(2) as outer:
        with limit_database_waits(1) as inner:
            assert get_wait_budget() is inner
            inner.spend(5)
            assert inner.left == 0
        assert get_wait_budget() is outer
        assert outer.left == 2
    assert get_wait_budget() is None


async def test_what_one_write_has_waited_is_not_left_for_the_next(db: Database) -> None:
    url = db.engine.url.render_as_string(hide_password=False)
    with locked(url), limit_database_waits(0.3) as limit:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                await db.write(touch)
            assert limit.left == 0
    with limit_database_waits(0.3) as limit:
        assert await db.write(touch) == 1
        assert limit.left > 0


async def test_a_request_that_has_waited_enough_still_writes_where_nothing_is_locked(db: Database) -> None:
    with limit_database_waits(0):
        assert await db.write(touch) == 1


async def test_a_write_behind_a_long_one_gives_up_and_never_runs(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'one.db'}")
    is_begun, may_end, ran = threading.Event(), threading.Event(), []

    def wait(_conn: Conn) -> None:
        is_begun.set()
        assert may_end.wait(60)

    long = asyncio.create_task(db.write(wait))
    assert await asyncio.to_thread(is_begun.wait, 60)
    with limit_database_waits(0.1), pytest.raises(DatabaseUnavailableError) as down:
        await db.write(lambda _: ran.append(1))
    assert "busy" in down.value.detail
    may_end.set()
    await long
    await db.write(lambda _: None)
    assert ran == []
    db.close()


async def test_a_cancelled_request_is_cancelled_and_no_outage(db: Database) -> None:
    async def write() -> None:
        with limit_database_waits(60):
            await db.write(touch)

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_optional_write_is_skipped_and_not_tried_again_at_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instep.core.db.BEST_EFFORT_WRITE_TIMEOUT", 0.1)
    with locked(db.engine.url.render_as_string(hide_password=False)):
        assert await db.write_best_effort(touch) is None
    assert await db.write_best_effort(touch) is None  # within the pause
    monkeypatch.setattr(db, "_best_effort_after", 0.0)
    assert await db.write_best_effort(touch) == 1


async def test_work_of_no_request_waits_longer_than_one(db: Database) -> None:
    assert Database(db.engine.url.render_as_string(hide_password=False)).lock_timeout > 10
