"""Queries for known states, current memberships, organizations and fields owned by the database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.core.db import Conn
from instep.core.sql import is_one_of
from instep.domain.emails import canonicalize_email, list_stored_forms
from instep.domain.listing import CONTENT_FIELDS
from instep.domain.models import ClerkId, EntityKey, EntityKind
from instep.domain.reconcile import MirroredState
from instep.mirror.tables import member_counts, memberships, organizations, users

OWNED_FIELDS_OPTION = "instep_database_owns"


def get_owned_fields(conn: Conn, *, but: Collection[str] = ()) -> frozenset[str]:
    """The names of the fields; `but` those that were just written to Clerk by ourselves."""
    owned: frozenset[str] = conn.get_execution_options().get(OWNED_FIELDS_OPTION, frozenset())
    return owned.difference(but) if owned else owned


def keep_owned_values(
    conn: Conn, table: sa.Table, rows: Sequence[Mapping[str, Any]], owned: frozenset[str], known: Collection[str]
) -> list[dict[str, Any]]:
    """`rows` with the database's own values in the fields that it owns; `known`: our ids of those that have any."""
    names = sorted(owned.intersection(*(row.keys() for row in rows))) if rows and known else []
    if not names:
        return [dict(row) for row in rows]
    columns = [table.c[name] for name in names]
    query = sa.select(table.c.id, *columns).where(is_one_of(conn, table.c.id, sorted(known)))
    kept = {id: dict(zip(names, values, strict=True)) for id, *values in conn.execute(query)}
    return [{**row, **kept.get(row["id"], {})} for row in rows]


TABLES_BY_KIND: dict[EntityKind, sa.Table] = {"user": users, "organization": organizations, "membership": memberships}
LOADED_FIELDS_BY_KIND: dict[EntityKind, tuple[str, ...]] = {
    kind: CONTENT_FIELDS[kind] for kind in ("user", "organization")
}


def find_known_states(
    conn: Conn, keys: Iterable[EntityKey], *, is_locking: bool = True
) -> dict[EntityKey, MirroredState]:
    """What the mirror holds of each key; keys it does not know are left out.

    `is_locking` keeps other writers from these rows until the transaction ends (PostgreSQL; on SQLite there is
    one writer).
    """
    by_kind: dict[EntityKind, set[str]] = {}
    for key in keys:
        by_kind.setdefault(key.kind, set()).add(key.id)
    found: dict[EntityKey, MirroredState] = {}
    for kind in TABLES_BY_KIND:
        if ids := by_kind.get(kind):
            found |= _find_known_states_of_kind(conn, kind, sorted(ids), is_locking)
    return found


def _find_known_states_of_kind(
    conn: Conn, kind: EntityKind, ids: Sequence[str], is_locking: bool
) -> dict[EntityKey, MirroredState]:
    table = TABLES_BY_KIND[kind]
    columns = [table.c.clerk_id, table.c.id, table.c.version, table.c.digest, table.c.gone_at, table.c.absent_at]
    columns += [table.c.is_banned, table.c.is_deprovisioned] if kind == "user" else []
    query = sa.select(*columns).where(is_one_of(conn, table.c.clerk_id, ids))
    if is_locking:
        query = query.order_by(table.c.clerk_id).with_for_update()
    return {
        EntityKey(kind, ClerkId(clerk_id)): MirroredState(id, version, digest, gone_at is not None, absent_at, *bars)
        for clerk_id, id, version, digest, gone_at, absent_at, *bars in conn.execute(query)
    }


def find_unlinked_user_ids(conn: Conn, emails: Iterable[str]) -> dict[str, str]:
    """Our ids of live people without a Clerk account, by canonical address."""
    forms = sorted({form for email in emails for form in list_stored_forms(email)})
    if not forms:
        return {}
    email = sa.func.lower(users.c.email)
    query = (
        sa.select(email, users.c.id)
        .where(users.c.clerk_id.is_(None), users.c.deleted_at.is_(None), is_one_of(conn, email, forms))
        .order_by(users.c.id.desc())
    )
    return {canonicalize_email(address): str(id) for address, id in conn.execute(query)}


class MembershipRow(Struct, frozen=True, kw_only=True):
    """A membership that has not ended, as the mirror has it. `joined_at` is in Unix milliseconds.

    `is_kept`: deactivated here, and Clerk no longer has it, or soon will not have it; the row stays in our list.
    """

    id: str
    clerk_id: ClerkId
    organization_id: str
    user_id: str
    role: str
    status: str
    joined_at: int
    version: int
    digest: str
    is_kept: bool = False


