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
    """A person as the mirror has them."""

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
        """Whether they are deleted, here or in Clerk."""
        return self.deleted_at is not None or self.gone_at is not None

    @property
    def name(self) -> str:
        """What to call them."""
        whole = " ".join(part for part in (self.first_name, self.last_name) if part)
        return whole or self.username or self.email or "This person"


USER_COLUMNS = tuple(c[name] for name in UserRow.__struct_fields__)
IS_NOT_TOMBSTONE = c.sort_name != ""


"""Not the grave of a Clerk id: such a row has no name, and stands only so that late news of the id stay dead."""


def find_user(conn: Conn, ref: str, *, is_locking: bool = False) -> UserRow | None:
    """A person by instep's id or Clerk's, deleted ones too. `is_locking` keeps other writers off (PostgreSQL)."""
    query = sa.select(*USER_COLUMNS).where(sa.or_(c.id == ref, c.clerk_id == ref), IS_NOT_TOMBSTONE)
    row = conn.execute(query.with_for_update() if is_locking else query).first()
    return UserRow(**row._mapping) if row else None


def find_user_id_by_login(
    conn: Conn, *, email: str | None = None, username: str | None = None, but: str = ""
) -> str | None:
    """Our id of somebody who is not deleted, other than `but`, and has this address or this username."""
    has_address = sa.func.lower(c.email).in_(list_stored_forms(email))
    wanted = has_address if email else sa.func.lower(c.username) == (username or "").lower()
    query = sa.select(c.id).where(wanted, c.deleted_at.is_(None), c.gone_at.is_(None), c.id != but)
    found: str | None = conn.execute(query.order_by(c.id).limit(1)).scalar()
    return found


def find_user_id_by_clerk_id(conn: Conn, clerk_id: str) -> str | None:
    """Our id of a user of Clerk."""
    known = find_known_states(conn, [EntityKey("user", ClerkId(clerk_id))], is_locking=False)
    return next((it.id for it in known.values()), None)


def lock_organizations_of_admin(conn: Conn, user_id: str, roles: RoleCatalog) -> None:
    """Let nobody change who is what where this person is an admin by these roles, until the transaction ends.

    As `standing.lock_organization`, in the order in which whoever takes news in locks them (see store.find_known).
    """
    o = organizations.c
    theirs = sa.select(m.organization_id).join(organizations, o.id == m.organization_id)
    theirs = theirs.where(m.user_id == user_id, _build_admin_condition(m, roles), m.status == "active")
    query = sa.select(o.id).where(o.id.in_(theirs)).order_by(o.clerk_id, o.id)
    conn.execute(query.with_for_update(key_share=True))


def find_sole_admin_organizations(
    conn: Conn, user_id: str, roles: RoleCatalog, *, moving: PendingAdminChanges = NO_PENDING_CHANGES
) -> dict[str, str]:
    """The organizations (our id, name) in which nobody else who may come in is, and stays, an admin by these roles."""
    other, person = memberships.alias("other"), users.alias("person")
    is_other = sa.and_(
        other.c.organization_id == m.organization_id,
        other.c.user_id != user_id,
        _build_admin_condition(other.c, roles),
        other.c.status == "active",
        other.c.id.not_in(sorted(moving.demoted_membership_ids)),
        other.c.user_id.not_in(sorted(moving.removed_user_ids)),
    )
    is_in = sa.and_(
        person.c.id == other.c.user_id,
        person.c.is_active,
        sa.not_(sa.or_(person.c.is_banned, person.c.is_deprovisioned)),
    )
    others = sa.select(other.c.id).join(person, is_in).where(is_other, person.c.deleted_at.is_(None))
    query = (
        sa.select(organizations.c.id, organizations.c.name)
        .join(memberships, m.organization_id == organizations.c.id)
        .where(m.user_id == user_id, m.status == "active", m.gone_at.is_(None))
        .where(sa.or_(_build_admin_condition(m, roles), m.id.in_(sorted(moving.promoted_membership_ids))))
        .where(organizations.c.deleted_at.is_(None), organizations.c.gone_at.is_(None), sa.not_(sa.exists(others)))
    )
    return {str(row.id): str(row.name) for row in conn.execute(query)}


def _build_admin_condition(columns: Any, roles: RoleCatalog) -> sa.ColumnElement[bool]:
    """Whether a membership is an admin's, in a statement that has its organization; one that Clerk does not know has
    instep's own roles."""
    local = sa.and_(organizations.c.clerk_id.is_(None), columns.role == ADMIN_ROLE)
    return sa.or_(columns.role.in_(sorted(roles.admins)), local)


def create_local_user(conn: Conn, id: str, profile: Mapping[str, Any], *, now: int) -> None:
    """A new person without a Clerk account."""
    row = {name: profile.get(name) or None for name in _NAME_FIELDS}
    kept = {name: profile.get(name) or {} for name in ("public_metadata", "attributes")}
    conn.execute(
        sa.insert(users).values(id=id, joined_at=now, changed_at=now, **row, **kept, **_build_name_columns(row, id))
    )


