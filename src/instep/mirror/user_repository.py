"""Queries and local changes of users: profiles, soft deletion, activation and attributes."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.core.db import Conn
from instep.core.ids import new_id
from instep.core.input_limits import object_or_empty
from instep.domain.emails import list_stored_forms
from instep.domain.last_admin import NO_PENDING_CHANGES, PendingAdminChanges
from instep.domain.models import ADMIN_ROLE, PRESENT_STATUSES, ClerkId, EntityKey
from instep.domain.reconcile import merge_metadata
from instep.domain.roles import RoleCatalog
from instep.mirror.apply import build_name_columns, update_member_names
from instep.mirror.membership_status import STATUS_FROM_USER_SUBQUERY
from instep.mirror.repository import find_known_states
from instep.mirror.tables import memberships, organizations, users

c, m = users.c, memberships.c
_NAME_FIELDS = ("first_name", "last_name", "username", "email")
_RESTORED_VALUES = {"is_active": True, "deactivated_at": None, "deleted_at": None, "gone_at": None, "absent_at": None}


class UserRow(Struct, frozen=True, kw_only=True):
    """A user in the mirror."""

    id: str
    clerk_id: str | None
    email: str | None
    is_email_verified: bool
    first_name: str | None
    last_name: str | None
    username: str | None
    image_url: str | None
    external_id: str | None
    public_metadata: dict[str, Any]
    attributes: dict[str, Any]
    is_active: bool
    is_banned: bool
    is_deprovisioned: bool
    last_sign_in_at: int | None
    last_active_at: int | None
    joined_at: int
    deactivated_at: int | None
    deleted_at: int | None
    gone_at: int | None

    @property
    def is_deleted(self) -> bool:
        """Return whether the user is deleted, here or in Clerk."""
        return self.deleted_at is not None or self.gone_at is not None

    @property
    def name(self) -> str:
        """Return the display name."""
        whole = " ".join(part for part in (self.first_name, self.last_name) if part)
        return whole or self.username or self.email or "This person"


USER_COLUMNS = tuple(c[name] for name in UserRow.__struct_fields__)
IS_NOT_TOMBSTONE = c.sort_name != ""
"""Condition that a row is not the tombstone of a Clerk id.

A tombstone has no name, and only keeps late events about the id without effect.
"""


def find_user(conn: Conn, ref: str, *, is_locking: bool = False) -> UserRow | None:
    """Return a user by our id or Clerk's, deleted ones too. `is_locking` blocks other writers (PostgreSQL)."""
    query = sa.select(*USER_COLUMNS).where(sa.or_(c.id == ref, c.clerk_id == ref), IS_NOT_TOMBSTONE)
    row = conn.execute(query.with_for_update() if is_locking else query).first()
    return UserRow(**row._mapping) if row else None


def find_user_id_by_login(
    conn: Conn, *, email: str | None = None, username: str | None = None, excluded_id: str = ""
) -> str | None:
    """Return our id of another existing user than `excluded_id` with this address or username."""
    has_email = sa.func.lower(c.email).in_(list_stored_forms(email))
    wanted = has_email if email else sa.func.lower(c.username) == (username or "").lower()
    query = sa.select(c.id).where(wanted, c.deleted_at.is_(None), c.gone_at.is_(None), c.id != excluded_id)
    user_id: str | None = conn.execute(query.order_by(c.id).limit(1)).scalar()
    return user_id


def find_user_id_by_clerk_id(conn: Conn, clerk_id: str) -> str | None:
    """Return our id of a Clerk user."""
    known = find_known_states(conn, [EntityKey("user", ClerkId(clerk_id))], is_locking=False)
    return next((state.id for state in known.values()), None)


