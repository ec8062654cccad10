"""The schema's versions: which one the database has, which one this code needs, and the way from one to the other."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from instep.kit.db import DatabaseDown, cause_of, failure_of
from instep.kit.errors import PermanentError

OUTDATED = "The database's schema is {found}, this version of instep needs {needed}. Run: instep migrate"
UNREACHABLE = "The database can't be reached."


class SchemaOutdated(PermanentError):
    """The database has another schema than this code needs."""

    def __init__(self, found: str | None, needed: str) -> None:
        super().__init__(OUTDATED.format(found=found or "empty", needed=needed), code="schema_outdated")


def migrate(engine: sa.Engine) -> str:
    """Bring the schema to what this code needs; gives its version. Running it again does nothing. DatabaseDown."""
    with _reached(), engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        command.upgrade(_config(conn), "head")
    return needed_version()


def check(engine: sa.Engine) -> None:
    """Raises SchemaOutdated unless the database's schema is the one this code needs, and DatabaseDown."""
    found, needed = found_version(engine), needed_version()
    if found != needed:
        raise SchemaOutdated(found, needed)


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
