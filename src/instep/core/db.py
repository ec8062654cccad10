"""Database engine, asynchronous access to synchronous SQL, and wait budgets."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import psycopg
import sqlalchemy as sa
import structlog
from msgspec import Struct
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from instep.core.db_errors import (
    FILE_MOVED_MESSAGE,
    DatabaseFileMovedError,
    DatabaseUnavailableError,
    DatabaseValueError,
    translate_database_error,
)
from instep.core.db_url import parse_database_url
from instep.core.errors import InstepError


class OpenDatabaseFile(Struct, frozen=True):
    """The file that a connection has open. `wal`: the path of its write-ahead log, if it has one."""

    path: Path
    device: int
    inode: int
    wal: Path | None

    def is_in_place(self) -> bool:
        """Return whether the path still leads to this file. Costs one or two `stat`, about 3 microseconds."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)

    def has_wal(self) -> bool:
        """Return whether the write-ahead log exists, as it must after a commit."""
        return self.wal is None or self.wal.exists()


def find_open_file(connection: Any) -> OpenDatabaseFile | None:
    """Return the file behind a connection of `sqlite3`; None for a database in memory."""
    name = connection.execute("PRAGMA database_list").fetchone()[2]
    if not name:
        return None
    path = Path(name)
    found = path.stat()
    is_wal = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    return OpenDatabaseFile(path, found.st_dev, found.st_ino, path.with_name(f"{path.name}-wal") if is_wal else None)


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
MAX_CONNECTIONS = 8
"""Maximum number of connections of a process.

More concurrent reads would only share the processors: each long search would take several times as long, where queued
ones wait briefly and end sooner.
"""

MAX_IDLE_IN_TRANSACTION = 60.0  # seconds until PostgreSQL ends an idle transaction and releases its locks
PRIVATE_FILE_MODE = 0o600
AUTOCOMMIT = "AUTOCOMMIT"  # each statement is its own transaction
_PRAGMAS = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "cache_size=-16000",
)
# Bulk transactions change many pages each: checkpoint the WAL every 64 MB instead of every 4 MB.
_BULK_PRAGMAS = ("synchronous=NORMAL", "wal_autocheckpoint=16000", "cache_size=-64000")
_NORMAL_PRAGMAS = ("synchronous=FULL", "wal_autocheckpoint=1000", "cache_size=-16000")
_IDLE_TIMEOUT_SQLSTATE = "25P03"
_IDLE_TIMEOUT_SETTING = "idle_in_transaction_session_timeout"
POOLED_INFO_KEY = "instep_is_pooled"
# Raised by drivers for values that they cannot encode.
_UNSENDABLE_VALUE_ERRORS = (OverflowError, UnicodeEncodeError)
# Detects a server that disappeared within 20 seconds; not needed for sockets of the same machine.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 20_000}
_LOCK_TIMEOUT_SQLSTATE = "55P03"
_TRANSIENT_MESSAGES = (
    "deadlock detected",
    "could not serialize",
    "database is locked",
    "duplicate key",
    "UNIQUE constraint",
)
_RETRY_DELAYS = (0.0, 0.02, 0.1)
"""Seconds before each retry.

A library for this (stamina) registers a metric in the registry of the process, which belongs to the host application.
"""

BACKGROUND_LOCK_TIMEOUT = 40.0
"""Seconds that background work waits for a lock. A request has its own limit (see `limit_database_waits`)."""

REQUEST_WAIT_BUDGET = 8.0
"""Seconds that one request, or one command, may wait for the database in total."""

STATEMENT_LOCK_TIMEOUT = 8.0  # seconds that one statement waits for a lock on PostgreSQL
SHORT_LOCK_TIMEOUT = 2.0  # seconds: below this, the remaining wait budget is set as lock timeout on PostgreSQL
READ_LOCK_TIMEOUT = 5.0  # seconds that a read waits on SQLite; only an exclusive lock of the file blocks it
CONNECT_LOCK_TIMEOUT = 4.0  # seconds that opening an SQLite file waits, before the connection is configured
MIN_LOCK_TIMEOUT = 0.05  # seconds that even a request with an exhausted wait budget waits
BEST_EFFORT_WRITE_TIMEOUT = 0.5  # seconds that a best-effort write may wait
BEST_EFFORT_WRITE_PAUSE = 5.0  # seconds without best-effort writes after a failed one


