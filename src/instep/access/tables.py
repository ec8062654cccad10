"""The table of console sessions: kept as hashes, each bound to a Clerk session or to the break-glass key."""

import sqlalchemy as sa

from instep.kit.db import metadata

sessions = sa.Table(
    "instep_sessions",
    metadata,
    sa.Column("token_hash", sa.Text, primary_key=True),
    sa.Column("clerk_session_id", sa.Text, index=True),
    sa.Column("clerk_user_id", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("checked_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    comment="clerk_session_id is null for a sign-in with the break-glass key.",
)
