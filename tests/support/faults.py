"""Databases that fail: before a statement, at a commit, or altogether."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from instep.core.db import Database


def lost() -> sa.exc.OperationalError:
    """What SQLAlchemy raises when the database is not there any more."""
    return sa.exc.OperationalError("", {}, Exception("the disk is gone"))


@contextmanager
def failing(db: Database, at: str = "before_cursor_execute", only: str = "") -> Iterator[None]:
    """Within, every statement (with `only` in it) fails, or every commit does (`at="commit"`)."""

    def fail(*arguments: Any) -> None:
        if at == "commit" or only in arguments[2]:
            raise lost()

    def refuse(*_: Any) -> None:
        raise lost()

    faults: list[tuple[str, Any]] = [(at, fail)]
    if at != "commit" and not only:  # some reading goes to the driver past SQLAlchemy's statements
        faults.append(("checkout", refuse))
    for event, fault in faults:
        sa.event.listen(db.engine, event, fault)
    try:
        yield
    finally:
        for event, fault in faults:
            sa.event.remove(db.engine, event, fault)