def lock_organizations_of_admin(conn: Conn, user_id: str, roles: RoleCatalog) -> None:
    """Block changes of members where this user is an admin by these roles, until the transaction ends.

    As `membership_status.lock_organization`, in the lock order of `repository.find_known_states`.
    """
    o = organizations.c
    organization_ids = sa.select(m.organization_id).join(organizations, o.id == m.organization_id)
    organization_ids = organization_ids.where(
        m.user_id == user_id, _build_admin_condition(m, roles), m.status == "active"
    )
    query = sa.select(o.id).where(o.id.in_(organization_ids)).order_by(o.clerk_id, o.id)
    conn.execute(query.with_for_update(key_share=True))


def find_sole_admin_organizations(
    conn: Conn, user_id: str, roles: RoleCatalog, *, pending: PendingAdminChanges = NO_PENDING_CHANGES
) -> dict[str, str]:
    """Return organizations (our id, name) without another active admin by these roles.

    `pending` are changes that will take or give the admin role.
    """
    other, other_user = memberships.alias("other"), users.alias("other_user")
    is_other = sa.and_(
        other.c.organization_id == m.organization_id,
        other.c.user_id != user_id,
        _build_admin_condition(other.c, roles),
        other.c.status == "active",
        other.c.id.not_in(sorted(pending.demoted_membership_ids)),
        other.c.user_id.not_in(sorted(pending.removed_user_ids)),
    )
    is_allowed = sa.and_(
        other_user.c.id == other.c.user_id,
        other_user.c.is_active,
        sa.not_(sa.or_(other_user.c.is_banned, other_user.c.is_deprovisioned)),
    )
    others = sa.select(other.c.id).join(other_user, is_allowed).where(is_other, other_user.c.deleted_at.is_(None))
    query = (
        sa.select(organizations.c.id, organizations.c.name)
        .join(memberships, m.organization_id == organizations.c.id)
        .where(m.user_id == user_id, m.status == "active", m.gone_at.is_(None))
        .where(sa.or_(_build_admin_condition(m, roles), m.id.in_(sorted(pending.promoted_membership_ids))))
        .where(organizations.c.deleted_at.is_(None), organizations.c.gone_at.is_(None), sa.not_(sa.exists(others)))
    )
    return {str(row.id): str(row.name) for row in conn.execute(query)}


def _build_admin_condition(columns: Any, roles: RoleCatalog) -> sa.ColumnElement[bool]:
    """Return the condition that a membership is an admin's, in a statement with its organization.

    A local organization has instep's own roles.
    """
    local = sa.and_(organizations.c.clerk_id.is_(None), columns.role == ADMIN_ROLE)
    return sa.or_(columns.role.in_(sorted(roles.admins)), local)


def create_local_user(conn: Conn, user_id: str, profile: Mapping[str, Any], *, now: int) -> None:
    """Insert a user without a Clerk account."""
    row = {name: profile.get(name) or None for name in _NAME_FIELDS}
    json_values = {name: profile.get(name) or {} for name in ("public_metadata", "attributes")}
    conn.execute(
        sa.insert(users).values(
            id=user_id, joined_at=now, changed_at=now, **row, **json_values, **_build_name_columns(row, user_id)
        )
    )


def update_local_user(conn: Conn, user: UserRow, profile: Mapping[str, Any], *, now: int) -> None:
    """Change the profile of a user without a Clerk account; an empty text clears a field."""
    row: dict[str, Any] = {name: getattr(user, name) for name in _NAME_FIELDS}
    row |= {name: profile[name] or None for name in _NAME_FIELDS if name in profile}
    if row["email"] != user.email:
        row["is_email_verified"] = False
    if patch := profile.get("public_metadata"):
        row["public_metadata"] = merge_metadata(object_or_empty(user.public_metadata), patch)
    _update_user(conn, user.id, now=now, **row, **_build_name_columns(row, user.id))
    update_member_names(conn, [user.id])


def merge_user_attributes(conn: Conn, user_id: str, patch: Mapping[str, Any], *, now: int) -> None:
    """Merge into the application's own attributes; None removes a key."""
    attributes = conn.execute(sa.select(c.attributes).where(c.id == user_id).with_for_update()).scalar()
    _update_user(conn, user_id, now=now, attributes=merge_metadata(object_or_empty(attributes), patch))


