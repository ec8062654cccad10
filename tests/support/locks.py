"""Who waits for whom on PostgreSQL."""

from collections.abc import Callable

import sqlalchemy as sa

from instep.core.db import Conn

_WAITING = sa.text("SELECT pid FROM pg_locks WHERE NOT granted")


def is_waited_for(conn: Conn, is_over: Callable[[], bool]) -> bool:
    """Wait until somebody waits for a lock, as for one of this transaction's; False where it `is_over` before."""
    while not is_over():
        if conn.execute(_WAITING).first() is not None:
            return True
    return False
