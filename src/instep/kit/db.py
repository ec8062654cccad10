"""The database: one engine, one seam between async code and synchronous SQL, and bulk writing.

Store functions are plain functions with the connection first. `await db.read(fn, ...)` and `await db.write(fn, ...)`
run them on a thread, a write in one transaction; `db.reading(fn, ...)` and `db.writing(fn, ...)` do the same without an
event loop, for scripts.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
import stamina
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from instep.kit.errors import PermanentError, TemporaryError

P = ParamSpec("P")
T = TypeVar("T")
Conn = sa.Connection
Fn = Callable[Concatenate[Conn, P], T]

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

THREADS = 8
"""Connections of a process at the most. More reads side by side would only share the processors: a long search then
takes as many times as long, where in turn it waits for a moment and ends at once."""
MOST_IDLE = 60.0  # seconds: whoever stops in the middle of a transaction keeps its rows no longer than this
_ALONE = "AUTOCOMMIT"  # each statement by itself
_PRAGMAS = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "busy_timeout=10000",
    "cache_size=-16000",
)
# Many pages are changed by each of many transactions: they are brought into the database every 64 MB, not every 4.
_BULK_PRAGMAS = ("synchronous=NORMAL", "wal_autocheckpoint=16000", "cache_size=-64000")
_USUAL_PRAGMAS = ("synchronous=FULL", "wal_autocheckpoint=1000", "cache_size=-16000")
_IDLE_TOO_LONG = "25P03"
_TOO_MUCH = "54"  # a value that passes a limit of PostgreSQL's, such as the size of an index row: no outage
_PASSING = ("deadlock detected", "could not serialize", "database is locked", "duplicate key", "UNIQUE constraint")


class DatabaseDown(TemporaryError):
    """The database can't be reached or did not answer."""