def update_local_user(conn: Conn, person: UserRow, profile: Mapping[str, Any], *, now: int) -> None:
    """Change the profile of someone without a Clerk account; an empty text clears a field."""
    row: dict[str, Any] = {name: getattr(person, name) for name in _NAME_FIELDS}
    row |= {name: profile[name] or None for name in _NAME_FIELDS if name in profile}
    if row["email"] != person.email:
        row["is_email_verified"] = False
    if patch := profile.get("public_metadata"):
        row["public_metadata"] = merge_metadata(object_or_empty(person.public_metadata), patch)
    _update_user(conn, person.id, now=now, **row, **_build_name_columns(row, person.id))
    update_member_names(conn, [person.id])


def merge_user_attributes(conn: Conn, id: str, patch: Mapping[str, Any], *, now: int) -> None:
    """Change the application's own attributes; a None takes one away."""
    kept = conn.execute(sa.select(c.attributes).where(c.id == id).with_for_update()).scalar()
    _update_user(conn, id, now=now, attributes=merge_metadata(object_or_empty(kept), patch))


def soft_delete_user(conn: Conn, id: str, *, now: int) -> None:
    """Soft: the row stays, may not come in, and is a member nowhere until it is restored."""
    alive = sa.and_(m.user_id == id, m.status.in_(PRESENT_STATUSES))
    out = {"status": "deactivated", "deactivation": "database", "deactivated_at": now, "changed_at": now}
    conn.execute(sa.update(memberships).where(alive).values(**out))
    _update_user(conn, id, now=now, is_active=False, deleted_at=now)


def restore_user(conn: Conn, id: str, *, now: int) -> None:
    """A deleted person is back, and a member wherever the deletion alone had ended that.

    Someone whom Clerk has deleted is back without a Clerk account: the old Clerk id goes to a grave, a row without a
    name that is dead for good, so that late news of that id change nobody and make nobody.
    """
    person = find_user(conn, id, is_locking=True)
    if person is None:
        return
    stopped = sa.and_(m.user_id == id, m.status == "deactivated", m.deactivated_at == person.deleted_at)
    back = {"status": STATUS_FROM_USER_SUBQUERY, "deactivation": None, "deactivated_at": None, "changed_at": now}
    conn.execute(sa.update(memberships).where(stopped, m.gone_at.is_(None)).values(**back))
    if person.gone_at is None:
        _update_user(conn, id, now=now, **_RESTORED_VALUES)
        return
    no_longer = {
        "clerk_id": None,
        "version": 0,
        "digest": "",
        "is_banned": False,
        "is_deprovisioned": False,
        "image_url": None,
    }
    _update_user(conn, id, now=now, **_RESTORED_VALUES, **no_longer)
    if person.clerk_id is not None:
        _insert_tombstone(conn, person.clerk_id, person.gone_at, now)


def set_user_active(conn: Conn, id: str, *, is_active: bool, now: int) -> None:
    """Whether a person may come in, whatever Clerk says."""
    _update_user(conn, id, now=now, is_active=is_active, deactivated_at=None if is_active else now)


def set_user_banned(conn: Conn, id: str, *, is_banned: bool, now: int) -> None:
    """Ban someone without a Clerk account, or lift that."""
    _update_user(conn, id, now=now, is_banned=is_banned)


def deactivate_user_without_memberships(conn: Conn, id: str, *, now: int) -> None:
    """Someone who is no active member anywhere any more may not come in."""
    living = sa.select(m.id).where(m.user_id == id, m.status.in_(PRESENT_STATUSES), m.gone_at.is_(None)).limit(1)
    if conn.execute(living).first() is None:
        set_user_active(conn, id, is_active=False, now=now)


def list_organization_ids_of_users(conn: Conn, ids: Sequence[str]) -> set[str]:
    """Our ids of the organizations whose pages show these people."""
    query = sa.select(m.organization_id).where(m.user_id.in_(ids)).distinct()
    return {str(id) for id in conn.execute(query).scalars()}


def _insert_tombstone(conn: Conn, clerk_id: str, gone_at: int, now: int) -> None:
    grave = {"id": new_id("usr"), "clerk_id": clerk_id, "sort_name": "", "search_text": "", "is_active": False}
    dead = {"gone_at": gone_at, "deleted_at": gone_at, "joined_at": gone_at, "changed_at": now}
    conn.execute(sa.insert(users).values(**grave, **dead))


def _build_name_columns(row: Mapping[str, Any], id: str) -> dict[str, str]:
    return build_name_columns(row["first_name"], row["last_name"], row["username"], row["email"], id)


def _update_user(conn: Conn, id: str, *, now: int, **values: Any) -> None:
    conn.execute(sa.update(users).where(c.id == id).values(changed_at=now, **values))
