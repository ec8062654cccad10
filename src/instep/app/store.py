"""When the next background work is due, of all kinds in one query."""

import sqlalchemy as sa
from msgspec import Struct

from instep.inbox import store
from instep.journal import store as journal_store
from instep.kit.db import Conn
from instep.sync import store as sync_store


class DueTimes(Struct, frozen=True):
    """When the next delivery, operation and run of sync are due (Unix milliseconds); None where none waits."""

    inbox: int | None
    operations: int | None
    sync: int | None


def find_due_times(conn: Conn) -> DueTimes:
    """Read all three in one query."""
    queries = (store.NEXT_DUE, journal_store.NEXT_DUE, sync_store.NEXT_DUE)
    return DueTimes(*conn.execute(sa.select(*(it.scalar_subquery() for it in queries))).one())
