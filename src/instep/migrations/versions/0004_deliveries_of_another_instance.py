"""An index of the deliveries of another Clerk instance, which pages, metrics and the doctor count."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FOREIGN = sa.text("outcome = 'foreign'")


def upgrade() -> None:
    """Make the change. Earlier versions keep no such delivery, and go on beside it."""
    op.create_index(
        "ix_instep_deliveries_foreign",
        "instep_deliveries",
        ["received_at"],
        unique=False,
        sqlite_where=FOREIGN,
        postgresql_where=FOREIGN,
    )
