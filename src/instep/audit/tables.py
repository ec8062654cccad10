"""Table of the audit log; append-only by trigger."""

import sqlalchemy as sa

from instep.core.db import Json, metadata

IS_IMPERSONATED = sa.text("impersonator IS NOT NULL")
audit = sa.Table(
    "instep_audit",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("organization_id", sa.Text),
    sa.Column("cause", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("origin", sa.Text),
    sa.Column("impersonator", sa.Text),
    sa.Column("details", Json, nullable=False, server_default="{}"),
    sa.Index("ix_instep_audit_organization", "organization_id", "id"),
    sa.Index("ix_instep_audit_actor", "actor", "id"),
    sa.Index("ix_instep_audit_target", "target", "id"),
    sa.Index("ix_instep_audit_cause", "cause"),
    sa.Index(
        "ix_instep_audit_impersonator",
        "impersonator",
        "id",
        sqlite_where=IS_IMPERSONATED,
        postgresql_where=IS_IMPERSONATED,
    ),
    comment="What happened, to whom, by whom, from where and why. Rows can't be changed or deleted; ids sort by time.",
)