def soft_delete_user(conn: Conn, user_id: str, *, now: int) -> None:
    """Mark a user as deleted and deactivate all memberships until it is restored; the row is kept."""
    is_present = sa.and_(m.user_id == user_id, m.status.in_(PRESENT_STATUSES))
    deactivated = {"status": "deactivated", "deactivation": "database", "deactivated_at": now, "changed_at": now}
    conn.execute(sa.update(memberships).where(is_present).values(**deactivated))
    _update_user(conn, user_id, now=now, is_active=False, deleted_at=now)


def restore_user(conn: Conn, user_id: str, *, now: int) -> None:
    """Restore a deleted user, and the memberships that ended only with the deletion.

    A user deleted in Clerk is restored without a Clerk account: the old Clerk id gets a tombstone, a row without a
    name, so that late events about it change nothing and create nobody.
    """
    user = find_user(conn, user_id, is_locking=True)
    if user is None:
        return
    is_ended_with_user = sa.and_(m.user_id == user_id, m.status == "deactivated", m.deactivated_at == user.deleted_at)
    restored = {"status": STATUS_FROM_USER_SUBQUERY, "deactivation": None, "deactivated_at": None, "changed_at": now}
    conn.execute(sa.update(memberships).where(is_ended_with_user, m.gone_at.is_(None)).values(**restored))
    if user.gone_at is None:
        _update_user(conn, user_id, now=now, **_RESTORED_VALUES)
        return
    unlinked = {
        "clerk_id": None,
        "version": 0,
        "digest": "",
        "is_banned": False,
        "is_deprovisioned": False,
        "image_url": None,
    }
    _update_user(conn, user_id, now=now, **_RESTORED_VALUES, **unlinked)
    if user.clerk_id is not None:
        _insert_tombstone(conn, user.clerk_id, user.gone_at, now)


def set_user_active(conn: Conn, user_id: str, *, is_active: bool, now: int) -> None:
    """Allow or deny a user access to the application, whatever their state in Clerk."""
    _update_user(conn, user_id, now=now, is_active=is_active, deactivated_at=None if is_active else now)


def set_user_banned(conn: Conn, user_id: str, *, is_banned: bool, now: int) -> None:
    """Ban a user without a Clerk account, or lift the ban."""
    _update_user(conn, user_id, now=now, is_banned=is_banned)


def deactivate_user_without_memberships(conn: Conn, user_id: str, *, now: int) -> None:
    """Deny access to a user who has no active membership left."""
    present = sa.select(m.id).where(m.user_id == user_id, m.status.in_(PRESENT_STATUSES), m.gone_at.is_(None)).limit(1)
    if conn.execute(present).first() is None:
        set_user_active(conn, user_id, is_active=False, now=now)


def list_organization_ids_of_users(conn: Conn, user_ids: Sequence[str]) -> set[str]:
    """Return our ids of the organizations whose pages show these users."""
    query = sa.select(m.organization_id).where(m.user_id.in_(user_ids)).distinct()
    return {str(organization_id) for organization_id in conn.execute(query).scalars()}


def _insert_tombstone(conn: Conn, clerk_id: str, gone_at: int, now: int) -> None:
    tombstone = {"id": new_id("usr"), "clerk_id": clerk_id, "sort_name": "", "search_text": "", "is_active": False}
    deleted = {"gone_at": gone_at, "deleted_at": gone_at, "joined_at": gone_at, "changed_at": now}
    conn.execute(sa.insert(users).values(**tombstone, **deleted))


def _build_name_columns(row: Mapping[str, Any], user_id: str) -> dict[str, str]:
    return build_name_columns(row["first_name"], row["last_name"], row["username"], row["email"], user_id)


def _update_user(conn: Conn, user_id: str, *, now: int, **values: Any) -> None:
    conn.execute(sa.update(users).where(c.id == user_id).values(changed_at=now, **values))