class DatabaseRefused(PermanentError):
    """The database can't take these values (a constraint, a value out of range): trying again gives the same."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="database_refused")


class Db:
    """An engine and the threads that use it. SQLite: one writes, as many read as there are processors; PostgreSQL: half
    of them read, half write.

    `url` is an SQLAlchemy URL (`sqlite:///file`, `postgresql://...` with psycopg 3). Nothing is opened before the
    first use. Raises DatabaseDown from every call while the database can't be reached. `options` go with every
    connection: what all readers and writers must heed. `survives_power` False: on SQLite the last moments before a
    power cut may be lost, and no commit waits for the disk.
    """

    def __init__(
        self, url: str, *, threads: int = THREADS, options: Mapping[str, Any] | None = None, survives_power: bool = True
    ) -> None:
        self.engine = make_engine(url, threads, survives_power=survives_power)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # Ending a reading transaction would make psycopg forget the statements that the server has prepared.
        alone: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": _ALONE}
        self._reading = self.engine.execution_options(**(options or {}), **alone)
        self._writing = self.engine.execution_options(instep_writes=True, **(options or {}))
        self._bulk = self._writing.execution_options(instep_is_bulk=True)
        readers = min(threads, max(os.cpu_count() or 1, 2)) if self.is_sqlite else max(threads // 2, 1)
        writers = 1 if self.is_sqlite else max(threads - readers, 1)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="instep-read")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="instep-write")

    async def read(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)`, which writes nothing; on PostgreSQL each of its statements sees what is committed."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, lambda: self.reading(fn, *args, **kwargs))

    async def write(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in a transaction that is committed when it returns and undone when it raises.

        It runs in the caller's context: what is written knows the request that it belongs to.
        """
        return await self._aside(self._writing, lambda conn: fn(conn, *args, **kwargs))

    async def write_bulk(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` of much that can be had again: on SQLite a power cut may undo the last of these, each as a whole.

        Whatever `write` commits afterwards is kept together with everything before it.
        """
        return await self._aside(self._bulk, lambda conn: fn(conn, *args, **kwargs))

    async def _aside(self, engine: sa.Engine, do: Callable[[Conn], T]) -> T:
        loop, context = asyncio.get_running_loop(), copy_context()
        return await loop.run_in_executor(self._writers, lambda: context.run(self._write, engine, do))

    def reading(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` without an event loop."""
        try:
            with self._reading.connect() as conn:
                return fn(conn, *args, **kwargs)
        except DBAPIError as error:
            if _is_down(error):
                raise DatabaseDown(f"The database can't be read: {_cause(error)}") from error
            raise DatabaseRefused(f"The database can't look for this: {_cause(error)}") from error

    def writing(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` without an event loop. A deadlock or a lost serialization is tried again: `fn` then runs anew."""
        return self._write(self._writing, lambda conn: fn(conn, *args, **kwargs))

    def _write(self, engine: sa.Engine, do: Callable[[Conn], T]) -> T:
        try:
            try:
                return _write_once(engine, do)
            except DBAPIError as error:
                if not _is_passing(error):
                    raise
            for attempt in stamina.retry_context(on=_is_passing, attempts=3, wait_initial=0.02, wait_max=0.5):
                with attempt:
                    return _write_once(engine, do)
        except DBAPIError as error:
            if _is_down(error):
                raise DatabaseDown(f"The database can't be written: {_cause(error)}") from error
            raise DatabaseRefused(f"The database refused the change: {_cause(error)}") from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the threads and close every connection."""
        self._readers.shutdown(wait=True)
        self._writers.shutdown(wait=True)
        self.engine.dispose()


def _write_once(engine: sa.Engine, do: Callable[[Conn], T]) -> T:
    with engine.connect() as conn, conn.begin():
        return do(conn)


def make_engine(url: str, threads: int = THREADS, *, survives_power: bool = True) -> sa.Engine:
    """An engine for `url`, set up the way instep needs it; nothing is opened yet. Raises ValueError for no such URL."""
    parsed = _parsed(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    common: dict[str, Any] = {
        "json_serializer": lambda value: msgspec.json.encode(value).decode(),
        "json_deserializer": msgspec.json.decode,
    }
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, common, threads, "FULL" if survives_power else "NORMAL")
    return _postgres_engine(parsed, common, threads)


def _parsed(url: str) -> sa.URL:
    """What `url` means. The complaint does not repeat it: there is a password in it."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend not in ("sqlite", "postgresql", "postgres"):
        raise ValueError("not the address of a database: sqlite:///file, or postgresql://user:password@host/name")
    return parsed


def _postgres_engine(url: sa.URL, common: dict[str, Any], threads: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=threads,
        max_overflow=2,
        pool_pre_ping=False,
        connect_args={"prepare_threshold": 2, "connect_timeout": 5},
        **common,
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {int(MOST_IDLE * 1_000)}")
        connection.commit()

    @sa.event.listens_for(engine, "handle_error")
    def _notice(context: sa.engine.ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _IDLE_TOO_LONG:
            context.is_disconnect = True

    return engine


def _sqlite_engine(url: sa.URL, common: dict[str, Any], threads: int, synchronous: str) -> sa.Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=threads + 1,
        pool_use_lifo=True,  # each connection has a cache of its own: few at work, little memory
        connect_args={"check_same_thread": False, "cached_statements": 256},
        **common,
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in (*_PRAGMAS, f"synchronous={synchronous}"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: Conn) -> None:
        options = conn.get_execution_options()
        is_writing = options.get("instep_writes", False)
        if options.get("instep_is_bulk", False):
            conn.info["instep_is_bulk"] = True
            for pragma in _BULK_PRAGMAS:
                conn.exec_driver_sql(f"PRAGMA {pragma}")
        conn.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")

    @sa.event.listens_for(engine, "checkin")
    def _end_bulk(connection: Any, record: Any) -> None:
        if record.info.pop("instep_is_bulk", False) and connection is not None:
            for pragma in _USUAL_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")

    return engine


def _is_passing(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and any(words in str(error.orig) for words in _PASSING)


def _is_down(error: DBAPIError) -> bool:
    is_too_much = str(getattr(error.orig, "sqlstate", "")).startswith(_TOO_MUCH)
    return error.connection_invalidated or (isinstance(error, OperationalError) and not is_too_much)


def _cause(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]


def fetch(conn: Conn, statement: sa.Select[Any], given: Mapping[str, Any]) -> Sequence[Any]:
    """All rows of a statement that is built once, as plain tuples; for columns that need no conversion (text, numbers).

    On PostgreSQL it goes to the driver as it was compiled the first time, for half of what SQLAlchemy takes for it.
    What fails there is done again the ordinary way, and fails as it should: so this is for reading alone.
    """
    if conn.dialect.name == "postgresql" and conn.get_execution_options().get("isolation_level") == _ALONE:
        try:
            text, fixed = _compiled(statement, conn.dialect)
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
def _compiled(statement: sa.Select[Any], dialect: sa.Dialect) -> tuple[str, Mapping[str, Any]]:
    compiled = statement.compile(dialect=dialect)
    return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}


def is_among(conn: Conn, column: sa.ColumnElement[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """`column` is one of `values`: one bound parameter, however many there are."""
    dialect = conn.dialect.name
    return _is_one_of(dialect, column, sa.bindparam(None, listed(conn, values), type_=_LISTED[dialect]))


def is_in(dialect: str, column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """`is_among` for a statement that is built once for a dialect; the parameter `name` is given as `listed`.

    Building a statement takes longer than most take to run: the busiest are built once, with names for what varies.
    """
    return _is_one_of(dialect, column, sa.bindparam(name, type_=_LISTED[dialect]))


_LISTED: dict[str, sa.types.TypeEngine[Any]] = {"postgresql": postgresql.ARRAY(sa.Text), "sqlite": sa.Text()}


def _is_one_of(dialect: str, column: sa.ColumnElement[Any], values: sa.BindParameter[Any]) -> sa.ColumnElement[bool]:
    if dialect == "postgresql":
        return column == sa.any_(values)
    return column.in_(sa.select(sa.func.json_each(values).table_valued("value").c.value))


def listed(conn: Conn, values: Sequence[str]) -> Any:
    """Values as the parameter that `is_in` takes."""
    return list(values) if conn.dialect.name == "postgresql" else msgspec.json.encode(list(values)).decode()


def put_rows(
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
        conn.execute(_insert_each(table, columns, key, tuple(update)), ordered)


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
def _insert_each(table: sa.Table, columns: tuple[str, ...], key: str, update: tuple[str, ...]) -> sa.Insert:
    insert = sqlite.insert(table).values({name: sa.bindparam(name) for name in columns})
    return _on_conflict(insert, key, update)


def _on_conflict(insert: Any, key: str, update: tuple[str, ...]) -> sa.Insert:
    if not update:
        return insert.on_conflict_do_nothing(index_elements=[key])  # type: ignore[no-any-return]
    changes = {name: insert.excluded[name] for name in update}
    return insert.on_conflict_do_update(index_elements=[key], set_=changes)  # type: ignore[no-any-return]


def notify(conn: Conn, channel: str, payloads: Sequence[str]) -> None:
    """Tell whoever listens, once this transaction is committed (PostgreSQL only)."""
    for payload in payloads:
        conn.execute(sa.select(sa.func.pg_notify(channel, payload)))