class WaitBudget:
    """The remaining seconds of waiting; never below 0."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def spend(self, seconds: float) -> None:
        """Subtract time spent waiting."""
        self.left = max(0.0, self.left - seconds)


class Database:
    """An engine and the threads that use it.

    SQLite: one thread writes, and as many read as there are processors. PostgreSQL: half of the threads read, half
    write.

    `url` is an SQLAlchemy URL (`sqlite:///file`, `postgresql://...` with psycopg 3). Nothing is opened before the first
    use. Every call raises DatabaseUnavailableError while the database can't be reached, is locked for longer than the
    request may wait, or is no longer the file at its path. `options` are execution options of every connection, for all
    readers and writers. `is_durable` False: on SQLite the last commits before a power failure may be lost, and no
    commit waits for the disk. `lock_timeout`: seconds that work outside of a request waits for a lock.
    """

    def __init__(
        self,
        url: str,
        *,
        threads: int = MAX_CONNECTIONS,
        options: Mapping[str, Any] | None = None,
        is_durable: bool = True,
        lock_timeout: float = BACKGROUND_LOCK_TIMEOUT,
    ) -> None:
        self.engine = create_engine(url, threads, is_durable=is_durable)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.lock_timeout = lock_timeout
        self._best_effort_after = 0.0
        # Ending a reading transaction would make psycopg discard the statements prepared on the server.
        read_options: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": AUTOCOMMIT}
        self._read_engine = self.engine.execution_options(**(options or {}), **read_options)
        self._write_engine = self.engine.execution_options(instep_writes=True, **(options or {}))
        self._bulk_engine = self._write_engine.execution_options(instep_is_bulk=True)
        readers = min(threads, max(os.cpu_count() or 1, 2)) if self.is_sqlite else max(threads // 2, 1)
        writers = 1 if self.is_sqlite else max(threads - readers, 1)
        self._read_threads = ThreadPoolExecutor(readers, thread_name_prefix="instep-read")
        self._write_threads = ThreadPoolExecutor(writers, thread_name_prefix="instep-write")

    async def read(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)`, which writes nothing; on PostgreSQL each of its statements sees the latest commits."""
        budget = get_wait_budget()
        return await _run_on_thread(
            self._read_threads, budget, lambda: self._read(budget, lambda conn: fn(conn, *args, **kwargs))
        )

    async def write(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in a transaction that commits when it returns and rolls back when it raises.

        It runs in the caller's context, so that rows it writes can name their request.
        """
        return await self._run_write(self._write_engine, lambda conn: fn(conn, *args, **kwargs))

    async def write_bulk(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `write` for reproducible bulk data: on SQLite a power failure may undo the last such transactions.

        A later commit by `write` makes everything before it durable.
        """
        return await self._run_write(self._bulk_engine, lambda conn: fn(conn, *args, **kwargs))

    async def write_best_effort(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run `write` for data that nothing depends on, such as a time of last use; return None if it fails.

        It waits at most `BEST_EFFORT_WRITE_TIMEOUT`, and after a failure it is skipped for `BEST_EFFORT_WRITE_PAUSE`,
        so that reads stay fast while the database cannot be written.
        """
        if monotonic() < self._best_effort_after:
            return None
        try:
            with limit_database_waits(BEST_EFFORT_WRITE_TIMEOUT):
                return await self.write(fn, *args, **kwargs)
        except DatabaseUnavailableError as error:
            self._best_effort_after = monotonic() + BEST_EFFORT_WRITE_PAUSE
            log.warning("best_effort_write_skipped", error=error.detail)
            return None

    async def _run_write(self, engine: sa.Engine, action: Callable[[Conn], T]) -> T:
        context, budget, requested_at = copy_context(), get_wait_budget(), monotonic()

        def write() -> T:
            if budget is not None:
                budget.spend(monotonic() - requested_at)
            return context.run(self._write, engine, action, budget)

        return await _run_on_thread(self._write_threads, budget, write)

    def read_sync(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `read` without an event loop."""
        return self._read(get_wait_budget(), lambda conn: fn(conn, *args, **kwargs))

    def write_sync(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `write` without an event loop. `fn` runs again after a deadlock or a serialization failure."""
        return self._write(self._write_engine, lambda conn: fn(conn, *args, **kwargs), get_wait_budget())

    def _read(self, budget: WaitBudget | None, action: Callable[[Conn], T]) -> T:
        started_at = monotonic()
        try:
            with self._read_engine.connect() as conn:
                if self.is_sqlite:
                    _require_file_in_place(conn)
                    _set_busy_timeout(
                        conn, READ_LOCK_TIMEOUT if budget is None else min(READ_LOCK_TIMEOUT, budget.left)
                    )
                return action(conn)
        except (DBAPIError, PoolTimeoutError, DatabaseFileMovedError) as error:
            if budget is not None:
                budget.spend(monotonic() - started_at)
            raise self._translate_error(error, "The database can't search for this") from error
        except _UNSENDABLE_VALUE_ERRORS as error:
            raise DatabaseValueError(f"The database can't search for this: {error}") from error

    def _write(self, engine: sa.Engine, action: Callable[[Conn], T], budget: WaitBudget | None) -> T:
        deadline = monotonic() + (self.lock_timeout if budget is None else max(budget.left, MIN_LOCK_TIMEOUT))
        try:
            for delay in _RETRY_DELAYS:
                try:
                    return _write_once(engine, action, deadline, budget)
                except DBAPIError as error:
                    if not _is_transient(error) or monotonic() >= deadline:
                        raise
                sleep(delay)
            return _write_once(engine, action, deadline, budget)
        except (DBAPIError, PoolTimeoutError, DatabaseFileMovedError) as error:
            raise self._translate_error(error, "The database rejected the change") from error
        except _UNSENDABLE_VALUE_ERRORS as error:
            raise DatabaseValueError(f"The database rejected the change: {error}") from error

    def _translate_error(
        self, error: DBAPIError | PoolTimeoutError | DatabaseFileMovedError, refused: str
    ) -> InstepError:
        if isinstance(error, DatabaseFileMovedError):
            self.engine.dispose()  # the next use opens the file that is at the path then
        return translate_database_error(error, refused)

    def close(self) -> None:
        """Stop the threads and close every connection."""
        self._read_threads.shutdown(wait=True)
        self._write_threads.shutdown(wait=True)
        self.engine.dispose()


async def _run_on_thread(threads: ThreadPoolExecutor, budget: WaitBudget | None, action: Callable[[], T]) -> T:
    """Run `action` on a thread.

    If no thread has started it when the budget is spent, it never runs: DatabaseUnavailableError.
    """
    future = threads.submit(action)
    if budget is None:
        return await asyncio.wrap_future(future)
    is_cancelled = False

    def cancel() -> None:
        nonlocal is_cancelled
        is_cancelled = future.cancel()

    timer = asyncio.get_running_loop().call_later(max(budget.left, MIN_LOCK_TIMEOUT), cancel)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if not is_cancelled:
            raise
        budget.spend(budget.left)
        raise DatabaseUnavailableError(detail="every connection was busy for too long") from None
    finally:
        timer.cancel()


def _write_once(engine: sa.Engine, action: Callable[[Conn], T], deadline: float, budget: WaitBudget | None) -> T:
    """Make one attempt of a write.

    A commit into a file that was removed meanwhile is lost: DatabaseFileMovedError.
    """
    is_sqlite, started_at = engine.dialect.name == "sqlite", monotonic()
    try:
        with engine.connect() as conn:
            if is_sqlite:
                _require_file_in_place(conn)
                _set_busy_timeout(conn, deadline - monotonic())
            with conn.begin():
                if budget is not None:
                    budget.spend(monotonic() - started_at)
                    if not is_sqlite and budget.left < SHORT_LOCK_TIMEOUT:
                        _set_lock_timeout(conn, budget.left)
                result = action(conn)
            if is_sqlite:
                _require_file_in_place(conn, has_committed=True)
            return result
    except DBAPIError:
        if budget is not None:
            budget.spend(monotonic() - started_at)
        raise


def create_engine(url: str, threads: int = MAX_CONNECTIONS, *, is_durable: bool = True) -> sa.Engine:
    """Return a configured engine for `url`; nothing is opened yet. Raises ValueError for an invalid URL."""
    parsed = parse_database_url(url)
    common: dict[str, Any] = {
        "json_serializer": lambda value: msgspec.json.encode(value).decode(),
        "json_deserializer": msgspec.json.decode,
    }
    if parsed.get_backend_name() == "sqlite":
        return _create_sqlite_engine(parsed, common, threads, "FULL" if is_durable else "NORMAL")
    return _create_postgres_engine(parsed, common, threads)


def _create_postgres_engine(url: sa.URL, common: dict[str, Any], threads: int) -> sa.Engine:
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
        record.info[POOLED_INFO_KEY] = not _set_session_timeouts(connection)
        if record.info[POOLED_INFO_KEY]:
            connection.prepare_threshold = None
        connection.commit()

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: Conn) -> None:
        if is_behind_connection_pooler(conn) and conn.get_execution_options().get("instep_writes", False):
            idle, lock = int(MAX_IDLE_IN_TRANSACTION * 1_000), int(STATEMENT_LOCK_TIMEOUT * 1_000)
            conn.exec_driver_sql(f"SET LOCAL {_IDLE_TIMEOUT_SETTING} = {idle}; SET LOCAL lock_timeout = {lock}")

    @sa.event.listens_for(engine, "handle_error")
    def _mark_disconnect(context: sa.engine.ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _IDLE_TIMEOUT_SQLSTATE:
            context.is_disconnect = True

    return engine


def _set_session_timeouts(connection: psycopg.Connection[Any]) -> bool:
    """Limit waits for locks and idle transactions; return False behind a connection pooler, and set nothing there.

    A pooler in transaction mode gives each transaction any server connection: settings made on one would affect other
    clients, and statements prepared on one are unknown on the next. It is detected by the process id announced when the
    connection began, which is not the server's.
    """
    query = "SELECT set_config(%s, %s, false), set_config('lock_timeout', %s, false) "
    query += "FROM (SELECT pg_backend_pid() AS pid) AS own WHERE pid = %s"
    values = (
        _IDLE_TIMEOUT_SETTING,
        str(int(MAX_IDLE_IN_TRANSACTION * 1_000)),
        str(int(STATEMENT_LOCK_TIMEOUT * 1_000)),
        connection.info.backend_pid,
    )
    found = connection.execute(query, values, prepare=False)
    return found.fetchone() is not None


def is_behind_connection_pooler(conn: Conn) -> bool:
    """Return whether this connection goes through a connection pooler."""
    return bool(conn.info.get(POOLED_INFO_KEY, False))


def _create_sqlite_engine(url: sa.URL, common: dict[str, Any], threads: int, synchronous: str) -> sa.Engine:
    file = Path(url.database) if url.database and not url.database.startswith((":memory:", "file:")) else None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=threads + 1,
        pool_use_lifo=True,  # each connection has its own cache: using few of them saves memory
        connect_args={"check_same_thread": False, "cached_statements": 256, "timeout": CONNECT_LOCK_TIMEOUT},
        **common,
    )

    opened_paths: set[Path] = set()

    @sa.event.listens_for(engine, "do_connect")
    def _require_existing(_dialect: Any, _record: Any, _arguments: Any, _options: Any) -> None:
        """Refuse to recreate a file that existed before: an empty database would hide the loss."""
        if any(not path.exists() for path in opened_paths):
            raise sqlite3.OperationalError(FILE_MOVED_MESSAGE)
        if file is not None:
            restrict_file_permissions(file)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        for pragma in (*_PRAGMAS, f"synchronous={synchronous}"):
            connection.execute(f"PRAGMA {pragma}")
        record.info["instep_file"] = opened = find_open_file(connection)
        opened_paths.update({opened.path} if opened else ())

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
            for pragma in _NORMAL_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")

    return engine


def restrict_file_permissions(file: Path) -> None:
    """Make an SQLite database readable by its owner only: create it so, and correct one that everyone can read.

    SQLite gives the files beside it the same mode. A file that its group can read but not everyone was set up so on
    purpose and is left unchanged. An existing database is never opened here: closing it would release the locks that
    SQLite holds. If this fails, SQLite reports why it can't open the file.
    """
    with suppress(OSError):
        file.touch(mode=PRIVATE_FILE_MODE, exist_ok=False)
    for path in (file, *(file.with_name(f"{file.name}{suffix}") for suffix in ("-wal", "-shm"))):
        with suppress(OSError):
            if path.stat().st_mode & 0o007:
                path.chmod(PRIVATE_FILE_MODE)


def _require_file_in_place(conn: Conn, *, has_committed: bool = False) -> None:
    file: OpenDatabaseFile | None = conn.info.get("instep_file")
    if file is not None and not (file.is_in_place() and (not has_committed or file.has_wal())):
        raise DatabaseFileMovedError


def _set_busy_timeout(conn: Conn, seconds: float) -> None:
    """Set how long SQLite waits for a lock. Bypasses SQLAlchemy: it runs before each transaction."""
    wait = int(max(seconds, MIN_LOCK_TIMEOUT) * 1_000)
    if conn.info.get("instep_wait") != wait:
        conn.connection.dbapi_connection.execute(f"PRAGMA busy_timeout={wait}")  # type: ignore[union-attr]
        conn.info["instep_wait"] = wait


def _set_lock_timeout(conn: Conn, seconds: float) -> None:
    """Set how long this transaction waits for a lock on PostgreSQL. Costs a round trip."""
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {int(max(seconds, MIN_LOCK_TIMEOUT) * 1_000)}")


def _is_transient(error: DBAPIError) -> bool:
    """Return whether a retry may succeed soon: after a deadlock, a lost race or another transaction's lock."""
    is_lock = getattr(error.orig, "sqlstate", None) == _LOCK_TIMEOUT_SQLSTATE
    return is_lock or any(message in str(error.orig) for message in _TRANSIENT_MESSAGES)


_current_wait_budget: ContextVar[WaitBudget | None] = ContextVar("instep_wait_limit", default=None)


@contextmanager
def limit_database_waits(seconds: float) -> Iterator[WaitBudget]:
    """Limit the total wait for the database in this block, and in tasks created there, to `seconds`."""
    budget = WaitBudget(seconds)
    token = _current_wait_budget.set(budget)
    try:
        yield budget
    finally:
        _current_wait_budget.reset(token)


def get_wait_budget() -> WaitBudget | None:
    """Return the wait budget of the running code; None for background work."""
    return _current_wait_budget.get()
