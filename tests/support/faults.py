"""Databases that fail: before a statement, at a commit, or altogether."""

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
