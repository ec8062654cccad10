"""Table of operations."""

import sqlalchemy as sa

from instep.core.db import Json, metadata

IS_OPEN = sa.text("state = 'open'")
IS_UNFINISHED = sa.text("state IN ('open', 'attention')")
operations = sa.Table(
    "instep_operations",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("organization_id", sa.Text),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("origin", sa.Text),
    sa.Column("impersonator", sa.Text),
    sa.Column("intent", Json, nullable=False),
    sa.Column("done", Json, nullable=False, server_default="{}"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("code", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", sa.BigInteger),
    sa.Column("asked_at", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Index("uq_instep_operations_open_target", "target", unique=True, sqlite_where=IS_OPEN, postgresql_where=IS_OPEN),
    sa.UniqueConstraint("actor", "idempotency_key"),
    sa.Index(
        "ix_instep_operations_due",
        "due_at",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
    sa.Index("ix_instep_operations_asked", "asked_at", "id"),
    sa.Index("ix_instep_operations_target", "target", "id"),
    sa.Index(
        "ix_instep_operations_unfinished",
        "organization_id",
        "id",
        sqlite_where=IS_UNFINISHED,
        postgresql_where=IS_UNFINISHED,
    ),
    comment="state: open, settled, refused (nothing was changed), attention (needs a person) or given_up. "
    "done: what each finished step gave; fence: counts who took it on, so that a sleeper's write is refused.",
)
