"""Create the first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from instep.migrations import triggers

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    """Create tables, indexes and triggers."""
    op.create_table(
        "instep_api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_instep_api_keys_key_hash")),
        comment="Keys for programs. scopes: read, write; organization_id is null for a key to the whole installation.",
    )
    op.create_table(
        "instep_audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("details", JSON, server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_audit")),
        comment="What happened, to whom, by whom, from where and why. Rows can't be changed or deleted; ids sort by time.",
    )
    op.create_index("ix_instep_audit_actor", "instep_audit", ["actor", "id"], unique=False)
    op.create_index("ix_instep_audit_cause", "instep_audit", ["cause"], unique=False)
    op.create_index("ix_instep_audit_organization", "instep_audit", ["organization_id", "id"], unique=False)
    op.create_index("ix_instep_audit_target", "instep_audit", ["target", "id"], unique=False)
    op.create_table(
        "instep_deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("organization_id", sa.Text(), nullable=True),
        sa.Column("missing", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_deliveries")),
        comment="state: new, settled, waiting (tried again at due_at) or parked (needs a person). user_id and "
        "organization_id: Clerk's ids of whom and what it is about; missing: what it needs and Clerk did not show, and "
        "since when.",
    )
    op.create_index(
        "ix_instep_deliveries_due",
        "instep_deliveries",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_instep_deliveries_received",
        "instep_deliveries",
        ["received_at", "user_id", "organization_id"],
        unique=False,
    )
    op.create_index(
        "ix_instep_deliveries_parked",
        "instep_deliveries",
        ["received_at"],
        unique=False,
        sqlite_where=sa.text("state = 'parked'"),
        postgresql_where=sa.text("state = 'parked'"),
    )
    op.create_table(
        "instep_facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instep_facts")),
        comment="Single facts of this installation, such as the Clerk instance it belongs to.",
    )
    op.create_table(
        "instep_member_counts",
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("members", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "status", "role", name=op.f("pk_instep_member_counts")),
        comment="Members per organization, status and role; kept by triggers on instep_memberships.",
        postgresql_with={"fillfactor": 40},  # room for the next figures beside the last: an update touches no index
    )
    op.create_table(
        "instep_operations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("intent", JSON, nullable=False),
        sa.Column("done", JSON, server_default="{}", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_operations")),
        sa.UniqueConstraint("actor", "idempotency_key", name=op.f("uq_instep_operations_actor_idempotency_key")),
        comment="state: open, settled, refused (nothing was changed), attention (needs a person) or given_up. done: what each finished step gave; fence: counts who took it on, so that a sleeper's write is refused.",
    )
    op.create_index("ix_instep_operations_asked", "instep_operations", ["asked_at", "id"], unique=False)
    op.create_index("ix_instep_operations_target", "instep_operations", ["target", "id"], unique=False)
    op.create_index(
        "ix_instep_operations_unfinished",
        "instep_operations",
        ["organization_id", "id"],
        unique=False,
        sqlite_where=sa.text("state IN ('open', 'attention')"),
        postgresql_where=sa.text("state IN ('open', 'attention')"),
    )
    op.create_index(
        "ix_instep_operations_due",
        "instep_operations",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "uq_instep_operations_open_target",
        "instep_operations",
        ["target"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "instep_organizations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("clerk_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=True),
        sa.Column("image_url", sa.Text(), nullable=True),
        sa.Column("max_members", sa.Integer(), nullable=True),
        sa.Column("public_metadata", JSON, server_default="{}", nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("gone_at", sa.BigInteger(), nullable=True),
        sa.Column("absent_at", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_organizations")),
        sa.UniqueConstraint("clerk_id", name=op.f("uq_instep_organizations_clerk_id")),
        comment="Organizations. clerk_id is null for a local one; gone_at and absent_at as for people.",
    )
    op.create_index(op.f("ix_instep_organizations_slug"), "instep_organizations", ["slug"], unique=False)
    op.create_table(
        "instep_pace",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spent", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instep_pace")),
        comment="Permits to call Clerk, granted lately to all replicas together. On SQLite in a file beside the database.",
    )
    op.create_table(
        "instep_sessions",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("clerk_session_id", sa.Text(), nullable=True),
        sa.Column("clerk_user_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_instep_sessions")),
        comment="clerk_session_id is null for a sign-in with the break-glass key. checked_at: when Clerk last said that the session is active; tried_at: when it was last asked; actor: who acts as this user (impersonation).",
    )
    op.create_index(op.f("ix_instep_sessions_clerk_session_id"), "instep_sessions", ["clerk_session_id"], unique=False)
    op.create_table(
        "instep_leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instep_leases")),
        comment="What one process at a time may do. fence: counts the holders, so that a sleeper's write is refused.",
    )
    op.create_table(
        "instep_sync_runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("plan_id", sa.Text(), nullable=True),
        sa.Column("totals", JSON, server_default="{}", nullable=False),
        sa.Column("counts", JSON, server_default="{}", nullable=False),
        sa.Column("progress", JSON, server_default="{}", nullable=False),
        sa.Column("stage", JSON, server_default="{}", nullable=False),
        sa.Column("wish", JSON, server_default="{}", nullable=False),
        sa.Column("hash", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_sync_runs")),
        comment="state: asked (for a worker), running, done, refused, failed or stopped. progress: where each window "
        "of a first sync is; stage: how far it is, for those who watch; wish: what it was asked to do.",
    )
    op.create_index("ix_instep_sync_runs_started", "instep_sync_runs", ["started_at", "id"], unique=False)
    op.create_index(
        "ix_instep_sync_runs_unfinished",
        "instep_sync_runs",
        ["started_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('asked', 'running')"),
        postgresql_where=sa.text("state IN ('asked', 'running')"),
    )
    op.create_table(
        "instep_findings",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("thing", sa.Text(), nullable=False),
        sa.Column("clerk_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("mend", sa.Text(), nullable=True),
        sa.Column("body", JSON, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_reason", sa.Text(), nullable=True),
        sa.Column("outcome_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["instep_sync_runs.id"], name=op.f("fk_instep_findings_run_id")),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_instep_findings")),
        comment="What a run found to differ. outcome: applied or skipped, once someone applied the plan.",
    )
    op.create_table(
        "instep_freshness",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
        sa.Column("newest_event_at", sa.BigInteger(), nullable=True),
        sa.Column("behind", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instep_freshness")),
        comment="How the webhook stood when it was last looked at, for pages of every process.",
    )
    op.create_table(
        "instep_users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("clerk_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("is_email_verified", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("image_url", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("public_metadata", JSON, server_default="{}", nullable=False),
        sa.Column("attributes", JSON, server_default="{}", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("is_banned", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("last_sign_in_at", sa.BigInteger(), nullable=True),
        sa.Column("last_active_at", sa.BigInteger(), nullable=True),
        sa.Column("sort_name", sa.Text(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=False),
        sa.Column("deactivated_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("gone_at", sa.BigInteger(), nullable=True),
        sa.Column("absent_at", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_users")),
        sa.UniqueConstraint("clerk_id", name=op.f("uq_instep_users_clerk_id")),
        comment="People. clerk_id is null for someone without a Clerk account; gone_at marks a deletion in Clerk; "
        "absent_at: Clerk did not say so, and since then did not show them.",
    )
    op.create_index("ix_instep_users_joined", "instep_users", ["joined_at", "id"], unique=False)
    op.create_table(
        "instep_memberships",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("clerk_id", sa.Text(), nullable=True),
        sa.Column("organization_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("sort_name", sa.Text(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=False),
        sa.Column("deactivated_at", sa.BigInteger(), nullable=True),
        sa.Column("deactivation", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("gone_at", sa.BigInteger(), nullable=True),
        sa.Column("absent_at", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["instep_organizations.id"], name=op.f("fk_instep_memberships_organization_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["instep_users.id"], name=op.f("fk_instep_memberships_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instep_memberships")),
        sa.UniqueConstraint("clerk_id", name=op.f("uq_instep_memberships_clerk_id")),
        comment="One row for each time that someone joined. status: active, deactivated, removed; deactivation: how far Clerk follows, database (its membership stays), membership (removed there, and the row is kept whatever Clerk says of that) or ban; absent_at is as for people, or the one of a parent that it ended with; sort_name and search_text repeat the person's, so that a page is one walk of one index.",
    )
    op.create_index("ix_instep_memberships_joined", "instep_memberships", ["joined_at", "id"], unique=False)
    op.create_index(
        "ix_instep_memberships_page",
        "instep_memberships",
        ["organization_id", "status", "sort_name", "id"],
        unique=False,
    )
    op.create_index(
        "ix_instep_memberships_role_page",
        "instep_memberships",
        ["organization_id", "status", "role", "sort_name", "id"],
        unique=False,
    )
    op.create_index(op.f("ix_instep_memberships_user_id"), "instep_memberships", ["user_id"], unique=False)
    op.create_index("ix_instep_users_email", "instep_users", [sa.literal_column("lower(email)")])
    op.create_index("ix_instep_users_username", "instep_users", [sa.literal_column("lower(username)")])
    statements = triggers.POSTGRESQL if op.get_context().dialect.name == "postgresql" else triggers.SQLITE
    for statement in statements:
        op.execute(sa.text(statement.replace(":", "\\:")))
