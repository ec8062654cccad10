"""Record impersonators in operations, the audit and sync runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("instep_operations", "instep_audit", "instep_sync_runs")
KNOWN = sa.text("impersonator IS NOT NULL")


def upgrade() -> None:
    """Add a column that an older process leaves empty."""
    for table in TABLES:
        op.add_column(table, sa.Column("impersonator", sa.Text(), nullable=True))
    op.create_index(
        "ix_instep_audit_impersonator",
        "instep_audit",
        ["impersonator", "id"],
        unique=False,
        postgresql_where=KNOWN,
        sqlite_where=KNOWN,
    )
