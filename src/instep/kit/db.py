"""The database: one engine, one seam between async code and synchronous SQL, and bulk writing.

Store functions are plain functions with the connection first. `await db.read(fn, ...)` and `await db.write(fn, ...)`
run them on a thread, a write in one transaction; `db.reading(fn, ...)` and `db.writing(fn, ...)` do the same without an
event loop, for scripts.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from instep.kit.database_address import parse_url
from instep.kit.database_file import MOVED, FileMovedError, OpenFile, open_file_of
from instep.kit.errors import InstepError, PermanentError, TemporaryError
from instep.kit.outages import is_outage
from instep.kit.waits import WaitLimit, limit_waits, present_limit

log = structlog.get_logger(__name__)
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
PRIVATE = 0o600
_ALONE = "AUTOCOMMIT"  # each statement by itself
_PRAGMAS = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "cache_size=-16000",
)
# Many pages are changed by each of many transactions: they are brought into the database every 64 MB, not every 4.
_BULK_PRAGMAS = ("synchronous=NORMAL", "wal_autocheckpoint=16000", "cache_size=-64000")
_USUAL_PRAGMAS = ("synchronous=FULL", "wal_autocheckpoint=1000", "cache_size=-16000")
_IDLE_TOO_LONG = "25P03"
_IDLE_LIMIT = "idle_in_transaction_session_timeout"
POOLED = "instep_is_pooled"
_TOO_MUCH = "54"  # a value that passes a limit of PostgreSQL's, such as the size of an index row: no outage
_NO_VALUE = (OverflowError, UnicodeEncodeError)  # what drivers raise for values that they can't even hand over
# A server that went away without a word is noticed within 20 seconds; sockets of the same machine don't need it.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 20_000}
_LOCK_WAIT_OVER = "55P03"
_PASSING = ("deadlock detected", "could not serialize", "database is locked", "duplicate key", "UNIQUE constraint")
_AGAIN_AFTER = (0.0, 0.02, 0.1)


"""Seconds before each further attempt. A library for this (stamina) registers a metric in the process's own registry,
which is the host application's."""


PATIENCE = 40.0


"""Seconds that work of nobody's request waits for a lock. A request has a limit of its own (see `kit.waits`)."""


LOCK_WAIT = 8.0  # seconds that one statement waits for a lock on PostgreSQL
SHORT_WAIT = 2.0  # seconds: a request that may wait less than this says so to PostgreSQL
READ_WAIT = 5.0  # seconds that reading waits on SQLite; it waits only for who has the whole file for themselves
CONNECT_WAIT = 4.0  # seconds that opening an SQLite file waits, before anything is set up
LEAST_WAIT = 0.05  # seconds that are tried even by a request that has waited enough
OPTIONAL_WAIT = 0.5  # seconds that a write is given which nothing depends on
OPTIONAL_PAUSE = 5.0  # seconds for which no such write is tried after one that failed
UNAVAILABLE = "The database is not available right now. Try again in a moment."


