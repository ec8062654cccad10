"""Database errors, and the translation of driver errors into them."""

from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from instep.core.errors import InstepError, PermanentError, TemporaryError

FILE_MOVED_MESSAGE = "the database file was removed or replaced while it was open"


class DatabaseFileMovedError(Exception):
    """The open database file is no longer the one at its path."""

    def __init__(self) -> None:
        super().__init__(FILE_MOVED_MESSAGE)


_LIMIT_EXCEEDED_SQLSTATE = "54"  # a value exceeds a limit of PostgreSQL, such as the size of an index row
DATABASE_UNAVAILABLE_MESSAGE = "The database is not available right now. Try again in a moment."


class DatabaseUnavailableError(TemporaryError):
    """The database cannot be reached, did not answer in time, or cannot store anything.

    The message says nothing about the installation because anyone may see it; `detail` does, for logs and `instep
    doctor`.
    """

    def __init__(
        self, message: str = DATABASE_UNAVAILABLE_MESSAGE, *, detail: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.detail = detail


class DatabaseRejectedError(PermanentError):
    """The database rejected values (a constraint, a value out of range); retrying gives the same result."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="database_refused")


class DatabaseValueError(DatabaseRejectedError):
    """A value that the database cannot store: a NUL in a text, a number out of range, a key too long."""


def translate_database_error(
    error: DBAPIError | PoolTimeoutError | DatabaseFileMovedError, refused: str
) -> InstepError:
    """Translate a driver error.

    Returns DatabaseUnavailableError for an outage, else DatabaseRejectedError with `refused` and the cause.
    """
    if not isinstance(error, DBAPIError):
        return DatabaseUnavailableError(detail=str(error))
    is_operational = isinstance(error, OperationalError)
    is_down = error.connection_invalidated or is_outage(error.orig, is_operational=is_operational)
    return DatabaseUnavailableError(detail=describe_driver_error(error)) if is_down else _make_rejection(error, refused)


def _make_rejection(error: DBAPIError, refused: str) -> DatabaseRejectedError:
    """Return a DatabaseValueError if another value could have been accepted, else a DatabaseRejectedError."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    is_value = isinstance(error, DataError) or state.startswith(("22", _LIMIT_EXCEEDED_SQLSTATE))
    kind = DatabaseValueError if is_value else DatabaseRejectedError
    return kind(f"{refused}: {describe_driver_error(error)}")


def describe_driver_error(error: DBAPIError) -> str:
    """Return the driver's message in one line. It may name hosts, paths and values: not for everyone."""
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]


REJECTED_SQLSTATES = (
    "21",  # cardinality violation
    "22",  # data exception: out of range, bad encoding, invalid text
    "23",  # integrity constraint violation
    "42",  # syntax error or access rule violation: a faulty statement, except for OUTAGE_SQLSTATES
    "44",  # WITH CHECK OPTION violation
    "54",  # program limit exceeded, such as the size of an index row
    "P0",  # raised by a trigger
)
OUTAGE_SQLSTATES = (
    "42501",  # insufficient privilege: the role can't write
    "42P01",  # undefined table: not the schema that this version needs
    "42703",  # undefined column
)
REJECTED_SQLITE_ERRORS = ("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_RANGE")
GENERIC_SQLITE_ERROR = "SQLITE_ERROR"  # every error without its own code; distinguished by its text
MISSING_OBJECT_PREFIX = "no such "  # table, column, module, function: a schema or library this version can't use


def is_outage(error: object, *, is_operational: bool) -> bool:
    """Return whether a driver error is an outage; otherwise the database rejected the statement or its values.

    `is_operational`: the driver raised OperationalError. It decides if there is no error code: then the driver never
    reached the database, or it rejected the values before sending them.
    """
    if state := getattr(error, "sqlstate", None):
        return state in OUTAGE_SQLSTATES or not state.startswith(REJECTED_SQLSTATES)
    if name := getattr(error, "sqlite_errorname", None):
        return (
            str(error).startswith(MISSING_OBJECT_PREFIX)
            if name == GENERIC_SQLITE_ERROR
            else not name.startswith(REJECTED_SQLITE_ERRORS)
        )
    return is_operational
