"""Index deliveries of another Clerk instance, and record whether anything was synced yet."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FOREIGN = sa.text("outcome = 'foreign'")


def upgrade() -> None:
    """Add the index and the column.

    Earlier versions store no such delivery, write no such column, and keep running.
    """
    op.add_column("instep_freshness", sa.Column("is_synced", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.create_index(
        "ix_instep_deliveries_foreign",
        "instep_deliveries",
        ["received_at"],
        unique=False,
        sqlite_where=FOREIGN,
        postgresql_where=FOREIGN,
    )
