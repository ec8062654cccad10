"""Indexes that are dropped before a backfill and created after it."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from instep.core.db import Conn
from instep.mirror import search
from instep.mirror.tables import memberships, users

LOCK_TIMEOUT_MILLIS = 2_000


"""How long a table is waited for, in milliseconds (PostgreSQL): who uses it goes first."""


_FACT_PREFIX = "index_held_"
_USER_INDEXES = ("ix_instep_users_email", "ix_instep_users_username", "ix_instep_users_joined")
_MEMBERSHIP_INDEXES = ("ix_instep_memberships_role_page", "ix_instep_memberships_page", "ix_instep_memberships_joined")
# The longest to make first. SQLite's index of search waits by itself, see mirror.search; on PostgreSQL, which has
# little to do while people are read, their other indexes cost nothing then.
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
    """Let go of the indexes of what is still empty, of these tables, once it is known that they can be made again."""
    ours = [it for it in (users, memberships) if it.name in tables]
    empty = [it for it in ours if conn.execute(sa.select(it.c.id).limit(1)).first() is None]
    try:
        with conn.begin_nested():
            if conn.dialect.name == "postgresql":
                conn.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MILLIS}")
            for name in (name for table in empty for name in list_deferrable_indexes(conn, table.name)):
                note = "INSERT INTO instep_facts (name, value) VALUES (:fact, '') ON CONFLICT DO NOTHING"
                conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
                _create_index(conn, name)
                conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
                conn.execute(sa.text(note), {"fact": _FACT_PREFIX + name})
    except sa.exc.DBAPIError as error:  # somebody uses it, or the role may not: then it is made row by row
        if error.connection_invalidated:
            raise


def list_deferrable_indexes(conn: Conn, table: str) -> Sequence[str]:
    """The names of the indexes of a table that may be held."""
    return _DEFERRABLE_INDEXES[conn.dialect.name, table]


def list_deferred_indexes(conn: Conn, table: str | None = None) -> list[str]:
    """The names of the indexes (of one table) that wait to be made."""
    known = [
        name
        for it in (users.name, memberships.name)
        if table in (None, it)
        for name in list_deferrable_indexes(conn, it)
    ]
    facts = sa.text(f"SELECT name FROM instep_facts WHERE substr(name, 1, {len(_FACT_PREFIX)}) = '{_FACT_PREFIX}'")  # noqa: S608
    found = {str(name).removeprefix(_FACT_PREFIX) for (name,) in conn.execute(facts)}
    return [name for name in known if name in found]


def create_deferred_index(conn: Conn, name: str) -> None:
    """Make one that is held. Whoever writes to its table waits meanwhile, so in a transaction of its own."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
    _create_index(conn, name)
    conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :fact"), {"fact": _FACT_PREFIX + name})


def create_all_deferred_indexes(conn: Conn) -> None:
    """Make whatever is held and can be made."""
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
