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


def get_owned_fields(conn: Conn, *, excluded: Collection[str] = ()) -> frozenset[str]:
    """Return the fields owned by the database, without `excluded` ones that we just wrote to Clerk."""
    owned: frozenset[str] = conn.get_execution_options().get(OWNED_FIELDS_OPTION, frozenset())
    return owned.difference(excluded) if owned else owned


def keep_owned_values(
    conn: Conn, table: sa.Table, rows: Sequence[Mapping[str, Any]], owned: frozenset[str], known_ids: Collection[str]
) -> list[dict[str, Any]]:
    """Return rows with the database's own values in the fields that it owns; `known_ids`: existing rows."""
    names = sorted(owned.intersection(*(row.keys() for row in rows))) if rows and known_ids else []
    if not names:
        return [dict(row) for row in rows]
    columns = [table.c[name] for name in names]
    query = sa.select(table.c.id, *columns).where(is_one_of(conn, table.c.id, sorted(known_ids)))
    values_by_id = {row_id: dict(zip(names, values, strict=True)) for row_id, *values in conn.execute(query)}
    return [{**row, **values_by_id.get(row["id"], {})} for row in rows]


TABLES_BY_KIND: dict[EntityKind, sa.Table] = {"user": users, "organization": organizations, "membership": memberships}
LOADED_FIELDS_BY_KIND: dict[EntityKind, tuple[str, ...]] = {
    kind: CONTENT_FIELDS[kind] for kind in ("user", "organization")
}


def find_known_states(
    conn: Conn, keys: Iterable[EntityKey], *, is_locking: bool = True
) -> dict[EntityKey, MirroredState]:
    """Return the mirrored state of each key; unknown keys are left out.

    `is_locking` blocks other writers of these rows until the transaction ends (PostgreSQL; SQLite has one writer).
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
        EntityKey(kind, ClerkId(clerk_id)): MirroredState(
            row_id, version, digest, gone_at is not None, absent_at, *restrictions
        )
        for clerk_id, row_id, version, digest, gone_at, absent_at, *restrictions in conn.execute(query)
    }


def find_unlinked_user_ids(conn: Conn, emails: Iterable[str]) -> dict[str, str]:
    """Return our ids of existing users without a Clerk account, by canonical address."""
    stored_forms = sorted({form for email in emails for form in list_stored_forms(email)})
    if not stored_forms:
        return {}
    email = sa.func.lower(users.c.email)
    query = (
        sa.select(email, users.c.id)
        .where(users.c.clerk_id.is_(None), users.c.deleted_at.is_(None), is_one_of(conn, email, stored_forms))
        .order_by(users.c.id.desc())
    )
    return {canonicalize_email(address): str(user_id) for address, user_id in conn.execute(query)}


class MembershipRow(Struct, frozen=True, kw_only=True):
    """A membership that has not ended. `joined_at` is in Unix milliseconds.

    `is_kept`: deactivated here, and Clerk no longer has it, or soon will not; the row stays in our list.
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
    conn: Conn, pairs: Iterable[tuple[str, str]], membership_ids: Iterable[str] = ()
) -> dict[tuple[str, str], list[MembershipRow]]:
    """Return the memberships that have not ended by their pair (Clerk ids: organization, user), and lock them.

    Those of these `pairs`, and those with these `membership_ids` (Clerk's).
    """
    wanted, wanted_ids = set(pairs), sorted(set(membership_ids))
    rows: list[Any] = []
    if wanted:
        is_of_users = is_one_of(conn, users.c.clerk_id, sorted({user for _, user in wanted}))
        query = _CURRENT_MEMBERSHIPS_QUERY.where(is_of_users)
        rows += [row for row in conn.execute(query) if (row[0], row[1]) in wanted]
    if wanted_ids:
        query = _CURRENT_MEMBERSHIPS_QUERY.where(is_one_of(conn, memberships.c.clerk_id, wanted_ids))
        rows += conn.execute(query).all()
    found: dict[tuple[str, str], list[MembershipRow]] = {}
    for organization, user, *values, is_kept in rows:
        membership = MembershipRow(
            **dict(zip(MembershipRow.__struct_fields__, values, strict=False)), is_kept=bool(is_kept)
        )
        of_pair = found.setdefault((organization, user), [])
        if membership not in of_pair:
            of_pair.append(membership)
    return found


def find_content(conn: Conn, keys: Iterable[EntityKey]) -> dict[EntityKey, dict[str, Any]]:
    """Return the mirrored content of each of these users and organizations, by field."""
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


def find_reserved_user_ids(conn: Conn, user_ids: Iterable[str]) -> dict[str, bool]:
    """Return which of these user ids exist, and whether each is an existing user without a Clerk account."""
    wanted = sorted(set(user_ids))
    if not wanted:
        return {}
    is_free = sa.and_(users.c.clerk_id.is_(None), users.c.deleted_at.is_(None))
    return {
        str(user_id): bool(free)
        for user_id, free in conn.execute(sa.select(users.c.id, is_free).where(is_one_of(conn, users.c.id, wanted)))
    }


class OrganizationRow(Struct, frozen=True, kw_only=True):
    """An organization in the mirror."""

    id: str
    clerk_id: str | None
    name: str
    slug: str | None
    image_url: str | None
    max_members: int | None


_ORGANIZATION_COLUMNS = tuple(organizations.c[name] for name in OrganizationRow.__struct_fields__)


def find_organization(conn: Conn, ref: str) -> OrganizationRow | None:
    """Return an existing organization by our id, Clerk's id or its slug."""
    query = sa.select(*_ORGANIZATION_COLUMNS).where(
        sa.or_(organizations.c.id == ref, organizations.c.clerk_id == ref, organizations.c.slug == ref),
        organizations.c.deleted_at.is_(None),
        organizations.c.gone_at.is_(None),
    )
    row = conn.execute(query.order_by(organizations.c.id).limit(1)).first()
    return OrganizationRow(**row._mapping) if row else None


def count_members(conn: Conn, organization_id: str) -> dict[tuple[str, str], int]:
    """Return the number of members of an organization by (status, role)."""
    c = member_counts.c
    query = sa.select(c.status, c.role, c.members).where(c.organization_id == organization_id, c.members > 0)
    return {(status, role): count for status, role, count in conn.execute(query)}