class DatabaseDown(TemporaryError):
    """The database can't be reached, did not answer in time, or can't keep anything.

    The message names nothing of the installation, since anybody may be shown it; `detail` says what happened, for logs
    and for `instep doctor`.
    """

    def __init__(self, message: str = UNAVAILABLE, *, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.detail = detail


class DatabaseRefused(PermanentError):
    """The database can't take these values (a constraint, a value out of range): trying again gives the same."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="database_refused")


class ValueRefusedError(DatabaseRefused):
    """A value that no database, or not this one, holds: a NUL in a text, a number out of range, a key too long."""


class Db:
    """An engine and the threads that use it. SQLite: one writes, as many read as there are processors; PostgreSQL: half
    of them read, half write.

    `url` is an SQLAlchemy URL (`sqlite:///file`, `postgresql://...` with psycopg 3). Nothing is opened before the
    first use. Raises DatabaseDown from every call while the database can't be reached, is locked for longer than the
    request may wait, or is not the file at its path any more. `options` go with every connection: what all readers and
    writers must heed. `survives_power` False: on SQLite the last moments before a power cut may be lost, and no commit
    waits for the disk. `patience`: seconds that work outside of a request waits for a lock.
    """

    def __init__(
        self,
        url: str,
        *,
        threads: int = THREADS,
        options: Mapping[str, Any] | None = None,
        survives_power: bool = True,
        patience: float = PATIENCE,
    ) -> None:
        self.engine = make_engine(url, threads, survives_power=survives_power)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.patience = patience
        self._optional_after = 0.0
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
        limit = present_limit()
        return await _on_thread(self._readers, limit, lambda: self._read(limit, lambda conn: fn(conn, *args, **kwargs)))

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

    async def write_optional(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run `write` for something that nothing depends on, such as a time of last use; None where it can't be now.

        It waits `OPTIONAL_WAIT` at most, and after a failure it is not even tried for `OPTIONAL_PAUSE`: reading stays
        quick while nothing can be written.
        """
        if monotonic() < self._optional_after:
            return None
        try:
            with limit_waits(OPTIONAL_WAIT):
                return await self.write(fn, *args, **kwargs)
        except DatabaseDown as error:
            self._optional_after = monotonic() + OPTIONAL_PAUSE
            log.warning("optional_write_skipped", error=error.detail)
            return None

    async def _aside(self, engine: sa.Engine, do: Callable[[Conn], T]) -> T:
        context, limit, asked_at = copy_context(), present_limit(), monotonic()

        def write() -> T:
            if limit is not None:
                limit.spend(monotonic() - asked_at)
            return context.run(self._write, engine, do, limit)

        return await _on_thread(self._writers, limit, write)

    def reading(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` without an event loop."""
        return self._read(present_limit(), lambda conn: fn(conn, *args, **kwargs))

    def writing(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` without an event loop. A deadlock or a lost serialization is tried again: `fn` then runs anew."""
        return self._write(self._writing, lambda conn: fn(conn, *args, **kwargs), present_limit())

    def _read(self, limit: WaitLimit | None, do: Callable[[Conn], T]) -> T:
        began = monotonic()
        try:
            with self._reading.connect() as conn:
                if self.is_sqlite:
                    _require_in_place(conn)
                    _wait_at_most(conn, READ_WAIT if limit is None else min(READ_WAIT, limit.left))
                return do(conn)
        except (DBAPIError, PoolTimeoutError, FileMovedError) as error:
            if limit is not None:
                limit.spend(monotonic() - began)
            raise self._failure(error, "The database can't look for this") from error
        except _NO_VALUE as error:
            raise ValueRefusedError(f"The database can't look for this: {error}") from error

    def _write(self, engine: sa.Engine, do: Callable[[Conn], T], limit: WaitLimit | None) -> T:
        until = monotonic() + (self.patience if limit is None else max(limit.left, LEAST_WAIT))
        try:
            for pause in _AGAIN_AFTER:
                try:
                    return _write_once(engine, do, until, limit)
                except DBAPIError as error:
                    if not _is_passing(error) or monotonic() >= until:
                        raise
                sleep(pause)
            return _write_once(engine, do, until, limit)
        except (DBAPIError, PoolTimeoutError, FileMovedError) as error:
            raise self._failure(error, "The database refused the change") from error
        except _NO_VALUE as error:
            raise ValueRefusedError(f"The database refused the change: {error}") from error

    def _failure(self, error: DBAPIError | PoolTimeoutError | FileMovedError, refused: str) -> InstepError:
        if isinstance(error, FileMovedError):
            self.engine.dispose()  # the next use opens what lies at the path by then
        return failure_of(error, refused)

    def close(self) -> None:
        """End the threads and close every connection."""
        self._readers.shutdown(wait=True)
        self._writers.shutdown(wait=True)
        self.engine.dispose()


async def _on_thread(threads: ThreadPoolExecutor, limit: WaitLimit | None, do: Callable[[], T]) -> T:
    """Run `do` on a thread. Where none has begun it when the limit is over, it never runs: DatabaseDown."""
    future = threads.submit(do)
    if limit is None:
        return await asyncio.wrap_future(future)
    is_given_up = False

    def give_up() -> None:
        nonlocal is_given_up
        is_given_up = future.cancel()

    timer = asyncio.get_running_loop().call_later(max(limit.left, LEAST_WAIT), give_up)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if not is_given_up:
            raise
        limit.spend(limit.left)
        raise DatabaseDown(detail="every connection was busy for too long") from None
    finally:
        timer.cancel()


def _write_once(engine: sa.Engine, do: Callable[[Conn], T], until: float, limit: WaitLimit | None) -> T:
    """One attempt. What is committed into a file that was removed meanwhile is lost: FileMovedError."""
    is_sqlite, began = engine.dialect.name == "sqlite", monotonic()
    try:
        with engine.connect() as conn:
            if is_sqlite:
                _require_in_place(conn)
                _wait_at_most(conn, until - monotonic())
            with conn.begin():
                if limit is not None:
                    limit.spend(monotonic() - began)
                    if not is_sqlite and limit.left < SHORT_WAIT:
                        _wait_for_locks(conn, limit.left)
                found = do(conn)
            if is_sqlite:
                _require_in_place(conn, has_committed=True)
            return found
    except DBAPIError:
        if limit is not None:
            limit.spend(monotonic() - began)
        raise


def make_engine(url: str, threads: int = THREADS, *, survives_power: bool = True) -> sa.Engine:
    """An engine for `url`, set up the way instep needs it; nothing is opened yet. Raises ValueError for no such URL."""
    parsed = parse_url(url)
    common: dict[str, Any] = {
        "json_serializer": lambda value: msgspec.json.encode(value).decode(),
        "json_deserializer": msgspec.json.decode,
    }
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, common, threads, "FULL" if survives_power else "NORMAL")
    return _postgres_engine(parsed, common, threads)


def _postgres_engine(url: sa.URL, common: dict[str, Any], threads: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=threads,
        max_overflow=2,
        pool_pre_ping=False,
        connect_args={"prepare_threshold": 2, "connect_timeout": 5, **_KEEPALIVES},
        **common,
    )

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: psycopg.Connection[Any], record: Any) -> None:
        record.info[POOLED] = not _limit_waits(connection)
        if record.info[POOLED]:
            connection.prepare_threshold = None
        connection.commit()

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: Conn) -> None:
        if is_pooled(conn) and conn.get_execution_options().get("instep_writes", False):
            idle, lock = int(MOST_IDLE * 1_000), int(LOCK_WAIT * 1_000)
            conn.exec_driver_sql(f"SET LOCAL {_IDLE_LIMIT} = {idle}; SET LOCAL lock_timeout = {lock}")

    @sa.event.listens_for(engine, "handle_error")
    def _notice(context: sa.engine.ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _IDLE_TOO_LONG:
            context.is_disconnect = True

    return engine


def _limit_waits(connection: psycopg.Connection[Any]) -> bool:
    """Limit waiting for locks and idle transactions; return False behind a connection pooler, and set nothing there.

    A pooler in transaction mode gives each transaction any server connection: what is set on one would reach strangers,
    and statements prepared on one are unknown to the next. It is recognized by the process id that the connection was
    told when it began, which is not the server's.
    """
    query = "SELECT set_config(%s, %s, false), set_config('lock_timeout', %s, false) "
    query += "FROM (SELECT pg_backend_pid() AS pid) AS own WHERE pid = %s"
    values = (_IDLE_LIMIT, str(int(MOST_IDLE * 1_000)), str(int(LOCK_WAIT * 1_000)), connection.info.backend_pid)
    found = connection.execute(query, values, prepare=False)
    return found.fetchone() is not None


def is_pooled(conn: Conn) -> bool:
    """Return whether a connection pooler stands between this connection and PostgreSQL."""
    return bool(conn.info.get(POOLED, False))


def _sqlite_engine(url: sa.URL, common: dict[str, Any], threads: int, synchronous: str) -> sa.Engine:
    file = Path(url.database) if url.database and not url.database.startswith((":memory:", "file:")) else None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=threads + 1,
        pool_use_lifo=True,  # each connection has a cache of its own: few at work, little memory
        connect_args={"check_same_thread": False, "cached_statements": 256, "timeout": CONNECT_WAIT},
        **common,
    )

    known: set[Path] = set()

    @sa.event.listens_for(engine, "do_connect")
    def _require_known(_dialect: Any, _record: Any, _arguments: Any, _options: Any) -> None:
        """A file that was there once is never made anew: an empty database in its place would hide the loss."""
        if any(not path.exists() for path in known):
            raise sqlite3.OperationalError(MOVED)
        if file is not None:
            keep_private(file)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        for pragma in (*_PRAGMAS, f"synchronous={synchronous}"):
            connection.execute(f"PRAGMA {pragma}")
        record.info["instep_file"] = opened = open_file_of(connection)
        known.update({opened.path} if opened else ())

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


def keep_private(file: Path) -> None:
    """Have an SQLite database that its owner alone can read: create it so, and correct one that everybody can read.

    SQLite gives the files beside it the same mode. One that a group can read but not everybody was made so on purpose
    and is left as it is. An existing database is never opened here: closing it would end the locks that SQLite holds.
    Where this is not possible, SQLite says why it can't open the file.
    """
    with suppress(OSError):
        file.touch(mode=PRIVATE, exist_ok=False)
    for it in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))):
        with suppress(OSError):
            if it.stat().st_mode & 0o007:
                it.chmod(PRIVATE)


def _require_in_place(conn: Conn, *, has_committed: bool = False) -> None:
    file: OpenFile | None = conn.info.get("instep_file")
    if file is not None and not (file.is_in_place() and (not has_committed or file.has_log())):
        raise FileMovedError


def _wait_at_most(conn: Conn, seconds: float) -> None:
    """Have SQLite wait so long for a lock. Past SQLAlchemy: this is done before each transaction."""
    wait = int(max(seconds, LEAST_WAIT) * 1_000)
    if conn.info.get("instep_wait") != wait:
        conn.connection.dbapi_connection.execute(f"PRAGMA busy_timeout={wait}")  # type: ignore[union-attr]
        conn.info["instep_wait"] = wait


def _wait_for_locks(conn: Conn, seconds: float) -> None:
    """Have this transaction wait so long for a lock on PostgreSQL. It costs a round trip."""
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {int(max(seconds, LEAST_WAIT) * 1_000)}")


def _is_passing(error: DBAPIError) -> bool:
    """Return whether the same may succeed in a moment: a deadlock, a lost race, somebody else's lock."""
    is_lock = getattr(error.orig, "sqlstate", None) == _LOCK_WAIT_OVER
    return is_lock or any(words in str(error.orig) for words in _PASSING)


def failure_of(error: DBAPIError | PoolTimeoutError | FileMovedError, refused: str) -> InstepError:
    """Return what a driver's failure means: DatabaseDown, or DatabaseRefused with `refused` and the cause."""
    if not isinstance(error, DBAPIError):
        return DatabaseDown(detail=str(error))
    is_operational = isinstance(error, OperationalError)
    is_down = error.connection_invalidated or is_outage(error.orig, is_operational=is_operational)
    return DatabaseDown(detail=cause_of(error)) if is_down else _refusal(error, refused)


def _refusal(error: DBAPIError, refused: str) -> DatabaseRefused:
    """Return the refusal; that of a value where another value would have been taken."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    is_value = isinstance(error, DataError) or state.startswith(("22", _TOO_MUCH))
    kind = ValueRefusedError if is_value else DatabaseRefused
    return kind(f"{refused}: {cause_of(error)}")


def cause_of(error: DBAPIError) -> str:
    """Return what the driver said, in one line. It may name hosts, paths and values: not for everybody."""
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]


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
