"""The migrations end in the schema that the tables declare."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from instep.access import tables as _access  # noqa: F401 (declares its tables)
from instep.audit import tables as _audit
from instep.clerk import tables as _clerk  # noqa: F401
from instep.inbox import tables as _inbox  # noqa: F401
from instep.kit.db import Db, make_engine, metadata
from instep.kit.schema import VERSION_TABLE, SchemaOutdated, check, migrate, needed_version
from instep.mirror import tables as _mirror  # noqa: F401
from instep.sync import tables as _sync  # noqa: F401


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_the_migrations_end_in_the_declared_schema(db: Db) -> None:
    with db.engine.connect() as conn:
        opts = {
            "version_table": VERSION_TABLE,
            "compare_type": True,
            "compare_server_default": False,
            "include_name": lambda name, _kind, _parents: "_search" not in (name or ""),  # these are of no version
        }
        context = MigrationContext.configure(conn, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(db: Db) -> None:
    assert migrate(db.engine) == needed_version()
    check(db.engine)


def test_an_empty_database_is_refused_with_the_command_that_mends_it(database_url: str) -> None:
    engine = make_engine(database_url)
    with pytest.raises(SchemaOutdated, match="Run: instep migrate"):
        check(engine)
    engine.dispose()


def test_the_audit_can_only_grow(db: Db) -> None:
    row = {"id": "aud_1", "at": 1, "actor": "clerk", "action": "user.seen", "target": "user_1", "outcome": "done"}

    def insert(conn: sa.Connection) -> None:
        conn.execute(sa.insert(_audit.audit).values(row))

    def change(conn: sa.Connection, statement: sa.Executable) -> None:
        conn.execute(statement)

    db.writing(insert)
    for statement in (sa.update(_audit.audit).values(actor="someone else"), sa.delete(_audit.audit)):
        with pytest.raises(Exception, match="audit can only grow"):
            db.writing(change, statement)
