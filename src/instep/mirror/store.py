"""Reading the mirror: what it knows of things, organizations by any of their names, and pages of members."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from msgspec import Struct

from instep.identity.addresses import canonical, stored_forms
from instep.identity.model import ClerkId, Key, Kind
from instep.identity.rules import Known
from instep.kit.db import Conn, is_among
from instep.mirror.tables import member_counts, memberships, organizations, users

TABLES: dict[Kind, sa.Table] = {"user": users, "organization": organizations, "membership": memberships}


def find_known(conn: Conn, keys: Iterable[Key], *, is_locking: bool = True) -> dict[Key, Known]:
    """What the mirror holds of each key; keys it does not know are left out.

    `is_locking` keeps other writers from these rows until the transaction ends (PostgreSQL; on SQLite there is
    one writer).
    """
    by_kind: dict[Kind, set[str]] = {}
    for key in keys:
        by_kind.setdefault(key.kind, set()).add(key.id)
    found: dict[Key, Known] = {}
    for kind in TABLES:
        if ids := by_kind.get(kind):
            found |= _find_known_of(conn, kind, sorted(ids), is_locking)
    return found


def _find_known_of(conn: Conn, kind: Kind, ids: Sequence[str], is_locking: bool) -> dict[Key, Known]:
    table = TABLES[kind]
    columns = (table.c.clerk_id, table.c.id, table.c.version, table.c.digest, table.c.gone_at, table.c.absent_at)
    query = sa.select(*columns).where(is_among(conn, table.c.clerk_id, ids))
    if is_locking:
        query = query.order_by(table.c.clerk_id).with_for_update()
    return {
        Key(kind, ClerkId(clerk_id)): Known(id, version, digest, gone_at is not None, absent_at)
        for clerk_id, id, version, digest, gone_at, absent_at in conn.execute(query)
    }


def find_unlinked(conn: Conn, emails: Iterable[str]) -> dict[str, str]:
    """Our ids of live people without a Clerk account, by canonical address."""
    forms = sorted({form for email in emails for form in stored_forms(email)})
    if not forms:
        return {}
    email = sa.func.lower(users.c.email)
    query = (
        sa.select(email, users.c.id)
        .where(users.c.clerk_id.is_(None), users.c.deleted_at.is_(None), is_among(conn, email, forms))
        .order_by(users.c.id.desc())
    )
    return {canonical(address): str(id) for address, id in conn.execute(query)}


class Kept(Struct, frozen=True):
    """A deactivated member whose membership Clerk no longer has, or soon will not have: the row stays in our list.

    `clerk_id` and `version` are of the membership it stands for.
    """

    id: str
    clerk_id: ClerkId
    version: int


def find_kept(conn: Conn, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Kept]:
    """The kept rows of these people in these organizations (Clerk's ids: organization, user); locks them."""
    wanted = set(pairs)
    if not wanted:
        return {}
    m = memberships.c
    query = (
        sa.select(organizations.c.clerk_id, users.c.clerk_id, m.id, m.clerk_id, m.version)
        .select_from(memberships.join(users, users.c.id == m.user_id))
        .join(organizations, organizations.c.id == m.organization_id)
        .where(is_among(conn, users.c.clerk_id, sorted({user for _, user in wanted})))
        .where(m.status == "deactivated", m.deactivation == "membership", m.clerk_id.is_not(None))
        .order_by(m.id)
        .with_for_update(of=memberships)
    )
    rows = conn.execute(query).all()
    return {(org, user): Kept(*kept) for org, user, *kept in rows if (org, user) in wanted}


def find_ours(conn: Conn, ids: Iterable[str]) -> dict[str, bool]:
    """Which of these ids of people are in use, and whether whoever has it is alive and without a Clerk account."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    is_free = sa.and_(users.c.clerk_id.is_(None), users.c.deleted_at.is_(None))
    return {
        str(id): bool(free)
        for id, free in conn.execute(sa.select(users.c.id, is_free).where(is_among(conn, users.c.id, wanted)))
    }


class OrganizationRow(Struct, frozen=True, kw_only=True):
    """An organization as the mirror has it."""

    id: str
    clerk_id: str | None
    name: str
    slug: str | None
    image_url: str | None
    max_members: int | None


_ORGANIZATION = tuple(organizations.c[name] for name in OrganizationRow.__struct_fields__)


def find_organization(conn: Conn, ref: str) -> OrganizationRow | None:
    """A live organization by instep's id, Clerk's id or its slug."""
    query = sa.select(*_ORGANIZATION).where(
        sa.or_(organizations.c.id == ref, organizations.c.clerk_id == ref, organizations.c.slug == ref),
        organizations.c.deleted_at.is_(None),
        organizations.c.gone_at.is_(None),
    )
    row = conn.execute(query.order_by(organizations.c.id).limit(1)).first()
    return OrganizationRow(**row._mapping) if row else None


def member_totals(conn: Conn, organization_id: str) -> dict[tuple[str, str], int]:
    """Members of one organization by (status, role)."""
    c = member_counts.c
    query = sa.select(c.status, c.role, c.members).where(c.organization_id == organization_id, c.members > 0)
    return {(status, role): count for status, role, count in conn.execute(query)}
