"""Write a unit of work: upsert rows, mark or revive tombstones, create local memberships."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from instep.core.db import Conn
from instep.core.ids import new_id
from instep.core.sql import is_one_of, upsert_rows
from instep.domain.emails import find_alternate_form
from instep.domain.events import EntityState, Observation, Tombstone
from instep.domain.models import ClerkMembership, ClerkOrganization, ClerkUser
from instep.domain.reconcile import MirroredState
from instep.mirror import membership_status
from instep.mirror.membership_status import STATUS_FROM_USER, STATUS_FROM_USER_SUBQUERY
from instep.mirror.repository import get_owned_fields, keep_owned_values
from instep.mirror.search import build_search_text
from instep.mirror.tables import memberships, organizations, users
from instep.mirror.unit_of_work import LocalMembership, PendingWrite, UnitOfWork, get_parent_keys, open_unit_of_work

m = memberships.c
_REVIVED_VALUES: dict[Any, Any] = {
    "status": sa.case((m.deactivated_at.is_not(None), "deactivated"), else_=STATUS_FROM_USER_SUBQUERY),
    "gone_at": None,
    "absent_at": None,
}


def revive_or_confirm(conn: Conn, writes: Sequence[PendingWrite], *, now: int) -> None:
    """Before these writes: revive entities deleted by an absence only, or confirm their deletion."""
    for write in writes:
        if not write.was_deleted or write.before is None or write.state.key.kind == "membership":
            continue
        table = users if write.state.key.kind == "user" else organizations
        if isinstance(write.state, Observation):
            _revive(conn, table, write, now)
            _revive_memberships_of(conn, table, write.before, now)
        else:
            _confirm_deletion(conn, table, write.before)


def revive_memberships(conn: Conn, membership_ids: Sequence[str], *, now: int) -> None:
    """Restore memberships (row ids) to their state before a read did not find them."""
    if membership_ids:
        conn.execute(
            sa.update(memberships)
            .where(is_one_of(conn, m.id, membership_ids))
            .values(**_REVIVED_VALUES, changed_at=now)
        )


def confirm_deletions(conn: Conn, membership_ids: Sequence[str]) -> None:
    """Confirm the deletion of memberships (row ids) that only had not been found."""
    if membership_ids:
        conn.execute(sa.update(memberships).where(is_one_of(conn, m.id, membership_ids)).values(absent_at=None))


def get_absent_at(write: PendingWrite, parents: Sequence[MirroredState]) -> int | None:
    """Return the absence that ended a membership; None if Clerk reported its or a parent's deletion."""
    if not isinstance(write.state, Observation):
        return write.state.absent_at
    absences = [parent.absent_at for parent in parents if parent.is_deleted]
    return None if None in absences else max(at for at in absences if at is not None)


def _revive(conn: Conn, table: sa.Table, write: PendingWrite, now: int) -> None:
    """Revive an entity; one deleted or deactivated here before stays so."""
    c, entity = table.c, write.state.entity
    is_deleted_here = sa.and_(c.deleted_at.is_not(None), c.deleted_at != c.gone_at)
    values: dict[str, Any] = {
        "gone_at": None,
        "absent_at": None,
        "deleted_at": sa.case((is_deleted_here, c.deleted_at)),
    }
    if entity is not None and not isinstance(entity, ClerkMembership) and not (write.before and write.before.digest):
        values["joined_at"] = entity.joined_at  # only its absence was known
    if table is users:
        values["is_active"] = sa.and_(
            sa.not_(sa.func.coalesce(is_deleted_here, sa.false())), c.deactivated_at.is_(None)
        )
    conn.execute(sa.update(table).where(c.id == write.id).values(**values))


