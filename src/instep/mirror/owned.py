"""Fields that belong to the database: whatever Clerk says of them, by webhook or when it is read, stays unwritten.

Which ones is a setting. It goes with the database's connections (`OWNED` among the options of `kit.db.Db`), so that no
writer can forget it. A row that is new here takes every field from Clerk.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from instep.kit.db import Conn, is_among

OWNED = "instep_database_owns"


def owned_by_database(conn: Conn, *, but: Collection[str] = ()) -> frozenset[str]:
    """The names of the fields; `but` those that were just written to Clerk by ourselves."""
    owned: frozenset[str] = conn.get_execution_options().get(OWNED, frozenset())
    return owned.difference(but) if owned else owned


def keep_owned(
    conn: Conn, table: sa.Table, rows: Sequence[Mapping[str, Any]], owned: frozenset[str], known: Collection[str]
) -> list[dict[str, Any]]:
    """`rows` with the database's own values in the fields that it owns; `known`: our ids of those that have any."""
    names = sorted(owned.intersection(*(row.keys() for row in rows))) if rows and known else []
    if not names:
        return [dict(row) for row in rows]
    columns = [table.c[name] for name in names]
    query = sa.select(table.c.id, *columns).where(is_among(conn, table.c.id, sorted(known)))
    kept = {id: dict(zip(names, values, strict=True)) for id, *values in conn.execute(query)}
    return [{**row, **kept.get(row["id"], {})} for row in rows]
