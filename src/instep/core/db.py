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
    """The file that a connection has open. `wal`: the path of its write-ahead log, None where it keeps none."""

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
        """Return whether the write-ahead log is there; after a commit it must be."""
        return self.wal is None or self.wal.exists()


def find_open_file(connection: Any) -> OpenDatabaseFile | None:
    """Return the file behind a connection of `sqlite3`, None for a database in memory."""
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


"""Connections of a process at the most. More reads side by side would only share the processors: a long search then
takes as many times as long, where in turn it waits for a moment and ends at once."""


MAX_IDLE_IN_TRANSACTION = (
    60.0  # seconds: whoever stops in the middle of a transaction keeps its rows no longer than this
)
PRIVATE_FILE_MODE = 0o600
AUTOCOMMIT = "AUTOCOMMIT"  # each statement by itself
_PRAGMAS = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "cache_size=-16000",
)
# Many pages are changed by each of many transactions: they are brought into the database every 64 MB, not every 4.
_BULK_PRAGMAS = ("synchronous=NORMAL", "wal_autocheckpoint=16000", "cache_size=-64000")
_NORMAL_PRAGMAS = ("synchronous=FULL", "wal_autocheckpoint=1000", "cache_size=-16000")
_IDLE_TIMEOUT_SQLSTATE = "25P03"
_IDLE_TIMEOUT_SETTING = "idle_in_transaction_session_timeout"
POOLED_INFO_KEY = "instep_is_pooled"
_UNSENDABLE_VALUE_ERRORS = (
    OverflowError,
    UnicodeEncodeError,
)  # what drivers raise for values that they can't even hand over
# A server that went away without a word is noticed within 20 seconds; sockets of the same machine don't need it.
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


"""Seconds before each further attempt. A library for this (stamina) registers a metric in the process's own registry,
which is the host application's."""


BACKGROUND_LOCK_TIMEOUT = 40.0


"""Seconds that work of nobody's request waits for a lock. A request has a limit of its own (see `kit.waits`)."""


STATEMENT_LOCK_TIMEOUT = 8.0  # seconds that one statement waits for a lock on PostgreSQL
SHORT_LOCK_TIMEOUT = 2.0  # seconds: a request that may wait less than this says so to PostgreSQL
READ_LOCK_TIMEOUT = 5.0  # seconds that reading waits on SQLite; it waits only for who has the whole file for themselves
CONNECT_LOCK_TIMEOUT = 4.0  # seconds that opening an SQLite file waits, before anything is set up
MIN_LOCK_TIMEOUT = 0.05  # seconds that are tried even by a request that has waited enough
BEST_EFFORT_WRITE_TIMEOUT = 0.5  # seconds that a write is given which nothing depends on
BEST_EFFORT_WRITE_PAUSE = 5.0  # seconds for which no such write is tried after one that failed