def _revive_memberships_of(conn: Conn, table: sa.Table, before: MirroredState, now: int) -> None:
    """Revive memberships that ended with this absence, or attribute their end to the other parent."""
    column, other, other_id = (
        (m.user_id, organizations, m.organization_id) if table is users else (m.organization_id, users, m.user_id)
    )
    ended_with_parent = sa.and_(column == before.id, m.absent_at == before.absent_at)
    other_absent_at = sa.select(other.c.absent_at).where(other.c.id == other_id)
    has_other_parent = sa.exists(other_absent_at.where(other.c.gone_at.is_(None)))
    conn.execute(
        sa.update(memberships).where(ended_with_parent, has_other_parent).values(**_REVIVED_VALUES, changed_at=now)
    )
    conn.execute(sa.update(memberships).where(ended_with_parent).values(absent_at=other_absent_at.scalar_subquery()))


def _confirm_deletion(conn: Conn, table: sa.Table, before: MirroredState) -> None:
    column = m.user_id if table is users else m.organization_id
    conn.execute(sa.update(table).where(table.c.id == before.id).values(absent_at=None))
    ended_with_parent = sa.and_(column == before.id, m.absent_at == before.absent_at)
    conn.execute(sa.update(memberships).where(ended_with_parent).values(absent_at=None))


RowValues = dict[str, Any]
MAX_SORT_NAME_LENGTH = 400


"""Maximum characters of a sort name: with a role and two ids it fits an index row (2,704 bytes, PostgreSQL)."""


_IMMUTABLE_COLUMNS = {"id", "joined_at"}
_UPDATED_MEMBERSHIP_COLUMNS = ("role", "version", "digest", "changed_at")


def apply_unit_of_work(conn: Conn, work: UnitOfWork, *, now: int, written_fields: Collection[str] = ()) -> set[str]:
    """Write a unit of work; return our ids of organizations whose pages changed. `now`: Unix milliseconds.

    Fields owned by the database keep their values, except `written_fields`, which we just wrote to Clerk.
    """
    owned = get_owned_fields(conn, excluded=written_fields)
    writes = work.list_writes()
    by_kind = {
        kind: [write for write in writes if write.state.key.kind == kind]
        for kind in ("user", "organization", "membership")
    }
    revive_or_confirm(conn, writes, now=now)
    _upsert_users(conn, by_kind["user"], owned, now)
    _upsert_organizations(conn, by_kind["organization"], owned, now)
    _relink_memberships(conn, by_kind["membership"], now)
    _upsert_memberships(conn, by_kind["membership"], work, owned, now)
    deletions = [(write, write.state.absent_at) for write in writes if isinstance(write.state, Tombstone)]
    for absent_at in sorted({at for _, at in deletions}, key=str):
        _mark_deleted(conn, [write for write, at in deletions if at == absent_at], absent_at, now)
    confirmed = [write for write, at in deletions if write.was_deleted and at is None]
    confirm_deletions(conn, [write.id for write in confirmed if write.state.key.kind == "membership"])
    changed = {write.id for write in by_kind["organization"]}
    changed |= _list_organization_ids(conn, [write.id for write in by_kind["membership"]], memberships.c.id)
    work.local_memberships = create_local_memberships(conn, work, now=now)
    changed |= {membership.organization_id for membership in work.local_memberships}
    existing_users = [write.id for write in by_kind["user"] if not write.is_new]
    update_member_names(conn, existing_users)
    return changed | _list_organization_ids(conn, existing_users, memberships.c.user_id)


def apply_observations(
    conn: Conn, states: Sequence[EntityState], *, now: int, written_fields: Collection[str] = ()
) -> UnitOfWork:
    """Reconcile and write states that were just read from Clerk. See `apply_unit_of_work`."""
    work = open_unit_of_work(conn, states)
    for state in states:
        work.reconcile(state, is_read=True)
    apply_unit_of_work(conn, work, now=now, written_fields=written_fields)
    return work


def _list_known_ids(writes: Sequence[PendingWrite]) -> list[str]:
    """Return the row ids of entities with known content: neither new nor only known to be absent."""
    return [w.id for w in writes if w.before is not None and (w.before.digest or not w.before.is_deleted)]


def _build_name_columns_of_row(row: RowValues) -> RowValues:
    return build_name_columns(row["first_name"], row["last_name"], row["username"], row["email"], row["clerk_id"])


def _upsert(conn: Conn, table: sa.Table, rows: Sequence[RowValues], update: Sequence[str] = ()) -> None:
    """Upsert rows in the order of Clerk ids, the lock order of all writers; they do not know our new ids."""
    upsert_rows(conn, table, rows, key="id", update=update, lock_order="clerk_id")


