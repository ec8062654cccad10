"""Trigram indexes of search, in both dialects, created by every `instep migrate` that can and finds none.

They are not part of a schema revision: a database without pg_trgm (or an SQLite without FTS5's trigrams) works, finds
the same rows more slowly, and gets its indexes from the next `instep migrate` that can create them.
"""
# ruff: noqa: S608 (the statements contain only our own names)

import sqlalchemy as sa

from instep.mirror.search import (
    INDEXED_TEXT_SQL,
    create_postgresql_index,
    get_search_index_name,
    get_unindexed_fact_name,
    has_search_index,
)

_HASH_SIZE = 16 * 2**20  # bytes that FTS5 buffers before it writes: a bulk load makes fewer segments to merge


def ensure_search_indexes(conn: sa.Connection) -> bool:
    """Create the indexes that are missing; return whether they exist now."""
    if has_search_index(conn):
        return True
    try:
        with conn.begin_nested():
            _create_on_postgresql(conn) if conn.dialect.name == "postgresql" else _create_on_sqlite(conn)
    except sa.exc.DBAPIError as error:  # not installed on the server, not allowed for this role, not in this SQLite
        if error.connection_invalidated:
            raise
        return False
    return True


def _create_on_postgresql(conn: sa.Connection) -> None:
    conn.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for table, _ in _list_indexed_texts(conn):
        create_postgresql_index(conn, table)


def _create_on_sqlite(conn: sa.Connection) -> None:
    for table, text in _list_indexed_texts(conn):
        for statement in _build_sqlite_statements(table, text):
            conn.exec_driver_sql(statement)


def _list_indexed_texts(conn: sa.Connection) -> list[tuple[str, str]]:
    return [(table, text) for (dialect, table), text in INDEXED_TEXT_SQL.items() if dialect == conn.dialect.name]


def _build_sqlite_statements(table: str, text: str) -> list[str]:
    """Return the statements for an index beside the table.

    Triggers keep it up to date, except for the newest rows while a backfill defers them.
    """
    index = get_search_index_name(table, "sqlite")
    old, new = (text.format(row=f"{row}.") for row in ("OLD", "NEW"))
    indexed_until = f"(SELECT CAST(value AS INTEGER) FROM instep_facts WHERE name = '{get_unindexed_fact_name(table)}')"
    delete = f"INSERT INTO {index} ({index}, rowid, text) VALUES ('delete', OLD.rowid, {old});"
    insert = f"INSERT INTO {index} (rowid, text) VALUES (NEW.rowid, {new});"
    return [
        f"CREATE VIRTUAL TABLE {index} USING fts5(text, content='', detail=none, columnsize=0,"
        " tokenize='trigram case_sensitive 1')",
        f"INSERT INTO {index} ({index}, rank) VALUES ('hashsize', {_HASH_SIZE})",
        f"INSERT INTO {index} (rowid, text) SELECT rowid, {text.format(row='')} FROM {table}",
        f"CREATE TRIGGER {index}_insert AFTER INSERT ON {table}"
        f" WHEN NEW.rowid <= coalesce({indexed_until}, NEW.rowid) BEGIN {insert} END",
        f"CREATE TRIGGER {index}_delete AFTER DELETE ON {table}"
        f" WHEN OLD.rowid <= coalesce({indexed_until}, OLD.rowid) BEGIN {delete} END",
        f"CREATE TRIGGER {index}_update AFTER UPDATE OF search_text ON {table}"
        f" WHEN OLD.search_text IS NOT NEW.search_text AND NEW.rowid <= coalesce({indexed_until}, NEW.rowid)"
        f" BEGIN {delete} {insert} END",
    ]