class WaitBudget:
    """The seconds that are left for waiting; never below 0."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def spend(self, seconds: float) -> None:
        """Take what was waited from the rest."""
        self.left = max(0.0, self.left - seconds)


class Database:
    """An engine and the threads that use it. SQLite: one writes, as many read as there are processors; PostgreSQL: half
    of them read, half write.

    `url` is an SQLAlchemy URL (`sqlite:///file`, `postgresql://...` with psycopg 3). Nothing is opened before the
    first use. Raises DatabaseUnavailableError from every call while the database can't be reached, is locked for longer than the
    request may wait, or is not the file at its path any more. `options` go with every connection: what all readers and
    writers must heed. `survives_power` False: on SQLite the last moments before a power cut may be lost, and no commit
    waits for the disk. `patience`: seconds that work outside of a request waits for a lock.
    """

    def __init__(
        self,
        url: str,
        *,
        threads: int = MAX_CONNECTIONS,
        options: Mapping[str, Any] | None = None,
        is_durable: bool = True,
        patience: float = BACKGROUND_LOCK_TIMEOUT,
    ) -> None:
        self.engine = create_engine(url, threads, is_durable=is_durable)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.patience = patience
        self._optional_after = 0.0
        # Ending a reading transaction would make psycopg forget the statements that the server has prepared.
        alone: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": AUTOCOMMIT}
        self._reading = self.engine.execution_options(**(options or {}), **alone)
        self._writing = self.engine.execution_options(instep_writes=True, **(options or {}))
        self._bulk = self._writing.execution_options(instep_is_bulk=True)
        readers = min(threads, max(os.cpu_count() or 1, 2)) if self.is_sqlite else max(threads // 2, 1)
        writers = 1 if self.is_sqlite else max(threads - readers, 1)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="instep-read")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="instep-write")

    async def read(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)`, which writes nothing; on PostgreSQL each of its statements sees what is committed."""
        limit = get_wait_budget()
        return await _run_on_thread(
            self._readers, limit, lambda: self._read(limit, lambda conn: fn(conn, *args, **kwargs))
        )

    async def write(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(conn, ...)` in a transaction that is committed when it returns and undone when it raises.

        It runs in the caller's context: what is written knows the request that it belongs to.
        """
        return await self._run_write(self._writing, lambda conn: fn(conn, *args, **kwargs))

    async def write_bulk(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` of much that can be had again: on SQLite a power cut may undo the last of these, each as a whole.

        Whatever `write` commits afterwards is kept together with everything before it.
        """
        return await self._run_write(self._bulk, lambda conn: fn(conn, *args, **kwargs))

    async def write_best_effort(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run `write` for something that nothing depends on, such as a time of last use; None where it can't be now.

        It waits `OPTIONAL_WAIT` at most, and after a failure it is not even tried for `OPTIONAL_PAUSE`: reading stays
        quick while nothing can be written.
        """
        if monotonic() < self._optional_after:
            return None
        try:
            with limit_database_waits(BEST_EFFORT_WRITE_TIMEOUT):
                return await self.write(fn, *args, **kwargs)
        except DatabaseUnavailableError as error:
            self._optional_after = monotonic() + BEST_EFFORT_WRITE_PAUSE
            log.warning("optional_write_skipped", error=error.detail)
            return None

    async def _run_write(self, engine: sa.Engine, do: Callable[[Conn], T]) -> T:
        context, limit, asked_at = copy_context(), get_wait_budget(), monotonic()

        def write() -> T:
            if limit is not None:
                limit.spend(monotonic() - asked_at)
            return context.run(self._write, engine, do, limit)

        return await _run_on_thread(self._writers, limit, write)

    def read_sync(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`read` without an event loop."""
        return self._read(get_wait_budget(), lambda conn: fn(conn, *args, **kwargs))

    def write_sync(self, fn: Fn[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` without an event loop. A deadlock or a lost serialization is tried again: `fn` then runs anew."""
        return self._write(self._writing, lambda conn: fn(conn, *args, **kwargs), get_wait_budget())

    def _read(self, limit: WaitBudget | None, do: Callable[[Conn], T]) -> T:
        began = monotonic()
        try:
            with self._reading.connect() as conn:
                if self.is_sqlite:
                    _require_file_in_place(conn)
                    _set_busy_timeout(conn, READ_LOCK_TIMEOUT if limit is None else min(READ_LOCK_TIMEOUT, limit.left))
                return do(conn)
        except (DBAPIError, PoolTimeoutError, DatabaseFileMovedError) as error:
            if limit is not None:
                limit.spend(monotonic() - began)
            raise self._failure(error, "The database can't look for this") from error
        except _UNSENDABLE_VALUE_ERRORS as error:
            raise DatabaseValueError(f"The database can't look for this: {error}") from error

    def _write(self, engine: sa.Engine, do: Callable[[Conn], T], limit: WaitBudget | None) -> T:
        until = monotonic() + (self.patience if limit is None else max(limit.left, MIN_LOCK_TIMEOUT))
        try:
            for pause in _RETRY_DELAYS:
                try:
                    return _write_once(engine, do, until, limit)
                except DBAPIError as error:
                    if not _is_transient(error) or monotonic() >= until:
                        raise
                sleep(pause)
            return _write_once(engine, do, until, limit)
        except (DBAPIError, PoolTimeoutError, DatabaseFileMovedError) as error:
            raise self._failure(error, "The database refused the change") from error
        except _UNSENDABLE_VALUE_ERRORS as error:
            raise DatabaseValueError(f"The database refused the change: {error}") from error

    def _failure(self, error: DBAPIError | PoolTimeoutError | DatabaseFileMovedError, refused: str) -> InstepError:
        if isinstance(error, DatabaseFileMovedError):
            self.engine.dispose()  # the next use opens what lies at the path by then
        return translate_database_error(error, refused)

    def close(self) -> None:
        """End the threads and close every connection."""
        self._readers.shutdown(wait=True)
        self._writers.shutdown(wait=True)
        self.engine.dispose()


async def _run_on_thread(threads: ThreadPoolExecutor, limit: WaitBudget | None, do: Callable[[], T]) -> T:
    """Run `do` on a thread. Where none has begun it when the limit is over, it never runs: DatabaseUnavailableError."""
    future = threads.submit(do)
    if limit is None:
        return await asyncio.wrap_future(future)
    is_given_up = False

    def give_up() -> None:
        nonlocal is_given_up
        is_given_up = future.cancel()

    timer = asyncio.get_running_loop().call_later(max(limit.left, MIN_LOCK_TIMEOUT), give_up)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if not is_given_up:
            raise
        limit.spend(limit.left)
        raise DatabaseUnavailableError(detail="every connection was busy for too long") from None
    finally:
        timer.cancel()


def _write_once(engine: sa.Engine, do: Callable[[Conn], T], until: float, limit: WaitBudget | None) -> T:
    """One attempt. What is committed into a file that was removed meanwhile is lost: DatabaseFileMovedError."""
    is_sqlite, began = engine.dialect.name == "sqlite", monotonic()
    try:
        with engine.connect() as conn:
            if is_sqlite:
                _require_file_in_place(conn)
                _set_busy_timeout(conn, until - monotonic())
            with conn.begin():
                if limit is not None:
                    limit.spend(monotonic() - began)
                    if not is_sqlite and limit.left < SHORT_LOCK_TIMEOUT:
                        _set_lock_timeout(conn, limit.left)
                found = do(conn)
            if is_sqlite:
                _require_file_in_place(conn, has_committed=True)
            return found
    except DBAPIError:
        if limit is not None:
            limit.spend(monotonic() - began)
        raise


def create_engine(url: str, threads: int = MAX_CONNECTIONS, *, is_durable: bool = True) -> sa.Engine:
    """An engine for `url`, set up the way instep needs it; nothing is opened yet. Raises ValueError for no such URL."""
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
    def _notice(context: sa.engine.ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _IDLE_TIMEOUT_SQLSTATE:
            context.is_disconnect = True

    return engine


def _set_session_timeouts(connection: psycopg.Connection[Any]) -> bool:
    """Limit waiting for locks and idle transactions; return False behind a connection pooler, and set nothing there.

    A pooler in transaction mode gives each transaction any server connection: what is set on one would reach strangers,
    and statements prepared on one are unknown to the next. It is recognized by the process id that the connection was
    told when it began, which is not the server's.
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
    """Return whether a connection pooler stands between this connection and PostgreSQL."""
    return bool(conn.info.get(POOLED_INFO_KEY, False))


def _create_sqlite_engine(url: sa.URL, common: dict[str, Any], threads: int, synchronous: str) -> sa.Engine:
    file = Path(url.database) if url.database and not url.database.startswith((":memory:", "file:")) else None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=threads + 1,
        pool_use_lifo=True,  # each connection has a cache of its own: few at work, little memory
        connect_args={"check_same_thread": False, "cached_statements": 256, "timeout": CONNECT_LOCK_TIMEOUT},
        **common,
    )

    known: set[Path] = set()

    @sa.event.listens_for(engine, "do_connect")
    def _require_known(_dialect: Any, _record: Any, _arguments: Any, _options: Any) -> None:
        """A file that was there once is never made anew: an empty database in its place would hide the loss."""
        if any(not path.exists() for path in known):
            raise sqlite3.OperationalError(FILE_MOVED_MESSAGE)
        if file is not None:
            restrict_file_permissions(file)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        for pragma in (*_PRAGMAS, f"synchronous={synchronous}"):
            connection.execute(f"PRAGMA {pragma}")
        record.info["instep_file"] = opened = find_open_file(connection)
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
            for pragma in _NORMAL_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")

    return engine


def restrict_file_permissions(file: Path) -> None:
    """Have an SQLite database that its owner alone can read: create it so, and correct one that everybody can read.

    SQLite gives the files beside it the same mode. One that a group can read but not everybody was made so on purpose
    and is left as it is. An existing database is never opened here: closing it would end the locks that SQLite holds.
    Where this is not possible, SQLite says why it can't open the file.
    """
    with suppress(OSError):
        file.touch(mode=PRIVATE_FILE_MODE, exist_ok=False)
    for it in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))):
        with suppress(OSError):
            if it.stat().st_mode & 0o007:
                it.chmod(PRIVATE_FILE_MODE)


def _require_file_in_place(conn: Conn, *, has_committed: bool = False) -> None:
    file: OpenDatabaseFile | None = conn.info.get("instep_file")
    if file is not None and not (file.is_in_place() and (not has_committed or file.has_wal())):
        raise DatabaseFileMovedError


def _set_busy_timeout(conn: Conn, seconds: float) -> None:
    """Have SQLite wait so long for a lock. Past SQLAlchemy: this is done before each transaction."""
    wait = int(max(seconds, MIN_LOCK_TIMEOUT) * 1_000)
    if conn.info.get("instep_wait") != wait:
        conn.connection.dbapi_connection.execute(f"PRAGMA busy_timeout={wait}")  # type: ignore[union-attr]
        conn.info["instep_wait"] = wait


def _set_lock_timeout(conn: Conn, seconds: float) -> None:
    """Have this transaction wait so long for a lock on PostgreSQL. It costs a round trip."""
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {int(max(seconds, MIN_LOCK_TIMEOUT) * 1_000)}")


def _is_transient(error: DBAPIError) -> bool:
    """Return whether the same may succeed in a moment: a deadlock, a lost race, somebody else's lock."""
    is_lock = getattr(error.orig, "sqlstate", None) == _LOCK_TIMEOUT_SQLSTATE
    return is_lock or any(words in str(error.orig) for words in _TRANSIENT_MESSAGES)


REQUEST_WAIT_BUDGET = 8.0


"""Seconds that one request, or one command, waits for the database in all."""


_current_wait_budget: ContextVar[WaitBudget | None] = ContextVar("instep_wait_limit", default=None)


@contextmanager
def limit_database_waits(seconds: float) -> Iterator[WaitBudget]:
    """Limit the waiting inside this block, and in tasks that are created there, to `seconds` in all."""
    limit = WaitBudget(seconds)
    token = _current_wait_budget.set(limit)
    try:
        yield limit
    finally:
        _current_wait_budget.reset(token)


def get_wait_budget() -> WaitBudget | None:
    """Return the limit of the code that is running, None for work that nobody waits for."""
    return _current_wait_budget.get()
