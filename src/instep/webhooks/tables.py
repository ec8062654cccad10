"""Table of webhook deliveries."""

import sqlalchemy as sa

from instep.core.db import Json, metadata

IS_FAILED = sa.text("state = 'parked'")
IS_FOREIGN = sa.text("outcome = 'foreign'")
deliveries = sa.Table(
    "instep_deliveries",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("due_at", sa.BigInteger),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("outcome", sa.Text),
    sa.Column("settled_at", sa.BigInteger),
    sa.Column("user_id", sa.Text),
    sa.Column("organization_id", sa.Text),
    sa.Column("missing", Json),
    sa.Index(
        "ix_instep_deliveries_due",
        "due_at",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    ),
    sa.Index("ix_instep_deliveries_received", "received_at", "user_id", "organization_id"),
    sa.Index("ix_instep_deliveries_parked", "received_at", sqlite_where=IS_FAILED, postgresql_where=IS_FAILED),
    sa.Index("ix_instep_deliveries_foreign", "received_at", sqlite_where=IS_FOREIGN, postgresql_where=IS_FOREIGN),
    comment="state: new, settled, waiting (tried again at due_at) or parked (needs a person). user_id and "
    "organization_id: Clerk's ids of whom and what it is about; missing: what it needs and Clerk did not show, and "
    "since when.",
)
