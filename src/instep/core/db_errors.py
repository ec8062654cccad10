"""Database errors, and how driver errors are translated into them."""

from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from instep.core.errors import InstepError, PermanentError, TemporaryError

FILE_MOVED_MESSAGE = "the database's file was removed or replaced while it was open"


class DatabaseFileMovedError(Exception):
    """The open file is not the one at its path any more."""

    def __init__(self) -> None:
        super().__init__(FILE_MOVED_MESSAGE)


_LIMIT_EXCEEDED_SQLSTATE = (
    "54"  # a value that passes a limit of PostgreSQL's, such as the size of an index row: no outage
)
DATABASE_UNAVAILABLE_MESSAGE = "The database is not available right now. Try again in a moment."


class DatabaseUnavailableError(TemporaryError):
    """The database can't be reached, did not answer in time, or can't keep anything.

    The message names nothing of the installation, since anybody may be shown it; `detail` says what happened, for logs
    and for `instep doctor`.
    """

    def __init__(
        self, message: str = DATABASE_UNAVAILABLE_MESSAGE, *, detail: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.detail = detail


class DatabaseRejectedError(PermanentError):
    """The database can't take these values (a constraint, a value out of range): trying again gives the same."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="database_refused")


class DatabaseValueError(DatabaseRejectedError):
    """A value that no database, or not this one, holds: a NUL in a text, a number out of range, a key too long."""


def translate_database_error(
    error: DBAPIError | PoolTimeoutError | DatabaseFileMovedError, refused: str
) -> InstepError:
    """Return what a driver's failure means: DatabaseUnavailableError, or DatabaseRejectedError with `refused` and the cause."""
    if not isinstance(error, DBAPIError):
        return DatabaseUnavailableError(detail=str(error))
    is_operational = isinstance(error, OperationalError)
    is_down = error.connection_invalidated or is_outage(error.orig, is_operational=is_operational)
    return DatabaseUnavailableError(detail=describe_driver_error(error)) if is_down else _make_rejection(error, refused)


def _make_rejection(error: DBAPIError, refused: str) -> DatabaseRejectedError:
    """Return the refusal; that of a value where another value would have been taken."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    is_value = isinstance(error, DataError) or state.startswith(("22", _LIMIT_EXCEEDED_SQLSTATE))
    kind = DatabaseValueError if is_value else DatabaseRejectedError
    return kind(f"{refused}: {describe_driver_error(error)}")


def describe_driver_error(error: DBAPIError) -> str:
    """Return what the driver said, in one line. It may name hosts, paths and values: not for everybody."""
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]


REJECTED_SQLSTATES = (
    "21",  # cardinality violation
    "22",  # data exception: out of range, bad encoding, invalid text
    "23",  # integrity constraint violation
    "42",  # syntax error or access rule violation: a fault of the statement, except for OUTAGE_STATES
    "44",  # WITH CHECK OPTION violation
    "54",  # program limit exceeded, such as the size of an index row
    "P0",  # raised by a trigger
)
OUTAGE_SQLSTATES = (
    "42501",  # insufficient privilege: the role may not write
    "42P01",  # undefined table: another schema than this version needs
    "42703",  # undefined column
)
REJECTED_SQLITE_ERRORS = ("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_RANGE")
GENERIC_SQLITE_ERROR = "SQLITE_ERROR"  # everything without a code of its own; told apart by its text
MISSING_OBJECT_PREFIX = (
    "no such "  # table, column, module, function: another schema, or another library, than this version needs
)


def is_outage(error: object, *, is_operational: bool) -> bool:
    """Return whether a driver's error is an outage; otherwise the database refused the statement or its values.

    `is_operational`: whether the driver calls it an OperationalError, which decides where there is no code: then the
    driver never reached the database, or refused the values itself.
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