def _upsert_users(conn: Conn, writes: Sequence[PendingWrite], owned: frozenset[str], now: int) -> None:
    rows = [
        _build_user_row(write.state.entity) | _build_common_columns(write, now)
        for write in writes
        if isinstance(write.state.entity, ClerkUser)
    ]
    if owned:
        rows = [
            row | _build_name_columns_of_row(row)
            for row in keep_owned_values(conn, users, rows, owned, _list_known_ids(writes))
        ]
    new_ids = {write.id for write in writes if write.is_new}
    if created_here := [row for row in rows if row["id"] == row["external_id"] and row["id"] in new_ids]:
        conn.execute(sa.insert(users), created_here)  # fails if another transaction was faster, and is retried
        rows = [row for row in rows if row not in created_here]
    _upsert(conn, users, rows, update=[name for name in rows[0] if name not in _IMMUTABLE_COLUMNS] if rows else ())
    unknown = [write for write in writes if write.is_new and isinstance(write.state, Tombstone)]
    blank = {"sort_name": "", "search_text": "", "is_active": False}
    _upsert(conn, users, [_build_tombstone_row(write, now) | blank for write in unknown])


def _upsert_organizations(conn: Conn, writes: Sequence[PendingWrite], owned: frozenset[str], now: int) -> None:
    rows = [
        _build_organization_row(write.state.entity) | _build_common_columns(write, now)
        for write in writes
        if isinstance(write.state.entity, ClerkOrganization)
    ]
    rows = keep_owned_values(conn, organizations, rows, owned, _list_known_ids(writes)) if owned else rows
    _upsert(
        conn, organizations, rows, update=[name for name in rows[0] if name not in _IMMUTABLE_COLUMNS] if rows else ()
    )
    unknown = [write for write in writes if write.is_new and isinstance(write.state, Tombstone)]
    _upsert(conn, organizations, [_build_tombstone_row(write, now) | {"name": write.state.key.id} for write in unknown])


def _upsert_memberships(
    conn: Conn, writes: Sequence[PendingWrite], work: UnitOfWork, owned: frozenset[str], now: int
) -> None:
    relevant = [write for write in writes if isinstance(write.state, Observation) or write.is_new]
    parents = {
        write.id: [work.known[key] for key in get_parent_keys(write.state.entity)]  # a new one has known parents
        for write in relevant
        if isinstance(write.state.entity, ClerkMembership)
    }
    member_columns = _load_member_columns(conn, [user.id for user, _ in parents.values()])
    rows, revived_ids = [], []
    for write in relevant:
        if not isinstance(write.state.entity, ClerkMembership):
            continue
        user, organization = parents[write.id]
        is_deleted = user.is_deleted or organization.is_deleted or isinstance(write.state, Tombstone)
        revived_ids += [write.id] if write.was_deleted and not is_deleted else []
        sort_name, search_text, status = member_columns[user.id]
        rows.append(
            _build_common_columns(write, now)
            | {
                "organization_id": organization.id,
                "user_id": user.id,
                "role": write.state.entity.role,
                "status": "removed" if is_deleted else status,
                "gone_at": now if is_deleted else None,
                "absent_at": get_absent_at(write, (user, organization)) if is_deleted else None,
                "sort_name": sort_name,
                "search_text": search_text,
            }
        )
    statuses = work.membership_statuses
    statuses |= {row["id"]: row["status"] for row in rows if row["id"] not in statuses}
    _upsert(conn, memberships, rows, update=[name for name in _UPDATED_MEMBERSHIP_COLUMNS if name not in owned])
    revive_memberships(conn, revived_ids, now=now)


def _relink_memberships(conn: Conn, writes: Sequence[PendingWrite], now: int) -> None:
    """Link the rows of kept members who are members in Clerk again to their new Clerk ids."""
    for write in writes:
        if write.replaces:
            membership_status.relink_membership(
                conn, write.id, new_clerk_id=write.state.key.id, tombstone_ids=write.replaces, now=now
            )


