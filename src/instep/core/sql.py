"""SQL building blocks: list parameters, prepared reads, bulk upserts and NOTIFY."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from instep.core.db import AUTOCOMMIT, Conn


def fetch_all(conn: Conn, statement: sa.Select[Any], given: Mapping[str, Any]) -> Sequence[Any]:
    """All rows of a statement that is built once, as plain tuples; for columns that need no conversion (text, numbers).

    On PostgreSQL it goes to the driver as it was compiled the first time, for half of what SQLAlchemy takes for it.
    What fails there is done again the ordinary way, and fails as it should: so this is for reading alone.
    """
    if conn.dialect.name == "postgresql" and conn.get_execution_options().get("isolation_level") == AUTOCOMMIT:
        try:
            text, fixed = _compile(statement, conn.dialect)
            cursor = conn.connection.cursor()
            try:
                cursor.execute(text, {**fixed, **given})
                return cursor.fetchall()
            finally:
                cursor.close()
        except psycopg.Error:
            pass
    return conn.execute(statement, given).all()


@lru_cache(maxsize=1024)
def _compile(statement: sa.Select[Any], dialect: sa.Dialect) -> tuple[str, Mapping[str, Any]]:
    compiled = statement.compile(dialect=dialect)
    return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}


def is_one_of(conn: Conn, column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """`column` is one of `values`: one bound parameter, however many there are."""
    dialect = conn.dialect.name
    return _make_membership_test(
        dialect, column, sa.bindparam(None, make_list_parameter(conn, values), type_=_LIST_TYPES[dialect])
    )


def is_one_of_parameter(dialect: str, column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """`is_among` for a statement that is built once for a dialect; the parameter `name` is given as `listed`.

    Building a statement takes longer than most take to run: the busiest are built once, with names for what varies.
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
    """Values as the parameter that `is_in` takes."""
    return list(values) if conn.dialect.name == "postgresql" else msgspec.json.encode(list(values)).decode()


def upsert_rows(
    conn: Conn,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str,
    update: Sequence[str] = (),
    order: str | None = None,
) -> None:
    """Insert many rows in one statement; where `key` is there already, set the columns of `update`, else leave it.

    Every row has the same columns. Rows are written in the order of their key, or of what else tells writers that they
    mean the same row (`order`), so that two never wait for each other in a circle.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: str(row[order or key]))
    columns = tuple(ordered[0])
    if conn.dialect.name == "postgresql":
        statement = _insert_from_json(table, columns, key, tuple(update))
        conn.execute(statement, {"rows": msgspec.json.encode(ordered).decode()})
    else:
        conn.execute(_insert_one_by_one(table, columns, key, tuple(update)), ordered)


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
    """Tell whoever listens, once this transaction is committed (PostgreSQL only)."""
    for payload in payloads:
        conn.execute(sa.select(sa.func.pg_notify(channel, payload)))
