"""Periodic tasks: a failure ends nothing, and what must run once runs once however many replicas there are."""

import asyncio
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from instep.app.scheduler import RETENTION, ExpiredDataCleanup, PeriodicTask, claim_cleanup, run_periodically
from instep.auth.repository import find_session, insert_session
from instep.core.clock import DAY, Millis
from instep.core.db import Conn, Database
from instep.core.errors import TemporaryError
from instep.webhooks.tables import deliveries

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000_000


async def test_a_task_runs_again_after_a_failure_of_either_kind() -> None:
    failures: list[Exception] = [TemporaryError("Not now."), ValueError("a fault of ours")]
    enough = asyncio.Event()

    async def run() -> None:
        if failures:
            raise failures.pop()
        enough.set()

    task = asyncio.create_task(run_periodically(PeriodicTask("test", 0, run, first=0)))
    async with asyncio.timeout(20):
        await enough.wait()
    task.cancel()


def test_replicas_claim_the_cleanup_once_a_day(db: Database) -> None:
    claims = [db.write_sync(claim_cleanup, now) for now in (NOW, NOW + 1, NOW + DAY - 1, NOW + DAY, NOW + DAY + 1)]
    assert claims == [True, False, False, True, False]


def test_a_clock_that_goes_back_does_not_postpone_the_cleanup(db: Database) -> None:
    assert db.write_sync(claim_cleanup, NOW + 300 * DAY)
    assert db.write_sync(claim_cleanup, NOW)


async def test_the_cleanup_deletes_what_ended_more_than_30_days_ago(db: Database) -> None:
    for name, at in (("old", NOW - RETENTION - 1), ("recent", NOW - RETENTION)):
        db.write_sync(insert_session, token_hash=name, claims=None, at=at)
        row = {"id": name, "type": "user.updated", "body": "{}", "received_at": at, "state": "settled"}
        db.write_sync(partial(_insert_delivery, row=row))
    await ExpiredDataCleanup(db, lambda: Millis(NOW)).run()
    kept = db.read_sync(lambda conn: conn.scalars(sa.select(deliveries.c.id)).all())
    assert kept == ["recent"]
    assert db.read_sync(find_session, token_hashes=["old"]) is None
    assert db.read_sync(find_session, token_hashes=["recent"]) is not None


def _insert_delivery(conn: Conn, *, row: dict[str, Any]) -> None:
    conn.execute(sa.insert(deliveries).values(row))