def _build_common_columns(write: PendingWrite, now: int) -> RowValues:
    state, entity = write.state, write.state.entity
    return {
        "id": write.id,
        "clerk_id": state.key.id,
        "joined_at": entity.joined_at if entity else now,
        "version": state.version if isinstance(state, Observation) else 0,
        "digest": state.digest if isinstance(state, Observation) else "",
        "changed_at": now,
    }


def _build_tombstone_row(write: PendingWrite, now: int) -> RowValues:
    absent_at = write.state.absent_at if isinstance(write.state, Tombstone) else None
    return _build_common_columns(write, now) | {"gone_at": now, "absent_at": absent_at, "deleted_at": now}


def _build_user_row(user: ClerkUser) -> RowValues:
    return {
        **build_name_columns(user.first_name, user.last_name, user.username, user.email, user.clerk_id),
        "email": user.email,
        "is_email_verified": user.is_email_verified,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "username": user.username,
        "image_url": user.image_url,
        "external_id": user.external_id,
        "public_metadata": user.public_metadata,
        "is_banned": user.is_banned,
        "is_deprovisioned": user.is_deprovisioned,
        "last_sign_in_at": user.last_sign_in_at,
        "last_active_at": user.last_active_at,
    }


def build_name_columns(
    first: str | None, last: str | None, username: str | None, email: str | None, fallback: str
) -> dict[str, str]:
    """Return the columns by which a user is sorted and found. `fallback` is the name of last resort."""
    name = f"{first} {last}" if first and last else first or last or ""
    return {
        "sort_name": (name or username or email or fallback).casefold()[:MAX_SORT_NAME_LENGTH],
        "search_text": build_search_text((name, email, find_alternate_form(email), username)),
    }


def _build_organization_row(organization: ClerkOrganization) -> RowValues:
    return {
        "name": organization.name,
        "slug": organization.slug,
        "image_url": organization.image_url,
        "max_members": organization.max_members,
        "public_metadata": organization.public_metadata,
    }


def _mark_deleted(conn: Conn, deletions: Sequence[PendingWrite], absent_at: int | None, now: int) -> None:
    """Mark entities as deleted, and end the memberships of deleted users and organizations."""
    ids_by_kind = {
        kind: [write.id for write in deletions if write.state.key.kind == kind]
        for kind in ("user", "organization", "membership")
    }
    for table, ids in ((users, ids_by_kind["user"]), (organizations, ids_by_kind["organization"])):
        if ids:
            marks: dict[str, Any] = {name: sa.func.coalesce(table.c[name], now) for name in ("gone_at", "deleted_at")}
            marks |= {"absent_at": absent_at, "changed_at": now}
            inactive = {"is_active": False} if table is users else {}
            conn.execute(sa.update(table).where(is_one_of(conn, table.c.id, ids)).values(**marks, **inactive))
    for column, ids in (
        (memberships.c.id, ids_by_kind["membership"]),
        (memberships.c.user_id, ids_by_kind["user"]),
        (memberships.c.organization_id, ids_by_kind["organization"]),
    ):
        if ids:
            current = sa.update(memberships).where(is_one_of(conn, column, ids), memberships.c.gone_at.is_(None))
            status = membership_status.STATUS_AFTER_DELETION if column is memberships.c.id else "removed"
            conn.execute(current.values(status=status, gone_at=now, absent_at=absent_at, changed_at=now))


def update_member_names(conn: Conn, user_ids: Sequence[str]) -> None:
    """Copy changed names to memberships, which are sorted and found by their user's name."""
    if not user_ids:
        return
    differs = sa.or_(memberships.c.sort_name != users.c.sort_name, memberships.c.search_text != users.c.search_text)
    conn.execute(
        sa.update(memberships)
        .where(memberships.c.user_id == users.c.id, is_one_of(conn, memberships.c.user_id, user_ids), differs)
        .values(sort_name=users.c.sort_name, search_text=users.c.search_text)
    )


