"""What the database alone decides of a person, beside what Clerk says of them: local profiles, deletion, standing."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.identity.addresses import stored_forms
from instep.identity.model import ADMIN, PRESENT, ClerkId, Key
from instep.identity.roles import Roles
from instep.identity.rules import merged
from instep.identity.standing import NOBODY, Underway
from instep.kit.bounds import as_object
from instep.kit.db import Conn
from instep.kit.ids import new_id
from instep.mirror.apply import names_of, rename
from instep.mirror.standing import STATUS_WHEN_PRESENT
from instep.mirror.store import find_known
from instep.mirror.tables import memberships, organizations, users

c, m = users.c, memberships.c
_NAMES = ("first_name", "last_name", "username", "email")
_BACK = {"is_active": True, "deactivated_at": None, "deleted_at": None, "gone_at": None, "absent_at": None}


class PersonRow(Struct, frozen=True, kw_only=True):
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


COLUMNS = tuple(c[name] for name in PersonRow.__struct_fields__)
IS_SOMEBODY = c.sort_name != ""


"""Not the grave of a Clerk id: such a row has no name, and stands only so that late news of the id stay dead."""


def find_person(conn: Conn, ref: str, *, is_locking: bool = False) -> PersonRow | None:
    """A person by instep's id or Clerk's, deleted ones too. `is_locking` keeps other writers off (PostgreSQL)."""
    query = sa.select(*COLUMNS).where(sa.or_(c.id == ref, c.clerk_id == ref), IS_SOMEBODY)
    row = conn.execute(query.with_for_update() if is_locking else query).first()
    return PersonRow(**row._mapping) if row else None


def find_holder(conn: Conn, *, email: str | None = None, username: str | None = None, but: str = "") -> str | None:
    """Our id of somebody who is not deleted, other than `but`, and has this address or this username."""
    has_address = sa.func.lower(c.email).in_(stored_forms(email))
    wanted = has_address if email else sa.func.lower(c.username) == (username or "").lower()
    query = sa.select(c.id).where(wanted, c.deleted_at.is_(None), c.gone_at.is_(None), c.id != but)
    found: str | None = conn.execute(query.order_by(c.id).limit(1)).scalar()
    return found


def find_our_id(conn: Conn, clerk_id: str) -> str | None:
    """Our id of a user of Clerk."""
    known = find_known(conn, [Key("user", ClerkId(clerk_id))], is_locking=False)
    return next((it.id for it in known.values()), None)


def lock_organizations_of(conn: Conn, user_id: str, roles: Roles) -> None:
    """Let nobody change who is what where this person is an admin by these roles, until the transaction ends.

    As `standing.lock_organization`, in the order in which whoever takes news in locks them (see store.find_known).
    """
    o = organizations.c
    theirs = sa.select(m.organization_id).join(organizations, o.id == m.organization_id)
    theirs = theirs.where(m.user_id == user_id, _is_admin(m, roles), m.status == "active")
    query = sa.select(o.id).where(o.id.in_(theirs)).order_by(o.clerk_id, o.id)
    conn.execute(query.with_for_update(key_share=True))


def find_sole(conn: Conn, user_id: str, roles: Roles, *, moving: Underway = NOBODY) -> dict[str, str]:
    """The organizations (our id, name) in which nobody else who may come in is, and stays, an admin by these roles."""
    other, person = memberships.alias("other"), users.alias("person")
    is_other = sa.and_(
        other.c.organization_id == m.organization_id,
        other.c.user_id != user_id,
        _is_admin(other.c, roles),
        other.c.status == "active",
        other.c.id.not_in(sorted(moving.leaving)),
        other.c.user_id.not_in(sorted(moving.leaving_people)),
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
        .where(sa.or_(_is_admin(m, roles), m.id.in_(sorted(moving.rising))))
        .where(organizations.c.deleted_at.is_(None), organizations.c.gone_at.is_(None), sa.not_(sa.exists(others)))
    )
    return {str(row.id): str(row.name) for row in conn.execute(query)}


def _is_admin(columns: Any, roles: Roles) -> sa.ColumnElement[bool]:
    """Whether a membership is an admin's, in a statement that has its organization; one that Clerk does not know has
    instep's own roles."""
    local = sa.and_(organizations.c.clerk_id.is_(None), columns.role == ADMIN)
    return sa.or_(columns.role.in_(sorted(roles.admins)), local)


def create_local(conn: Conn, id: str, profile: Mapping[str, Any], *, now: int) -> None:
    """A new person without a Clerk account."""
    row = {name: profile.get(name) or None for name in _NAMES}
    kept = {name: profile.get(name) or {} for name in ("public_metadata", "attributes")}
    conn.execute(sa.insert(users).values(id=id, joined_at=now, changed_at=now, **row, **kept, **_names(row, id)))


