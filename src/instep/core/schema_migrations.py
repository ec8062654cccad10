"""Schema revisions: check the database's and migrate it."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from instep import __version__
from instep.core.db_errors import DatabaseUnavailableError, describe_driver_error, translate_database_error
from instep.core.errors import PermanentError

OUTDATED_MESSAGE = "The database's schema is {found}, this version of instep needs {needed}. Run: instep migrate"
NEWER_MESSAGE = "The database was migrated by instep {found}, and this is {ours}. Update this installation of instep."
UNREACHABLE_MESSAGE = "The database can't be reached."
MINOR_SERIES = ".".join(__version__.split(".")[:2])


"""The minor series of this version: within one, an older process goes on with a newer schema."""


_SERIES_FACT_NAME = "schema_series"


class SchemaOutdatedError(PermanentError):
    """The database has another schema than this code needs."""

    def __init__(self, found: str | None, needed: str) -> None:
        super().__init__(OUTDATED_MESSAGE.format(found=found or "empty", needed=needed), code="schema_outdated")


class SchemaNewerError(PermanentError):
    """A version of instep of another minor series has migrated the database."""

    def __init__(self, found: str | None) -> None:
        super().__init__(
            NEWER_MESSAGE.format(found=found or "of a later version", ours=MINOR_SERIES), code="schema_newer"
        )


class MigrationError(PermanentError):
    """The database refused to change its schema; the message is its own, with what to do."""

    def __init__(self, reason: str) -> None:
        advice = "Let `instep migrate` run as a role that may create tables in this schema."
        super().__init__(f"The schema can't be changed: {reason}. {advice}", code="migration_failed")


def migrate_schema(engine: sa.Engine) -> str:
    """Bring the schema to what this code needs; return its version. Running it again does nothing.

    A newer schema of the same minor series is left as it is. Raises DatabaseUnavailableError, MigrationError, SchemaNewerError.
    """
    with _translate_outages(), engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        found = _make_migration_context(conn).get_current_revision()
        if found is not None and not _is_known_revision(found):
            _require_same_series(conn)
            return found
        try:
            command.upgrade(_make_alembic_config(conn), "head")
            _store_series(conn)
        except sa.exc.ProgrammingError as error:
            raise MigrationError(describe_driver_error(error)) from error
    return get_required_revision()


def check_schema(engine: sa.Engine) -> None:
    """Require a schema that this code can work with: its own, or a newer one of the same minor series.

    Migrations within a minor series only add, so an older process goes on while the newer one is rolled out. Raises
    SchemaOutdatedError, SchemaNewerError, DatabaseUnavailableError.
    """
    with _translate_outages(), engine.connect() as conn:
        found, needed = _make_migration_context(conn).get_current_revision(), get_required_revision()
        if found == needed:
            return
        if found is None or _is_known_revision(found):
            raise SchemaOutdatedError(found, needed)
        _require_same_series(conn)


def _require_same_series(conn: sa.Connection) -> None:
    found = conn.execute(sa.text("SELECT value FROM instep_facts WHERE name = :name"), {"name": _SERIES_FACT_NAME})
    series = found.scalar_one_or_none()
    if series != MINOR_SERIES:
        raise SchemaNewerError(series)


def _store_series(conn: sa.Connection) -> None:
    """Record which minor series of instep the schema is of."""
    fact = {"name": _SERIES_FACT_NAME, "value": MINOR_SERIES}
    conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :name"), fact)
    conn.execute(sa.text("INSERT INTO instep_facts (name, value) VALUES (:name, :value)"), fact)


def _is_known_revision(revision: str) -> bool:
    """Return whether this code has the migration that made the schema what it is."""
    return any(
        script.revision == revision
        for script in ScriptDirectory.from_config(_make_alembic_config(None)).walk_revisions()
    )


def find_schema_revision(engine: sa.Engine) -> str | None:
    """The schema's version in the database, None for one that instep has not touched."""
    with _translate_outages(), engine.connect() as conn:
        return _make_migration_context(conn).get_current_revision()


@contextmanager
def _translate_outages() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not isinstance(translate_database_error(error, UNREACHABLE_MESSAGE), DatabaseUnavailableError):
            raise
        raise DatabaseUnavailableError(UNREACHABLE_MESSAGE, detail=describe_driver_error(error)) from error


def get_required_revision() -> str:
    """The version this code needs."""
    head = ScriptDirectory.from_config(_make_alembic_config(None)).get_current_head()
    if head is None:
        raise AssertionError("instep ships no migrations")
    return head


def _make_migration_context(conn: sa.Connection) -> MigrationContext:
    return MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE})


VERSION_TABLE = "instep_schema"


def _make_alembic_config(conn: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", "instep:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config
