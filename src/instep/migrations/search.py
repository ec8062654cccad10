"""The trigram indexes of search, in both dialects: made by every `instep migrate` that finds none and can make them.

They are no part of a version of the schema: a database without pg_trgm (or an SQLite without FTS5's trigrams) works,
finds the same people more slowly, and gets its indexes from the next `instep migrate` after it can have them.
"""
# ruff: noqa: S608 (the statements are made of names of ours alone)

import sqlalchemy as sa

from instep.mirror.search import (
    INDEXED_TEXT_SQL,
    create_postgresql_index,
    get_search_index_name,
    get_unindexed_fact_name,
    has_search_index,
)

_GATHERED = 16 * 2**20  # bytes that FTS5 gathers before it writes: a bulk load makes fewer pieces, to be merged again


def ensure(conn: sa.Connection) -> bool:
    """Make what is missing; whether it is there now."""
    if has_search_index(conn):
        return True
    try:
        with conn.begin_nested():
            _make_on_postgresql(conn) if conn.dialect.name == "postgresql" else _make_on_sqlite(conn)
    except sa.exc.DBAPIError as error:  # not installed on the server, not allowed to this role, not in this SQLite
        if error.connection_invalidated:
            raise
        return False
    return True


def _make_on_postgresql(conn: sa.Connection) -> None:
    conn.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for table, _ in _texts(conn):
        create_postgresql_index(conn, table)


def _make_on_sqlite(conn: sa.Connection) -> None:
    for table, text in _texts(conn):
        for statement in _sqlite(table, text):
            conn.exec_driver_sql(statement)


def _texts(conn: sa.Connection) -> list[tuple[str, str]]:
    return [(table, text) for (dialect, table), text in INDEXED_TEXT_SQL.items() if dialect == conn.dialect.name]


def _sqlite(table: str, text: str) -> list[str]:
    """An index beside the table, kept in step by triggers but for the newest rows while a bulk load holds it."""
    index = get_search_index_name(table, "sqlite")
    old, new = (text.format(row=f"{row}.") for row in ("OLD", "NEW"))
    held = f"(SELECT CAST(value AS INTEGER) FROM instep_facts WHERE name = '{get_unindexed_fact_name(table)}')"
    forget = f"INSERT INTO {index} ({index}, rowid, text) VALUES ('delete', OLD.rowid, {old});"
    learn = f"INSERT INTO {index} (rowid, text) VALUES (NEW.rowid, {new});"
    return [
        f"CREATE VIRTUAL TABLE {index} USING fts5(text, content='', detail=none, columnsize=0,"
        " tokenize='trigram case_sensitive 1')",
        f"INSERT INTO {index} ({index}, rank) VALUES ('hashsize', {_GATHERED})",
        f"INSERT INTO {index} (rowid, text) SELECT rowid, {text.format(row='')} FROM {table}",
        f"CREATE TRIGGER {index}_insert AFTER INSERT ON {table}"
        f" WHEN NEW.rowid <= coalesce({held}, NEW.rowid) BEGIN {learn} END",
        f"CREATE TRIGGER {index}_delete AFTER DELETE ON {table}"
        f" WHEN OLD.rowid <= coalesce({held}, OLD.rowid) BEGIN {forget} END",
        f"CREATE TRIGGER {index}_update AFTER UPDATE OF search_text ON {table}"
        f" WHEN OLD.search_text IS NOT NEW.search_text AND NEW.rowid <= coalesce({held}, NEW.rowid)"
        f" BEGIN {forget} {learn} END",
    ]
