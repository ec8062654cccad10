"""Reading the mirror: what it knows of things, organizations by any of their names, and pages of members."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.identity.addresses import canonical, stored_forms
from instep.identity.model import ClerkId, Key, Kind
from instep.identity.rules import Known
from instep.identity.whole import FIELDS
from instep.kit.db import Conn, is_among
from instep.mirror.tables import member_counts, memberships, organizations, users

TABLES: dict[Kind, sa.Table] = {"user": users, "organization": organizations, "membership": memberships}
CONTENT: dict[Kind, tuple[str, ...]] = {kind: FIELDS[kind] for kind in ("user", "organization")}


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
    columns = [table.c.clerk_id, table.c.id, table.c.version, table.c.digest, table.c.gone_at, table.c.absent_at]
    columns += [table.c.is_banned, table.c.is_deprovisioned] if kind == "user" else []
    query = sa.select(*columns).where(is_among(conn, table.c.clerk_id, ids))
    if is_locking:
        query = query.order_by(table.c.clerk_id).with_for_update()
    return {
        Key(kind, ClerkId(clerk_id)): Known(id, version, digest, gone_at is not None, absent_at, *bars)
        for clerk_id, id, version, digest, gone_at, absent_at, *bars in conn.execute(query)
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


class Standing(Struct, frozen=True, kw_only=True):
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


_STANDING = tuple(memberships.c[name] for name in Standing.__struct_fields__[:-1])
_IS_KEPT = sa.and_(
    memberships.c.status == "deactivated", sa.func.coalesce(memberships.c.deactivation, "") == "membership"
)
_STANDINGS = (
    sa.select(organizations.c.clerk_id, users.c.clerk_id, *_STANDING, _IS_KEPT)
    .select_from(memberships.join(users, users.c.id == memberships.c.user_id))
    .join(organizations, organizations.c.id == memberships.c.organization_id)
    .where(memberships.c.status != "removed", memberships.c.clerk_id.is_not(None))
    .order_by(memberships.c.clerk_id)
    .with_for_update(of=memberships)
)


def find_standing(
    conn: Conn, pairs: Iterable[tuple[str, str]], ids: Iterable[str] = ()
) -> dict[tuple[str, str], list[Standing]]:
    """Return the memberships that have not ended by their pair (Clerk's ids: organization, user), and lock them.

    Those of these `pairs`, and those with these `ids` (Clerk's).
    """
    wanted, named = set(pairs), sorted(set(ids))
    rows: list[Any] = []
    if wanted:
        theirs = is_among(conn, users.c.clerk_id, sorted({user for _, user in wanted}))
        rows += [row for row in conn.execute(_STANDINGS.where(theirs)) if (row[0], row[1]) in wanted]
    if named:
        rows += conn.execute(_STANDINGS.where(is_among(conn, memberships.c.clerk_id, named))).all()
    found: dict[tuple[str, str], list[Standing]] = {}
    for organization, user, *values, is_kept in rows:
        standing = Standing(**dict(zip(Standing.__struct_fields__, values, strict=False)), is_kept=bool(is_kept))
        them = found.setdefault((organization, user), [])
        if standing not in them:
            them.append(standing)
    return found


def find_content(conn: Conn, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
    """Return what the mirror holds of the content of each of these people and organizations, by field."""
    found: dict[Key, dict[str, Any]] = {}
    wanted = set(keys)
    for kind, names in CONTENT.items():
        if ids := sorted(key.id for key in wanted if key.kind == kind):
            columns = [TABLES[kind].c[name] for name in names]
            query = sa.select(TABLES[kind].c.clerk_id, *columns).where(is_among(conn, TABLES[kind].c.clerk_id, ids))
            for clerk_id, *values in conn.execute(query):
                found[Key(kind, ClerkId(clerk_id))] = dict(zip(names, values, strict=True))
    return found


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
