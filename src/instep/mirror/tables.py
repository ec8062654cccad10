"""Tables of the mirror. Times are Unix milliseconds; `version` is Clerk's `updated_at`."""

import sqlalchemy as sa

from instep.core.db import Json, metadata

facts = sa.Table(
    "instep_facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    comment="Single facts of this installation, such as the Clerk instance it belongs to.",
)
_Text = sa.Text
_UnixMillis = sa.BigInteger
users = sa.Table(
    "instep_users",
    metadata,
    sa.Column("id", _Text, primary_key=True),
    sa.Column("clerk_id", _Text, unique=True),
    sa.Column("email", _Text),
    sa.Column("is_email_verified", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("first_name", _Text),
    sa.Column("last_name", _Text),
    sa.Column("username", _Text),
    sa.Column("image_url", _Text),
    sa.Column("external_id", _Text),
    sa.Column("public_metadata", Json, nullable=False, server_default="{}"),
    sa.Column("attributes", Json, nullable=False, server_default="{}"),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("is_banned", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("is_deprovisioned", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("last_sign_in_at", _UnixMillis),
    sa.Column("last_active_at", _UnixMillis),
    sa.Column("sort_name", _Text, nullable=False),
    sa.Column("search_text", _Text, nullable=False),
    sa.Column("joined_at", _UnixMillis, nullable=False),
    sa.Column("deactivated_at", _UnixMillis),
    sa.Column("deleted_at", _UnixMillis),
    sa.Column("version", _UnixMillis, nullable=False, server_default="0"),
    sa.Column("digest", _Text, nullable=False, server_default=""),
    sa.Column("gone_at", _UnixMillis),
    sa.Column("absent_at", _UnixMillis),
    sa.Column("changed_at", _UnixMillis, nullable=False),
    sa.Index("ix_instep_users_email", sa.text("lower(email)")),
    sa.Index("ix_instep_users_username", sa.text("lower(username)")),
    sa.Index("ix_instep_users_joined", "joined_at", "id"),
    comment="People. clerk_id is null for someone without a Clerk account; gone_at marks a deletion in Clerk; "
    "absent_at: Clerk did not say so, and since then did not show them.",
)
organizations = sa.Table(
    "instep_organizations",
    metadata,
    sa.Column("id", _Text, primary_key=True),
    sa.Column("clerk_id", _Text, unique=True),
    sa.Column("name", _Text, nullable=False),
    sa.Column("slug", _Text, index=True),
    sa.Column("image_url", _Text),
    sa.Column("max_members", sa.Integer),
    sa.Column("public_metadata", Json, nullable=False, server_default="{}"),
    sa.Column("joined_at", _UnixMillis, nullable=False),
    sa.Column("deleted_at", _UnixMillis),
    sa.Column("version", _UnixMillis, nullable=False, server_default="0"),
    sa.Column("digest", _Text, nullable=False, server_default=""),
    sa.Column("gone_at", _UnixMillis),
    sa.Column("absent_at", _UnixMillis),
    sa.Column("changed_at", _UnixMillis, nullable=False),
    comment="Organizations. clerk_id is null for a local one; gone_at and absent_at as for people.",
)
memberships = sa.Table(
    "instep_memberships",
    metadata,
    sa.Column("id", _Text, primary_key=True),
    sa.Column("clerk_id", _Text, unique=True),
    sa.Column("organization_id", _Text, sa.ForeignKey("instep_organizations.id"), nullable=False),
    sa.Column("user_id", _Text, sa.ForeignKey("instep_users.id"), nullable=False, index=True),
    sa.Column("role", _Text, nullable=False),
    sa.Column("status", _Text, nullable=False),
    sa.Column("sort_name", _Text, nullable=False),
    sa.Column("search_text", _Text, nullable=False),
    sa.Column("joined_at", _UnixMillis, nullable=False),
    sa.Column("deactivated_at", _UnixMillis),
    sa.Column("deactivation", _Text),
    sa.Column("version", _UnixMillis, nullable=False, server_default="0"),
    sa.Column("digest", _Text, nullable=False, server_default=""),
    sa.Column("gone_at", _UnixMillis),
    sa.Column("absent_at", _UnixMillis),
    sa.Column("changed_at", _UnixMillis, nullable=False),
    sa.Index("ix_instep_memberships_page", "organization_id", "status", "sort_name", "id"),
    sa.Index("ix_instep_memberships_role_page", "organization_id", "status", "role", "sort_name", "id"),
    sa.Index("ix_instep_memberships_joined", "joined_at", "id"),
    comment="One row for each time that someone joined. status: active, banned, deprovisioned (by the person's own "
    "row), deactivated, removed; "
    "deactivation: how far Clerk follows, database (its membership stays), membership (removed there, and the row is "
    "kept whatever Clerk says of that) or ban; absent_at is as for people, or the one of a parent that it ended with; "
    "sort_name and search_text repeat the person's, so that a page is one walk of one index.",
)
member_counts = sa.Table(
    "instep_member_counts",
    metadata,
    sa.Column("organization_id", _Text, primary_key=True),
    sa.Column("status", _Text, primary_key=True),
    sa.Column("role", _Text, primary_key=True),
    sa.Column("members", sa.BigInteger, nullable=False),
    comment="Members per organization, status and role; kept by triggers on instep_memberships.",
    postgresql_with={"fillfactor": 40},  # room for the next figures beside the last: an update touches no index
)
roles = sa.Table(
    "instep_roles",
    metadata,
    sa.Column("clerk_id", _Text, primary_key=True),
    sa.Column("key", _Text, nullable=False),
    sa.Column("name", _Text, nullable=False),
    sa.Column("permissions", Json, nullable=False, server_default="[]"),
    sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("is_default", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("version", _UnixMillis, nullable=False, server_default="0"),
    sa.Column("listed_at", _UnixMillis),
    sa.Column("gone_at", _UnixMillis),
    comment="Roles of the Clerk instance. permissions: their keys; is_admin: may manage members; is_default: given "
    "where nobody chose; "
    "listed_at: when a whole list had it, null while it is known from a webhook alone; gone_at: deleted.",
)
