"""The table of the audit: append only, by trigger."""

import sqlalchemy as sa

from instep.kit.db import Json, metadata

audit = sa.Table(
    "instep_audit",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("cause", sa.Text),
    sa.Column("details", Json, nullable=False, server_default="{}"),
    sa.Index("ix_instep_audit_at", "at", "id"),
    comment="What happened, to whom, by whom and why. Rows can't be changed or deleted.",
)
