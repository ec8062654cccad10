"""Schema revisions: check the database's revision and migrate it."""

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

OUTDATED_MESSAGE = "The database schema is {found}, but this version of instep needs {needed}. Run: instep migrate"
NEWER_MESSAGE = "The database was migrated by instep {found}, but this is instep {ours}. Update this installation."
UNREACHABLE_MESSAGE = "The database can't be reached."
MINOR_SERIES = ".".join(__version__.split(".")[:2])
"""The minor series of this version. Within one, an older process works with a newer schema."""

_SERIES_FACT_NAME = "schema_series"
VERSION_TABLE = "instep_schema"


class SchemaOutdatedError(PermanentError):
    """The database schema is older than this code needs."""

    def __init__(self, revision: str | None, required: str) -> None:
        super().__init__(OUTDATED_MESSAGE.format(found=revision or "empty", needed=required), code="schema_outdated")


class SchemaNewerError(PermanentError):
    """The database was migrated by a version of instep of another minor series."""

    def __init__(self, series: str | None) -> None:
        super().__init__(
            NEWER_MESSAGE.format(found=series or "of a later version", ours=MINOR_SERIES), code="schema_newer"
        )


class MigrationError(PermanentError):
    """The database rejected a change of its schema; the message has the reason and what to do."""

    def __init__(self, reason: str) -> None:
        advice = "Let `instep migrate` run as a role that may create tables in this schema."
        super().__init__(f"The schema can't be changed: {reason}. {advice}", code="migration_failed")


def migrate_schema(engine: sa.Engine) -> str:
    """Migrate the schema to the revision that this code needs; return the revision. Idempotent.

    A newer schema of the same minor series is not changed. Raises DatabaseUnavailableError, MigrationError and
    SchemaNewerError.
    """
    with _translate_outages(), engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        revision = _make_migration_context(conn).get_current_revision()
        if revision is not None and not _is_known_revision(revision):
            _require_same_series(conn)
            return revision
        try:
            command.upgrade(_make_alembic_config(conn), "head")
            _store_series(conn)
        except sa.exc.ProgrammingError as error:
            raise MigrationError(describe_driver_error(error)) from error
    return get_required_revision()


def check_schema(engine: sa.Engine) -> None:
    """Require a schema that this code can work with: its own, or a newer one of the same minor series.

    Migrations within a minor series only add, so an older process continues during a rollout. Raises
    SchemaOutdatedError, SchemaNewerError and DatabaseUnavailableError.
    """
    with _translate_outages(), engine.connect() as conn:
        revision, required = _make_migration_context(conn).get_current_revision(), get_required_revision()
        if revision == required:
            return
        if revision is None or _is_known_revision(revision):
            raise SchemaOutdatedError(revision, required)
        _require_same_series(conn)


def _require_same_series(conn: sa.Connection) -> None:
    query = sa.text("SELECT value FROM instep_facts WHERE name = :name")
    series = conn.execute(query, {"name": _SERIES_FACT_NAME}).scalar_one_or_none()
    if series != MINOR_SERIES:
        raise SchemaNewerError(series)


def _store_series(conn: sa.Connection) -> None:
    """Store the minor series of instep that the schema belongs to."""
    fact = {"name": _SERIES_FACT_NAME, "value": MINOR_SERIES}
    conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :name"), fact)
    conn.execute(sa.text("INSERT INTO instep_facts (name, value) VALUES (:name, :value)"), fact)


def _is_known_revision(revision: str) -> bool:
    """Return whether this code has the migration of that revision."""
    return any(
        script.revision == revision
        for script in ScriptDirectory.from_config(_make_alembic_config(None)).walk_revisions()
    )


def find_schema_revision(engine: sa.Engine) -> str | None:
    """Return the schema revision of the database; None without a schema of instep."""
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
    """Return the schema revision that this code needs."""
    head = ScriptDirectory.from_config(_make_alembic_config(None)).get_current_head()
    if head is None:
        raise AssertionError("instep ships no migrations")
    return head


def _make_migration_context(conn: sa.Connection) -> MigrationContext:
    return MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE})


def _make_alembic_config(conn: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", "instep:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config
