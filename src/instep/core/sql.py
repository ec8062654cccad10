"""SQL building blocks: list parameters, prepared reads, bulk upserts and NOTIFY."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from instep.core.db import AUTOCOMMIT, Conn


def fetch_all(conn: Conn, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
    """Return all rows of a reused statement as plain tuples; for columns that need no conversion (text, numbers).

    On PostgreSQL it goes to the driver as compiled the first time, at half of SQLAlchemy's cost. If that fails, it is
    executed again by SQLAlchemy, which raises the proper error; so this is for reading only.
    """
    if conn.dialect.name == "postgresql" and conn.get_execution_options().get("isolation_level") == AUTOCOMMIT:
        try:
            text, fixed = _compile(statement, conn.dialect)
            cursor = conn.connection.cursor()
            try:
                cursor.execute(text, {**fixed, **parameters})
                return cursor.fetchall()
            finally:
                cursor.close()
        except psycopg.Error:
            pass
    return conn.execute(statement, parameters).all()


@lru_cache(maxsize=1024)
def _compile(statement: sa.Select[Any], dialect: sa.Dialect) -> tuple[str, Mapping[str, Any]]:
    compiled = statement.compile(dialect=dialect)
    return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}


def is_one_of(conn: Conn, column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that `column` is one of `values`, as one bound parameter whatever their number."""
    dialect = conn.dialect.name
    return _make_membership_test(
        dialect, column, sa.bindparam(None, make_list_parameter(conn, values), type_=_LIST_TYPES[dialect])
    )


def is_one_of_parameter(dialect: str, column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """Return the condition of `is_one_of` for a reused statement; `name` is the parameter (see `make_list_parameter`).

    Building a statement takes longer than running most of them, so the most frequent are built once for each dialect.
    """
    return _make_membership_test(dialect, column, sa.bindparam(name, type_=_LIST_TYPES[dialect]))


_LIST_TYPES: dict[str, sa.types.TypeEngine[Any]] = {"postgresql": postgresql.ARRAY(sa.Text), "sqlite": sa.Text()}


def _make_membership_test(
    dialect: str, column: sa.ColumnElement[Any], values: sa.BindParameter[Any]
) -> sa.ColumnElement[bool]:
    if dialect == "postgresql":
        return column == sa.any_(values)
    return column.in_(sa.select(sa.func.json_each(values).table_valued("value").c.value))


def make_list_parameter(conn: Conn, values: Sequence[str]) -> Any:
    """Return values as the parameter that `is_one_of_parameter` expects."""
    return list(values) if conn.dialect.name == "postgresql" else msgspec.json.encode(list(values)).decode()


def upsert_rows(
    conn: Conn,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str,
    update: Sequence[str] = (),
    lock_order: str | None = None,
) -> None:
    """Insert many rows in one statement; if `key` exists, set the columns of `update`, or nothing.

    All rows have the same columns. Rows are written in the order of their key, or of the column `lock_order` by which
    other writers identify the same row, so that concurrent writers do not deadlock.
    """
    if not rows:
        return
    sorted_rows = sorted(rows, key=lambda row: str(row[lock_order or key]))
    columns = tuple(sorted_rows[0])
    if conn.dialect.name == "postgresql":
        statement = _insert_from_json(table, columns, key, tuple(update))
        conn.execute(statement, {"rows": msgspec.json.encode(sorted_rows).decode()})
    else:
        conn.execute(_insert_one_by_one(table, columns, key, tuple(update)), sorted_rows)


@lru_cache
def _insert_from_json(table: sa.Table, columns: tuple[str, ...], key: str, update: tuple[str, ...]) -> sa.Insert:
    source = (
        sa.func.json_to_recordset(sa.cast(sa.bindparam("rows", type_=sa.Text), postgresql.JSON))
        .table_valued(*(sa.column(name, table.c[name].type) for name in columns))
        .render_derived(with_types=True)
    )
    insert = postgresql.insert(table).from_select(columns, sa.select(source))
    return _on_conflict(insert, key, update)


@lru_cache
def _insert_one_by_one(table: sa.Table, columns: tuple[str, ...], key: str, update: tuple[str, ...]) -> sa.Insert:
    insert = sqlite.insert(table).values({name: sa.bindparam(name) for name in columns})
    return _on_conflict(insert, key, update)


def _on_conflict(insert: Any, key: str, update: tuple[str, ...]) -> sa.Insert:
    if not update:
        return insert.on_conflict_do_nothing(index_elements=[key])  # type: ignore[no-any-return]
    changes = {name: insert.excluded[name] for name in update}
    return insert.on_conflict_do_update(index_elements=[key], set_=changes)  # type: ignore[no-any-return]


def notify_channel(conn: Conn, channel: str, payloads: Sequence[str]) -> None:
    """Send a notification for each payload when this transaction commits (PostgreSQL only)."""
    for payload in payloads:
        conn.execute(sa.select(sa.func.pg_notify(channel, payload)))
