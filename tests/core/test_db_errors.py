"""Every driver error is an outage or a rejection of values, by its code."""

import sqlite3

import psycopg
import pytest
from psycopg import errors

from instep.core.db_errors import is_outage


def sqlite_error(name: str, text: str = "") -> sqlite3.Error:
    error = sqlite3.OperationalError(text or name)
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    "error",
    [
        errors.DiskFull(),
        errors.OutOfMemory(),
        errors.TooManyConnections(),
        errors.AdminShutdown(),
        errors.CannotConnectNow(),
        errors.DataCorrupted(),
        errors.IoError(),
        errors.ReadOnlySqlTransaction(),
        errors.LockNotAvailable(),
        errors.InvalidPassword(),
        errors.InvalidCatalogName(),
        errors.InsufficientPrivilege(),
        errors.UndefinedTable(),
        errors.InvalidSqlStatementName(),
        psycopg.OperationalError("connection refused"),
        *map(
            sqlite_error,
            ("SQLITE_FULL", "SQLITE_BUSY", "SQLITE_READONLY", "SQLITE_READONLY_DBMOVED", "SQLITE_CORRUPT"),
        ),
        *map(sqlite_error, ("SQLITE_NOTADB", "SQLITE_IOERR_WRITE", "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_PERM")),
        sqlite_error("SQLITE_ERROR", "no such table: instep_users"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}".strip(),
)
def test_errors_independent_of_the_caller_are_outages(error: Exception) -> None:
    assert is_outage(error, is_operational=True)


@pytest.mark.parametrize(
    "error",
    [
        errors.UniqueViolation(),
        errors.NumericValueOutOfRange(),
        errors.CharacterNotInRepertoire(),
        errors.ProgramLimitExceeded(),
        errors.RaiseException(),
        errors.SyntaxError(),
        *map(sqlite_error, ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_TRIGGER", "SQLITE_TOOBIG")),
        sqlite_error("SQLITE_ERROR", "malformed JSON"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}".strip(),
)
def test_errors_of_values_or_statements_are_rejections(error: Exception) -> None:
    assert not is_outage(error, is_operational=True)


def test_a_value_rejected_by_the_driver_has_no_code() -> None:
    assert not is_outage(psycopg.DataError("PostgreSQL text fields cannot contain NUL"), is_operational=False)