_MEMBERSHIP_COLUMNS = tuple(memberships.c[name] for name in MembershipRow.__struct_fields__[:-1])
_IS_KEPT_AFTER_REMOVAL = sa.and_(
    memberships.c.status == "deactivated", sa.func.coalesce(memberships.c.deactivation, "") == "membership"
)
_CURRENT_MEMBERSHIPS_QUERY = (
    sa.select(organizations.c.clerk_id, users.c.clerk_id, *_MEMBERSHIP_COLUMNS, _IS_KEPT_AFTER_REMOVAL)
    .select_from(memberships.join(users, users.c.id == memberships.c.user_id))
    .join(organizations, organizations.c.id == memberships.c.organization_id)
    .where(memberships.c.status != "removed", memberships.c.clerk_id.is_not(None))
    .order_by(memberships.c.clerk_id)
    .with_for_update(of=memberships)
)


def lock_current_memberships(
    conn: Conn, pairs: Iterable[tuple[str, str]], ids: Iterable[str] = ()
) -> dict[tuple[str, str], list[MembershipRow]]:
    """Return the memberships that have not ended by their pair (Clerk's ids: organization, user), and lock them.

    Those of these `pairs`, and those with these `ids` (Clerk's).
    """
    wanted, named = set(pairs), sorted(set(ids))
    rows: list[Any] = []
    if wanted:
        theirs = is_one_of(conn, users.c.clerk_id, sorted({user for _, user in wanted}))
        rows += [row for row in conn.execute(_CURRENT_MEMBERSHIPS_QUERY.where(theirs)) if (row[0], row[1]) in wanted]
    if named:
        rows += conn.execute(_CURRENT_MEMBERSHIPS_QUERY.where(is_one_of(conn, memberships.c.clerk_id, named))).all()
    found: dict[tuple[str, str], list[MembershipRow]] = {}
    for organization, user, *values, is_kept in rows:
        standing = MembershipRow(
            **dict(zip(MembershipRow.__struct_fields__, values, strict=False)), is_kept=bool(is_kept)
        )
        them = found.setdefault((organization, user), [])
        if standing not in them:
            them.append(standing)
    return found


def find_content(conn: Conn, keys: Iterable[EntityKey]) -> dict[EntityKey, dict[str, Any]]:
    """Return what the mirror holds of the content of each of these people and organizations, by field."""
    found: dict[EntityKey, dict[str, Any]] = {}
    wanted = set(keys)
    for kind, names in LOADED_FIELDS_BY_KIND.items():
        if ids := sorted(key.id for key in wanted if key.kind == kind):
            columns = [TABLES_BY_KIND[kind].c[name] for name in names]
            query = sa.select(TABLES_BY_KIND[kind].c.clerk_id, *columns).where(
                is_one_of(conn, TABLES_BY_KIND[kind].c.clerk_id, ids)
            )
            for clerk_id, *values in conn.execute(query):
                found[EntityKey(kind, ClerkId(clerk_id))] = dict(zip(names, values, strict=True))
    return found


def find_reserved_user_ids(conn: Conn, ids: Iterable[str]) -> dict[str, bool]:
    """Which of these ids of people are in use, and whether whoever has it is alive and without a Clerk account."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    is_free = sa.and_(users.c.clerk_id.is_(None), users.c.deleted_at.is_(None))
    return {
        str(id): bool(free)
        for id, free in conn.execute(sa.select(users.c.id, is_free).where(is_one_of(conn, users.c.id, wanted)))
    }


class OrganizationRow(Struct, frozen=True, kw_only=True):
    """An organization as the mirror has it."""

    id: str
    clerk_id: str | None
    name: str
    slug: str | None
    image_url: str | None
    max_members: int | None


_ORGANIZATION_COLUMNS = tuple(organizations.c[name] for name in OrganizationRow.__struct_fields__)


def find_organization(conn: Conn, ref: str) -> OrganizationRow | None:
    """A live organization by instep's id, Clerk's id or its slug."""
    query = sa.select(*_ORGANIZATION_COLUMNS).where(
        sa.or_(organizations.c.id == ref, organizations.c.clerk_id == ref, organizations.c.slug == ref),
        organizations.c.deleted_at.is_(None),
        organizations.c.gone_at.is_(None),
    )
    row = conn.execute(query.order_by(organizations.c.id).limit(1)).first()
    return OrganizationRow(**row._mapping) if row else None


def count_members(conn: Conn, organization_id: str) -> dict[tuple[str, str], int]:
    """Members of one organization by (status, role)."""
    c = member_counts.c
    query = sa.select(c.status, c.role, c.members).where(c.organization_id == organization_id, c.members > 0)
    return {(status, role): count for status, role, count in conn.execute(query)}
