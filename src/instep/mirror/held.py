"""Indexes that a first sync holds back: made at once, they cost a fraction of what they cost row by row.

Only an empty table's are held, and only those that make lists and searches fast: without them everything is found as
well, more slowly. What is held is a fact in the database: whoever comes after a stop finds it, and makes the index.
"""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from instep.kit.db import Conn
from instep.mirror import search
from instep.mirror.tables import memberships, users

PATIENCE = 2_000


"""How long a table is waited for, in milliseconds (PostgreSQL): who uses it goes first."""


_FACT = "index_held_"
_OF_USERS = ("ix_instep_users_email", "ix_instep_users_username", "ix_instep_users_joined")
_OF_MEMBERSHIPS = ("ix_instep_memberships_role_page", "ix_instep_memberships_page", "ix_instep_memberships_joined")
# The longest to make first. SQLite's index of search waits by itself, see mirror.search; on PostgreSQL, which has
# little to do while people are read, their other indexes cost nothing then.
_HELD: dict[tuple[str, str], tuple[str, ...]] = {
    ("sqlite", users.name): _OF_USERS,
    ("sqlite", memberships.name): _OF_MEMBERSHIPS,
    ("postgresql", users.name): (search.index_of(users.name, "postgresql"),),
    ("postgresql", memberships.name): (search.index_of(memberships.name, "postgresql"), *_OF_MEMBERSHIPS),
}


def hold(conn: Conn, tables: Collection[str]) -> None:
    """Let go of the indexes of what is still empty, of these tables, once it is known that they can be made again."""
    ours = [it for it in (users, memberships) if it.name in tables]
    empty = [it for it in ours if conn.execute(sa.select(it.c.id).limit(1)).first() is None]
    try:
        with conn.begin_nested():
            if conn.dialect.name == "postgresql":
                conn.exec_driver_sql(f"SET LOCAL lock_timeout = {PATIENCE}")
            for name in (name for table in empty for name in names_of(conn, table.name)):
                note = "INSERT INTO instep_facts (name, value) VALUES (:fact, '') ON CONFLICT DO NOTHING"
                conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
                _create(conn, name)
                conn.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
                conn.execute(sa.text(note), {"fact": _FACT + name})
    except sa.exc.DBAPIError as error:  # somebody uses it, or the role may not: then it is made row by row
        if error.connection_invalidated:
            raise


def names_of(conn: Conn, table: str) -> Sequence[str]:
    """The names of the indexes of a table that may be held."""
    return _HELD[conn.dialect.name, table]


def list_held(conn: Conn, table: str | None = None) -> list[str]:
    """The names of the indexes (of one table) that wait to be made."""
    known = [name for it in (users.name, memberships.name) if table in (None, it) for name in names_of(conn, it)]
    facts = sa.text(f"SELECT name FROM instep_facts WHERE substr(name, 1, {len(_FACT)}) = '{_FACT}'")  # noqa: S608
    found = {str(name).removeprefix(_FACT) for (name,) in conn.execute(facts)}
    return [name for name in known if name in found]


def make(conn: Conn, name: str) -> None:
    """Make one that is held. Whoever writes to its table waits meanwhile, so in a transaction of its own."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
    _create(conn, name)
    conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :fact"), {"fact": _FACT + name})


def make_all(conn: Conn) -> None:
    """Make whatever is held and can be made."""
    for name in list_held(conn):
        try:
            with conn.begin_nested():
                make(conn, name)
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise


def _create(conn: Conn, name: str) -> None:
    for table in (users, memberships):
        for index in table.indexes:
            if index.name == name:
                conn.execute(sa.schema.CreateIndex(index, if_not_exists=True))
        if name == search.index_of(table.name, "postgresql"):
            search.make_on_postgresql(conn, table.name)
