"""Add statuses of blocked users, the instance's roles, and one current membership per user and organization.

Expand only: a process of the previous version keeps running. A membership of a blocked user gets its own status
(`banned`, `deprovisioned`), kept by a trigger on the user's row, so that a ban written by an older process takes effect
too. There is no unique index on current memberships: an older process would fail on it, since it writes a newer
membership before it ends the older one.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from instep.core.clock import now
from instep.core.ids import new_id

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
MEMBERSHIPS = (
    "One row for each time that someone joined. status: active, banned, deprovisioned (by the person's own row), "
    "deactivated, removed; "
    "deactivation: how far Clerk follows, database (its membership stays), membership (removed there, and the row is "
    "kept whatever Clerk says of that) or ban; absent_at is as for people, or the one of a parent that it ended with; "
    "sort_name and search_text repeat the person's, so that a page is one walk of one index."
)

_STATUS = (
    "CASE WHEN {row}is_banned THEN 'banned' WHEN {row}is_deprovisioned THEN 'deprovisioned' "
    "WHEN NOT {row}is_active THEN 'banned' ELSE 'active' END"
)
_FOLLOW = (
    f"UPDATE instep_memberships SET status = {_STATUS.format(row='NEW.')} "  # noqa: S608 (constants)
    "WHERE user_id = NEW.id AND status IN ('active', 'banned', 'deprovisioned')"
)
_EVENT = "AFTER UPDATE OF is_banned, is_deprovisioned, is_active ON instep_users"
_IS_ALIVE = "NEW.gone_at IS NULL AND NEW.deleted_at IS NULL"
SQLITE = [
    f"CREATE TRIGGER instep_users_bar {_EVENT} FOR EACH ROW "
    f"WHEN {_IS_ALIVE} AND (OLD.is_banned IS NOT NEW.is_banned "
    "OR OLD.is_deprovisioned IS NOT NEW.is_deprovisioned OR OLD.is_active IS NOT NEW.is_active) "
    f"BEGIN {_FOLLOW}; END"
]
POSTGRESQL = [
    f"CREATE FUNCTION instep_users_bar() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_FOLLOW}; RETURN NULL; END $$",
    f"CREATE TRIGGER instep_users_bar {_EVENT} FOR EACH ROW "
    f"WHEN ({_IS_ALIVE} AND (OLD.is_banned <> NEW.is_banned "
    "OR OLD.is_deprovisioned <> NEW.is_deprovisioned OR OLD.is_active <> NEW.is_active)) "
    "EXECUTE FUNCTION instep_users_bar()",
]

_SUPERSEDED = """
SELECT m.id, m.clerk_id, m.organization_id, m.user_id, m.role, m.status FROM instep_memberships m
WHERE m.status <> 'removed' AND EXISTS (SELECT 1 FROM instep_memberships n
  WHERE n.user_id = m.user_id AND n.organization_id = m.organization_id AND n.status <> 'removed'
  AND (n.joined_at, n.version, n.id) > (m.joined_at, m.version, m.id))"""

_FILL_AUDIT = """
UPDATE instep_audit SET organization_id = (
  SELECT m.organization_id FROM instep_memberships m WHERE m.clerk_id = instep_audit.target)
WHERE organization_id IS NULL AND action LIKE 'membership.%' AND EXISTS (
  SELECT 1 FROM instep_memberships m WHERE m.clerk_id = instep_audit.target)"""
_NO_UPDATE = (
    "CREATE TRIGGER instep_audit_no_update BEFORE UPDATE ON instep_audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit can only grow'); END"
)


def upgrade() -> None:
    """Add the columns and triggers, and update existing rows."""
    is_postgresql = op.get_context().dialect.name == "postgresql"
    op.add_column(
        "instep_users", sa.Column("is_deprovisioned", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.create_table(
        "instep_roles",
        sa.Column("clerk_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("permissions", JSON, server_default="[]", nullable=False),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("listed_at", sa.BigInteger(), nullable=True),
        sa.Column("gone_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("clerk_id", name=op.f("pk_instep_roles")),
        comment="Roles of the Clerk instance. permissions: their keys; is_admin: may manage members; is_default: given where nobody chose; "
        "listed_at: when a whole list had it, null while it is known from a webhook alone; gone_at: deleted.",
    )
    if is_postgresql:
        op.create_table_comment("instep_memberships", MEMBERSHIPS)
    for statement in POSTGRESQL if is_postgresql else SQLITE:
        op.execute(sa.text(statement.replace(":", "\\:")))
    conn = op.get_bind()
    _fill_audit(conn, is_postgresql)
    _end_superseded(conn)
    conn.exec_driver_sql(
        "UPDATE instep_memberships SET status = 'banned' WHERE status = 'active' "
        "AND user_id IN (SELECT id FROM instep_users WHERE is_banned OR NOT is_active)"
    )


def _fill_audit(conn: sa.Connection, is_postgresql: bool) -> None:
    """Set the organization of audit entries about memberships that changed in Clerk, where it is known."""
    off, on = (f"ALTER TABLE instep_audit {it} TRIGGER instep_audit_grows" for it in ("DISABLE", "ENABLE"))
    if not is_postgresql:
        off, on = "DROP TRIGGER instep_audit_no_update", _NO_UPDATE
    for statement in (off, _FILL_AUDIT.replace("%", "%%") if is_postgresql else _FILL_AUDIT, on):
        conn.exec_driver_sql(statement)


def _end_superseded(conn: sa.Connection) -> None:
    """End all but the newest of several current memberships of one user in one organization."""
    at = now()
    for id, clerk_id, organization_id, user_id, role, status in conn.exec_driver_sql(_SUPERSEDED).all():
        ended = {"at": at, "id": id}
        conn.execute(
            sa.text("UPDATE instep_memberships SET status = 'removed', gone_at = :at, changed_at = :at WHERE id = :id"),
            ended,
        )
        before = {"role": role, "status": status}
        entry = sa.table(
            "instep_audit",
            *(sa.column(name) for name in ("id", "at", "actor", "action", "target", "outcome", "organization_id")),
            sa.column("cause"),
            sa.column("details", JSON),
        )
        conn.execute(
            sa.insert(entry).values(
                id=new_id("aud"),
                at=at,
                actor="system",
                action="membership.gone",
                target=clerk_id or id,
                outcome="done",
                organization_id=organization_id,
                cause="superseded",
                details={"user": user_id, "before": before, "after": {"role": role, "status": "removed"}},
            )
        )
