"""SQL of the worker: due times of all kinds of work in one query."""

import sqlalchemy as sa
from msgspec import Struct

from instep.core.db import Conn
from instep.operations import repository as operations_repository
from instep.sync import repository as sync_repository
from instep.webhooks import repository as webhooks_repository


class DueTimes(Struct, frozen=True):
    """Times at which the next delivery, operation and sync run are due (Unix milliseconds); None where none waits."""

    deliveries: int | None
    operations: int | None
    sync: int | None


def find_due_times(conn: Conn) -> DueTimes:
    """Return the next due times, in one query."""
    queries = (
        webhooks_repository.NEXT_DUE_AT_QUERY,
        operations_repository.NEXT_DUE_AT_QUERY,
        sync_repository.OLDEST_UNFINISHED,
    )
    return DueTimes(*conn.execute(sa.select(*(it.scalar_subquery() for it in queries))).one())
