"""Limit times and metadata that earlier versions stored to values that pages can show.

Only values change, so that an older process keeps running. Content of Clerk is restored by the next event or sync: the
digest of a changed row is cleared.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LATEST = 7_258_118_400_000  # the year 2200, in Unix milliseconds
TIMES = {
    "instep_users": ("last_sign_in_at", "last_active_at"),
    "instep_organizations": (),
    "instep_memberships": (),
}


def upgrade() -> None:
    """Make the change."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for name, times in TIMES.items():
        table = sa.table(name, *(sa.column(it, sa.BigInteger) for it in ("joined_at", *times)))
        joined_at = table.c.joined_at
        op.execute(sa.update(table).where(sa.or_(joined_at < 0, joined_at >= LATEST)).values(joined_at=0))
        for time in times:
            at = table.c[time]
            op.execute(sa.update(table).where(sa.or_(at < 0, at >= LATEST)).values({time: None}))
    kind = "CASE WHEN json_valid({0}) THEN json_type({0}) END" if is_sqlite else "jsonb_typeof({0})"
    for name in ("instep_users", "instep_organizations"):
        other = f"coalesce({kind.format('public_metadata')}, '') <> 'object'"
        op.execute(sa.text(f"UPDATE {name} SET public_metadata = '{{}}', digest = '' WHERE {other}"))  # noqa: S608
    other = f"coalesce({kind.format('attributes')}, '') <> 'object'"
    op.execute(sa.text(f"UPDATE instep_users SET attributes = '{{}}' WHERE {other}"))  # noqa: S608


def downgrade() -> None:
    """Do nothing: no version could show the previous values."""
