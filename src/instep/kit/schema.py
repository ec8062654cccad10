"""The schema's versions: which one the database has, which one this code needs, and the way from one to the other."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from instep import __version__
from instep.kit.db import DatabaseDown, cause_of, failure_of
from instep.kit.errors import PermanentError

OUTDATED = "The database's schema is {found}, this version of instep needs {needed}. Run: instep migrate"
NEWER = "The database was migrated by instep {found}, and this is {ours}. Update this installation of instep."
UNREACHABLE = "The database can't be reached."
SERIES = ".".join(__version__.split(".")[:2])


"""The minor series of this version: within one, an older process goes on with a newer schema."""


_SERIES_FACT = "schema_series"


class SchemaOutdated(PermanentError):
    """The database has another schema than this code needs."""

    def __init__(self, found: str | None, needed: str) -> None:
        super().__init__(OUTDATED.format(found=found or "empty", needed=needed), code="schema_outdated")


class SchemaNewerError(PermanentError):
    """A version of instep of another minor series has migrated the database."""

    def __init__(self, found: str | None) -> None:
        super().__init__(NEWER.format(found=found or "of a later version", ours=SERIES), code="schema_newer")


class MigrationError(PermanentError):
    """The database refused to change its schema; the message is its own, with what to do."""

    def __init__(self, reason: str) -> None:
        advice = "Let `instep migrate` run as a role that may create tables in this schema."
        super().__init__(f"The schema can't be changed: {reason}. {advice}", code="migration_failed")


def migrate(engine: sa.Engine) -> str:
    """Bring the schema to what this code needs; return its version. Running it again does nothing.

    A newer schema of the same minor series is left as it is. Raises DatabaseDown, MigrationError, SchemaNewerError.
    """
    with _reached(), engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        found = _context(conn).get_current_revision()
        if found is not None and not _is_known(found):
            _require_our_series(conn)
            return found
        try:
            command.upgrade(_config(conn), "head")
            _keep_series(conn)
        except sa.exc.ProgrammingError as error:
            raise MigrationError(cause_of(error)) from error
    return needed_version()


def check(engine: sa.Engine) -> None:
    """Require a schema that this code can work with: its own, or a newer one of the same minor series.

    Migrations within a minor series only add, so an older process goes on while the newer one is rolled out. Raises
    SchemaOutdated, SchemaNewerError, DatabaseDown.
    """
    with _reached(), engine.connect() as conn:
        found, needed = _context(conn).get_current_revision(), needed_version()
        if found == needed:
            return
        if found is None or _is_known(found):
            raise SchemaOutdated(found, needed)
        _require_our_series(conn)


def _require_our_series(conn: sa.Connection) -> None:
    found = conn.execute(sa.text("SELECT value FROM instep_facts WHERE name = :name"), {"name": _SERIES_FACT})
    series = found.scalar_one_or_none()
    if series != SERIES:
        raise SchemaNewerError(series)


def _keep_series(conn: sa.Connection) -> None:
    """Record which minor series of instep the schema is of."""
    fact = {"name": _SERIES_FACT, "value": SERIES}
    conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :name"), fact)
    conn.execute(sa.text("INSERT INTO instep_facts (name, value) VALUES (:name, :value)"), fact)


def _is_known(revision: str) -> bool:
    """Return whether this code has the migration that made the schema what it is."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions())


def found_version(engine: sa.Engine) -> str | None:
    """The schema's version in the database, None for one that instep has not touched."""
    with _reached(), engine.connect() as conn:
        return _context(conn).get_current_revision()


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if not isinstance(failure_of(error, UNREACHABLE), DatabaseDown):
            raise
        raise DatabaseDown(UNREACHABLE, detail=cause_of(error)) from error


def needed_version() -> str:
    """The version this code needs."""
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    if head is None:
        raise AssertionError("instep ships no migrations")
    return head


def _context(conn: sa.Connection) -> MigrationContext:
    return MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE})


VERSION_TABLE = "instep_schema"


def _config(conn: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", "instep:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config
