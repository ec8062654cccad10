"""The migrations end in the schema that the tables declare."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from instep.audit import tables
from instep.core.db import Database, create_engine, metadata
from instep.core.schema_migrations import (
    VERSION_TABLE,
    SchemaOutdatedError,
    check_schema,
    get_required_revision,
    migrate_schema,
)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_the_migrations_end_in_the_declared_schema(db: Database) -> None:
    with db.engine.connect() as conn:
        opts = {
            "version_table": VERSION_TABLE,
            "compare_type": True,
            "compare_server_default": False,
            "include_name": lambda name, _kind, _parents: "_search" not in (name or ""),  # these are of no version
        }
        context = MigrationContext.configure(conn, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(db: Database) -> None:
    assert migrate_schema(db.engine) == get_required_revision()
    check_schema(db.engine)


def test_an_empty_database_is_refused_with_the_command_that_fixes_it(database_url: str) -> None:
    engine = create_engine(database_url)
    with pytest.raises(SchemaOutdatedError, match="Run: instep migrate"):
        check_schema(engine)
    engine.dispose()


def test_the_audit_can_only_grow(db: Database) -> None:
    row = {"id": "aud_1", "at": 1, "actor": "clerk", "action": "user.seen", "target": "user_1", "outcome": "done"}

    def insert(conn: sa.Connection) -> None:
        conn.execute(sa.insert(tables.audit).values(row))

    def change(conn: sa.Connection, statement: sa.Executable) -> None:
        conn.execute(statement)

    db.write_sync(insert)
    for statement in (sa.update(tables.audit).values(actor="someone else"), sa.delete(tables.audit)):
        with pytest.raises(Exception, match="audit can only grow"):
            db.write_sync(change, statement)
