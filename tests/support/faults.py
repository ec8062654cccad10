"""Databases that fail: before a statement, at a commit, or altogether."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from instep.kit.db import Db


def lost() -> sa.exc.OperationalError:
    """What SQLAlchemy raises when the database is not there any more."""
    return sa.exc.OperationalError("", {}, Exception("the disk is gone"))


@contextmanager
def failing(db: Db, at: str = "before_cursor_execute", only: str = "") -> Iterator[None]:
    """Within, every statement (with `only` in it) fails, or every commit does (`at="commit"`)."""

    def fail(*arguments: Any) -> None:
        if at == "commit" or only in arguments[2]:
            raise lost()

    sa.event.listen(db.engine, at, fail)
    try:
        yield
    finally:
        sa.event.remove(db.engine, at, fail)


async def buried(db: Db) -> None:
    """Wait until the database has noticed that somebody died: PostgreSQL does a moment later, and undoes their work."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    def others(conn: sa.Connection) -> bool:
        return bool(conn.execute(sa.text(f"{query} AND state <> 'idle'")).scalar_one())

    while not db.is_sqlite and await db.read(others):  # noqa: ASYNC110 (PostgreSQL tells nobody)
        await asyncio.sleep(0.005)
