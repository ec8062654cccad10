"""Tables of console sessions and API keys."""

import sqlalchemy as sa

from instep.core.db import metadata

sessions = sa.Table(
    "instep_sessions",
    metadata,
    sa.Column("token_hash", sa.Text, primary_key=True),
    sa.Column("clerk_session_id", sa.Text, index=True),
    sa.Column("clerk_user_id", sa.Text),
    sa.Column("actor", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("checked_at", sa.BigInteger, nullable=False),
    sa.Column("tried_at", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("ended_at", sa.BigInteger),
    comment="clerk_session_id is null for a sign-in with the break-glass key. checked_at: when Clerk last said that "
    "the session is active; tried_at: when it was last asked; actor: who acts as this user (impersonation).",
)
api_keys = sa.Table(
    "instep_api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("key_hash", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("organization_id", sa.Text),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("last_used_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    comment="Keys for programs. scopes: read, write; organization_id is null for a key to the whole installation.",
)
