"""A request has one budget for all its waits for the database."""

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


def test_a_budget_applies_inside_its_block_and_is_never_negative() -> None:
    assert get_wait_budget() is None
    with limit_database_waits(2) as outer:
        with limit_database_waits(1) as inner:
            assert get_wait_budget() is inner
            inner.spend(5)
            assert inner.left == 0
        assert get_wait_budget() is outer
        assert outer.left == 2
    assert get_wait_budget() is None


async def test_the_wait_of_one_write_reduces_the_budget_of_the_next(db: Database) -> None:
    url = db.engine.url.render_as_string(hide_password=False)
    with locked(url), limit_database_waits(0.3) as limit:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                await db.write(touch)
            assert limit.left == 0
    with limit_database_waits(0.3) as limit:
        assert await db.write(touch) == 1
        assert limit.left > 0


async def test_a_request_without_budget_still_writes_without_contention(db: Database) -> None:
    with limit_database_waits(0):
        assert await db.write(touch) == 1


async def test_a_write_queued_too_long_fails_and_never_runs(tmp_path: Path) -> None:
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


async def test_a_cancelled_request_is_not_an_outage(db: Database) -> None:
    async def write() -> None:
        with limit_database_waits(60):
            await db.write(touch)

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_best_effort_write_is_skipped_and_not_retried_immediately(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instep.core.db.BEST_EFFORT_WRITE_TIMEOUT", 0.1)
    with locked(db.engine.url.render_as_string(hide_password=False)):
        assert await db.write_best_effort(touch) is None
    assert await db.write_best_effort(touch) is None  # within the pause
    monkeypatch.setattr(db, "_best_effort_after", 0.0)
    assert await db.write_best_effort(touch) == 1


async def test_background_work_waits_longer_than_a_request(db: Database) -> None:
    assert Database(db.engine.url.render_as_string(hide_password=False)).lock_timeout > 10