def _load_member_columns(conn: Conn, user_ids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return sort name, search text and membership status by user id."""
    if not user_ids:
        return {}
    columns = (users.c.id, users.c.sort_name, users.c.search_text, membership_status.STATUS_FROM_USER)
    query = sa.select(*columns).where(is_one_of(conn, users.c.id, user_ids))
    return {row[0]: (row[1], row[2], row[3]) for row in conn.execute(query)}


def _list_organization_ids(conn: Conn, ids: Sequence[str], column: sa.Column[str]) -> set[str]:
    if not ids:
        return set()
    query = sa.select(memberships.c.organization_id).where(is_one_of(conn, column, ids)).distinct()
    return set(conn.execute(query).scalars())


ORGANIZATION_METADATA_KEY, ROLE_METADATA_KEY = "organization", "role"


class LocalOrganizationGrant(Struct, frozen=True):
    """A local organization (our id) and a role that a user's public metadata grants."""

    organization: str
    role: str


def parse_local_organization_grant(user: ClerkUser) -> LocalOrganizationGrant | None:
    """Parse the grant in a user's public metadata, which only the application's server can write."""
    raw = bytes(user.public_metadata)
    if b'"organization"' not in raw:
        return None
    metadata = msgspec.json.decode(raw)
    if not isinstance(metadata, dict):
        return None
    organization, role = metadata.get(ORGANIZATION_METADATA_KEY), metadata.get(ROLE_METADATA_KEY)
    if not isinstance(organization, str) or not isinstance(role, str) or not role:
        return None
    return LocalOrganizationGrant(organization, role if ":" in role else f"org:{role}")


def create_local_memberships(conn: Conn, work: UnitOfWork, *, now: int) -> list[LocalMembership]:
    """Create the memberships that newly written users were invited to.

    Once per user and organization: a former member, in any status, is left unchanged, and so is an organization of
    Clerk.
    """
    observed = [(write.id, write.state.entity) for write in work.list_writes() if isinstance(write.state, Observation)]
    grants = {
        user_id: grant
        for user_id, entity in observed
        if isinstance(entity, ClerkUser) and (grant := parse_local_organization_grant(entity))
    }
    if not grants:
        return []
    local = _lock_local_organizations(conn, [grant.organization for grant in grants.values()])
    existing = _list_existing_pairs(conn, list(grants))
    new = {
        user_id: grant
        for user_id, grant in grants.items()
        if grant.organization in local and (user_id, grant.organization) not in existing
    }
    return _insert_local_memberships(conn, new, now) if new else []


def _lock_local_organizations(conn: Conn, ids: Sequence[str]) -> set[str]:
    o = organizations.c
    query = sa.select(o.id).where(is_one_of(conn, o.id, ids), o.clerk_id.is_(None), o.deleted_at.is_(None))
    return set(conn.execute(query.order_by(o.id).with_for_update(key_share=True)).scalars())


def _list_existing_pairs(conn: Conn, user_ids: Sequence[str]) -> set[tuple[str, str]]:
    m = memberships.c
    query = sa.select(m.user_id, m.organization_id).where(is_one_of(conn, m.user_id, user_ids))
    return {(user, organization) for user, organization in conn.execute(query)}


def _insert_local_memberships(conn: Conn, grants: dict[str, LocalOrganizationGrant], now: int) -> list[LocalMembership]:
    u = users.c
    query = sa.select(u.id, u.sort_name, u.search_text, STATUS_FROM_USER)
    query = query.where(is_one_of(conn, u.id, list(grants)), u.is_active, u.deleted_at.is_(None))
    joined, rows = [], []
    for user_id, sort_name, search_text, status in conn.execute(query.order_by(u.id)):
        grant, membership_id = grants[user_id], new_id("mbr")
        joined.append(
            LocalMembership(
                membership_id=membership_id, organization_id=grant.organization, user_id=user_id, role=grant.role
            )
        )
        rows.append(
            {
                "id": membership_id,
                "organization_id": grant.organization,
                "user_id": user_id,
                "role": grant.role,
                "status": status,
                "sort_name": sort_name,
                "search_text": search_text,
                "joined_at": now,
                "changed_at": now,
            }
        )
    if rows:
        conn.execute(sa.insert(memberships), rows)
    return joined
