"""Indexes that are dropped before a backfill and created after it."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from instep.core.db import Conn
from instep.mirror import search
from instep.mirror.tables import memberships, users

LOCK_TIMEOUT_MILLIS = 2_000


"""Milliseconds to wait for the lock of a table (PostgreSQL): other users of it go first."""


_FACT_PREFIX = "index_held_"
_USER_INDEXES = ("ix_instep_users_email", "ix_instep_users_username", "ix_instep_users_joined")
_MEMBERSHIP_INDEXES = ("ix_instep_memberships_role_page", "ix_instep_memberships_page", "ix_instep_memberships_joined")
# The slowest to create first. SQLite's search index is deferred in mirror.search. On PostgreSQL the other indexes of
# users cost nothing during a backfill, when the server is mostly idle.
_DEFERRABLE_INDEXES: dict[tuple[str, str], tuple[str, ...]] = {
    ("sqlite", users.name): _USER_INDEXES,
    ("sqlite", memberships.name): _MEMBERSHIP_INDEXES,
    ("postgresql", users.name): (search.get_search_index_name(users.name, "postgresql"),),
    ("postgresql", memberships.name): (
        search.get_search_index_name(memberships.name, "postgresql"),
        *_MEMBERSHIP_INDEXES,
    ),
}


def defer_indexes(conn: Conn, tables: Collection[str]) -> None:
    """Drop the indexes of these tables that are empty, after a check that they can be created again."""
    candidates = [table for table in (users, memberships) if table.name in tables]
    empty = [table for table in candidates if conn.execute(sa.select(table.c.id).limit(1)).first() is None]
    try:
        with conn.begin_nested():
            if conn.dialect.name == "postgresql":
                conn.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MILLIS}")
            for name in (name for table in empty for name in list_deferrable_indexes(conn, table.name)):
                insert_fact = "INSERT INTO instep_facts (name, value) VALUES (:fact, '') ON CONFLICT DO NOTHING"
                conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
                _create_index(conn, name)
                conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
                conn.execute(sa.text(insert_fact), {"fact": _FACT_PREFIX + name})
    except sa.exc.DBAPIError as error:  # in use, or the role may not drop it: it is then updated row by row
        if error.connection_invalidated:
            raise


def list_deferrable_indexes(conn: Conn, table: str) -> Sequence[str]:
    """Return the names of the indexes of a table that may be deferred."""
    return _DEFERRABLE_INDEXES[conn.dialect.name, table]


def list_deferred_indexes(conn: Conn, table: str | None = None) -> list[str]:
    """Return the names of the deferred indexes (of one table) that are still missing."""
    known = [
        name
        for candidate in (users.name, memberships.name)
        if table in (None, candidate)
        for name in list_deferrable_indexes(conn, candidate)
    ]
    facts = sa.text(f"SELECT name FROM instep_facts WHERE substr(name, 1, {len(_FACT_PREFIX)}) = '{_FACT_PREFIX}'")  # noqa: S608
    found = {str(name).removeprefix(_FACT_PREFIX) for (name,) in conn.execute(facts)}
    return [name for name in known if name in found]


def create_deferred_index(conn: Conn, name: str) -> None:
    """Create a deferred index. Writers of its table wait meanwhile, so it needs its own transaction."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
    _create_index(conn, name)
    conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :fact"), {"fact": _FACT_PREFIX + name})


def create_all_deferred_indexes(conn: Conn) -> None:
    """Create all deferred indexes that can be created."""
    for name in list_deferred_indexes(conn):
        try:
            with conn.begin_nested():
                create_deferred_index(conn, name)
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise


def _create_index(conn: Conn, name: str) -> None:
    for table in (users, memberships):
        for index in table.indexes:
            if index.name == name:
                conn.execute(sa.schema.CreateIndex(index, if_not_exists=True))
        if name == search.get_search_index_name(table.name, "postgresql"):
            search.create_postgresql_index(conn, table.name)