def edit_local(conn: Conn, person: PersonRow, profile: Mapping[str, Any], *, now: int) -> None:
    """Change the profile of someone without a Clerk account; an empty text clears a field."""
    row: dict[str, Any] = {name: getattr(person, name) for name in _NAMES}
    row |= {name: profile[name] or None for name in _NAMES if name in profile}
    if row["email"] != person.email:
        row["is_email_verified"] = False
    if patch := profile.get("public_metadata"):
        row["public_metadata"] = merged(as_object(person.public_metadata), patch)
    _set(conn, person.id, now=now, **row, **_names(row, person.id))
    rename(conn, [person.id])


def merge_attributes(conn: Conn, id: str, patch: Mapping[str, Any], *, now: int) -> None:
    """Change the application's own attributes; a None takes one away."""
    kept = conn.execute(sa.select(c.attributes).where(c.id == id).with_for_update()).scalar()
    _set(conn, id, now=now, attributes=merged(as_object(kept), patch))


def delete(conn: Conn, id: str, *, now: int) -> None:
    """Soft: the row stays, may not come in, and is a member nowhere until it is restored."""
    alive = sa.and_(m.user_id == id, m.status.in_(PRESENT))
    out = {"status": "deactivated", "deactivation": "database", "deactivated_at": now, "changed_at": now}
    conn.execute(sa.update(memberships).where(alive).values(**out))
    _set(conn, id, now=now, is_active=False, deleted_at=now)


def restore(conn: Conn, id: str, *, now: int) -> None:
    """A deleted person is back, and a member wherever the deletion alone had ended that.

    Someone whom Clerk has deleted is back without a Clerk account: the old Clerk id goes to a grave, a row without a
    name that is dead for good, so that late news of that id change nobody and make nobody.
    """
    person = find_person(conn, id, is_locking=True)
    if person is None:
        return
    stopped = sa.and_(m.user_id == id, m.status == "deactivated", m.deactivated_at == person.deleted_at)
    back = {"status": STATUS_WHEN_PRESENT, "deactivation": None, "deactivated_at": None, "changed_at": now}
    conn.execute(sa.update(memberships).where(stopped, m.gone_at.is_(None)).values(**back))
    if person.gone_at is None:
        _set(conn, id, now=now, **_BACK)
        return
    no_longer = {
        "clerk_id": None,
        "version": 0,
        "digest": "",
        "is_banned": False,
        "is_deprovisioned": False,
        "image_url": None,
    }
    _set(conn, id, now=now, **_BACK, **no_longer)
    if person.clerk_id is not None:
        _bury(conn, person.clerk_id, person.gone_at, now)


def set_active(conn: Conn, id: str, *, is_active: bool, now: int) -> None:
    """Whether a person may come in, whatever Clerk says."""
    _set(conn, id, now=now, is_active=is_active, deactivated_at=None if is_active else now)


def set_banned(conn: Conn, id: str, *, is_banned: bool, now: int) -> None:
    """Ban someone without a Clerk account, or lift that."""
    _set(conn, id, now=now, is_banned=is_banned)


def retire_without_memberships(conn: Conn, id: str, *, now: int) -> None:
    """Someone who is no active member anywhere any more may not come in."""
    living = sa.select(m.id).where(m.user_id == id, m.status.in_(PRESENT), m.gone_at.is_(None)).limit(1)
    if conn.execute(living).first() is None:
        set_active(conn, id, is_active=False, now=now)


def organizations_of(conn: Conn, ids: Sequence[str]) -> set[str]:
    """Our ids of the organizations whose pages show these people."""
    query = sa.select(m.organization_id).where(m.user_id.in_(ids)).distinct()
    return {str(id) for id in conn.execute(query).scalars()}


def _bury(conn: Conn, clerk_id: str, gone_at: int, now: int) -> None:
    grave = {"id": new_id("usr"), "clerk_id": clerk_id, "sort_name": "", "search_text": "", "is_active": False}
    dead = {"gone_at": gone_at, "deleted_at": gone_at, "joined_at": gone_at, "changed_at": now}
    conn.execute(sa.insert(users).values(**grave, **dead))


def _names(row: Mapping[str, Any], id: str) -> dict[str, str]:
    return names_of(row["first_name"], row["last_name"], row["username"], row["email"], id)


def _set(conn: Conn, id: str, *, now: int, **values: Any) -> None:
    conn.execute(sa.update(users).where(c.id == id).values(changed_at=now, **values))
