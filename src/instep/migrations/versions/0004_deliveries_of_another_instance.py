"""An index of the deliveries of another Clerk instance; whether nothing was synced yet, beside the freshness."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FOREIGN = sa.text("outcome = 'foreign'")


def upgrade() -> None:
    """Make the change. Earlier versions keep no such delivery, write no such column, and go on beside it."""
    op.add_column("instep_freshness", sa.Column("is_synced", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.create_index(
        "ix_instep_deliveries_foreign",
        "instep_deliveries",
        ["received_at"],
        unique=False,
        sqlite_where=FOREIGN,
        postgresql_where=FOREIGN,
    )
