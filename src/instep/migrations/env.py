"""Alembic environment: runs the migrations on the given connection, in its transaction."""

from alembic import context

from instep.audit import tables as _audit
from instep.auth import tables as _access
from instep.core.db import metadata
from instep.core.schema_migrations import VERSION_TABLE
from instep.migrations import search
from instep.mirror import deferred_indexes
from instep.mirror import tables as _mirror
from instep.operations import tables as _journal
from instep.sync import tables as _sync
from instep.webhooks import tables as _inbox

__all__ = ["_access", "_audit", "_inbox", "_journal", "_mirror", "_sync"]

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    transaction_per_migration=False,
    include_name=lambda name, kind, _parents: kind != "table" or (name or "").startswith("instep_"),
)
context.run_migrations()
search.ensure_search_indexes(connection)
deferred_indexes.create_all_deferred_indexes(connection)
