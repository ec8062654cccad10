"""Tables of console sessions and API keys, and the mirror columns that auth reads."""

from typing import Any

import sqlalchemy as sa

from instep.core.db import Json, metadata

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
# What access reads of the mirror: names and columns only, so that the two slices stay strangers; a test holds them
# against the mirror's own tables.
_MIRROR_COLUMN_TYPES: dict[str, Any] = {
    "is_email_verified": sa.Boolean,
    "is_active": sa.Boolean,
    "is_banned": sa.Boolean,
    "is_deprovisioned": sa.Boolean,
    "is_admin": sa.Boolean,
    "is_default": sa.Boolean,
    "listed_at": sa.BigInteger,
    "joined_at": sa.BigInteger,
    "deleted_at": sa.BigInteger,
    "gone_at": sa.BigInteger,
    "public_metadata": Json,
}


def _mirror_table(name: str, columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column, _MIRROR_COLUMN_TYPES.get(column, sa.Text)) for column in columns.split()))


users = _mirror_table(
    "instep_users",
    "id clerk_id email is_email_verified first_name last_name username image_url public_metadata "
    "is_active is_banned is_deprovisioned deleted_at gone_at",
)
roles = _mirror_table("instep_roles", "key name is_admin is_default listed_at gone_at")
organizations = _mirror_table("instep_organizations", "id clerk_id name slug joined_at deleted_at gone_at")
memberships = _mirror_table("instep_memberships", "id organization_id user_id role status joined_at gone_at")
