"""The pace's SQL: one row, locked while permits are taken from it, and the one clock that all go by."""

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from instep.clerk.tables import pace
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, put_rows
from instep.kit.pace import Granted, Limit, Spent, Urgency, close, give_back, reserve

NAME = "clerk"
_decoder = msgspec.json.Decoder(Spent)
_clock = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)


def reserve_permits(conn: Conn, limit: Limit, urgency: Urgency, want: int, unused: Granted) -> Granted:
    """Up to `want` permits, for all replicas to see; `unused` ones go back before."""

    def change(spent: Spent, now: int) -> tuple[Spent, Granted]:
        return reserve(give_back(spent, unused.slot, unused.count), limit, urgency, want, now)

    return _change(conn, change)


def close_pace(conn: Conn, wait: int) -> None:
    """Nobody gets a permit for `wait` milliseconds."""
    _change(conn, lambda spent, now: (close(spent, wait, now), Granted(0)))


def _change(conn: Conn, change: Callable[[Spent, int], tuple[Spent, Granted]]) -> Granted:
    query = sa.select(pace.c.spent).where(pace.c.name == NAME).with_for_update()
    kept = conn.execute(query).scalar_one_or_none()
    if kept is None:
        put_rows(conn, pace, [{"name": NAME, "spent": "{}"}], key="name")
        kept = conn.execute(query).scalar_one()
    spent, granted = change(_decoder.decode(kept), _now(conn))
    written = sa.update(pace).where(pace.c.name == NAME)
    conn.execute(written.values(spent=msgspec.json.encode(spent).decode()))
    return granted


def _now(conn: Conn) -> int:
    """The database's own time, once the row is ours; on SQLite all who share it are on one machine."""
    if conn.dialect.name == "sqlite":
        return system_now()
    return int(conn.execute(sa.select(_clock)).scalar_one())


def make_table(conn: Conn) -> None:
    """Have the table, in a file that has nothing else."""
    pace.create(conn, checkfirst=True)
