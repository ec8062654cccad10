"""Read-only queries of the mirror for its comparison with Clerk."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.core.db import Conn
from instep.core.sql import is_one_of
from instep.domain.listing import CONTENT_FIELDS, MirroredEntity
from instep.domain.models import EntityKind
from instep.mirror.tables import memberships, organizations, users

CHUNK_SIZE = 4_000
_TABLES_BY_KIND: dict[EntityKind, sa.Table] = {"user": users, "organization": organizations, "membership": memberships}


def list_mirror_rows(
    conn: Conn, kind: EntityKind, *, since: int, until: int | None, after: str = ""
) -> tuple[list[MirroredEntity], tuple[int, str] | None]:
    """Return rows created from `since` until before `until`, by Clerk's clock, and the position to continue at.

    Returns up to `CHUNK_SIZE` rows. To continue, pass the returned time and id as `since` and `after`.
    """
    bound = {"at": since, "id": after, "until": 2**62 if until is None else until}
    rows = conn.execute(_build_range_query(kind), bound).all()
    return [_to_mirror_row(row) for row in rows], (rows[-1][8], rows[-1][1]) if len(rows) == CHUNK_SIZE else None


def find_mirror_rows(conn: Conn, kind: EntityKind, clerk_ids: Iterable[str]) -> list[MirroredEntity]:
    """Return the rows with these Clerk ids."""
    table = _TABLES_BY_KIND[kind]
    query = sa.select(*_select_columns(kind)).where(is_one_of(conn, table.c.clerk_id, sorted(set(clerk_ids))))
    return [_to_mirror_row(row) for row in conn.execute(query)]


def is_mirror_empty(conn: Conn) -> bool:
    """Return whether the mirror has nothing of Clerk yet."""
    queries = [sa.select(t.c.id).where(t.c.clerk_id.is_not(None)).limit(1) for t in (users, organizations)]
    return all(conn.execute(query).first() is None for query in queries)


def count_mirror_rows(conn: Conn, kind: EntityKind) -> int:
    """Return the number of existing Clerk entities in the mirror."""
    table = _TABLES_BY_KIND[kind]
    query = sa.select(sa.func.count()).where(table.c.clerk_id.is_not(None), table.c.gone_at.is_(None))
    return int(conn.execute(query).scalar_one())


class MirrorRowLabel(Struct, frozen=True):
    """A row id and the label to display for it."""

    id: str
    label: str


def list_duplicate_emails(conn: Conn, limit: int) -> list[tuple[str, list[MirrorRowLabel]]]:
    """Return addresses that several Clerk users share, with these users."""
    email = sa.func.lower(users.c.email)
    is_current = (users.c.clerk_id.is_not(None), users.c.gone_at.is_(None), users.c.email.is_not(None))
    duplicates = sa.select(email).where(*is_current).group_by(email).having(sa.func.count() > 1).limit(limit)
    addresses = [str(address) for address in conn.execute(duplicates).scalars()]
    query = sa.select(email, users.c.id, users.c.clerk_id).where(*is_current, is_one_of(conn, email, addresses))
    found: dict[str, list[MirrorRowLabel]] = {address: [] for address in addresses}
    for address, user_id, clerk_id in conn.execute(query.order_by(users.c.id)):
        found[address].append(MirrorRowLabel(user_id, clerk_id))
    return sorted(found.items())


def list_linkable_users(conn: Conn, limit: int) -> list[tuple[str, str, str]]:
    """Return local users with the address of a Clerk user: our id, the address, the Clerk id."""
    local, linked = users.alias("local"), users.alias("linked")
    same = sa.func.lower(local.c.email) == sa.func.lower(linked.c.email)
    query = (
        sa.select(local.c.id, local.c.email, linked.c.clerk_id)
        .where(local.c.clerk_id.is_(None), local.c.deleted_at.is_(None), local.c.email.is_not(None))
        .where(linked.c.clerk_id.is_not(None), linked.c.gone_at.is_(None), linked.c.is_email_verified, same)
        .order_by(local.c.id)
        .limit(limit)
    )
    return [(user_id, email, clerk_id) for user_id, email, clerk_id in conn.execute(query)]


def list_legacy_invited_members(conn: Conn, limit: int) -> list[MirrorRowLabel]:
    """Return rows with the status "invited", from versions that stored invitations as members."""
    query = (
        sa.select(memberships.c.id, users.c.email, users.c.id)
        .join(users, users.c.id == memberships.c.user_id)
        .where(memberships.c.status == "invited", memberships.c.gone_at.is_(None))
        .order_by(memberships.c.id)
        .limit(limit)
    )
    return [MirrorRowLabel(row_id, email or user_id) for row_id, email, user_id in conn.execute(query)]


def find_labels(conn: Conn, kind: EntityKind, ids: Sequence[str]) -> dict[str, str]:
    """Return labels of rows by our ids: an address or a name; for a membership both user and organization."""
    if kind == "user":
        label = sa.func.coalesce(users.c.email, users.c.username, users.c.sort_name)
        query = sa.select(users.c.id, label).where(is_one_of(conn, users.c.id, ids))
    elif kind == "organization":
        query = sa.select(organizations.c.id, organizations.c.name).where(is_one_of(conn, organizations.c.id, ids))
    else:
        name = sa.func.coalesce(users.c.email, users.c.username, users.c.sort_name)
        query = (
            sa.select(memberships.c.id, name + " in " + organizations.c.name)
            .join(users, users.c.id == memberships.c.user_id)
            .join(organizations, organizations.c.id == memberships.c.organization_id)
            .where(is_one_of(conn, memberships.c.id, ids))
        )
    return {str(row_id): str(label) for row_id, label in conn.execute(query)}


def find_membership_pairs(conn: Conn, membership_ids: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
    """Return the Clerk ids of organization and user by Clerk membership id, as Clerk needs them."""
    query = (
        sa.select(memberships.c.clerk_id, organizations.c.clerk_id, users.c.clerk_id)
        .join(users, users.c.id == memberships.c.user_id)
        .join(organizations, organizations.c.id == memberships.c.organization_id)
        .where(is_one_of(conn, memberships.c.clerk_id, membership_ids))
    )
    return {clerk_id: (organization, user) for clerk_id, organization, user in conn.execute(query)}


def _select_columns(kind: EntityKind) -> list[sa.ColumnElement[Any]]:
    """Return the columns of a row.

    Our id is second and the creation time ninth, where `list_mirror_rows` continues; the content starts at the
    eleventh.
    """
    table = _TABLES_BY_KIND[kind]
    c = table.c
    false: sa.ColumnElement[bool] = sa.false()
    is_kept, is_deactivated = false, false
    if kind == "user":
        is_deactivated = sa.not_(c.is_active)
    if kind == "membership":
        is_deactivated = c.status == "deactivated"
        is_kept = sa.and_(is_deactivated, sa.func.coalesce(c.deactivation, "") == "membership")
    content = [sa.cast(c[name], sa.Text) if name == "public_metadata" else c[name] for name in CONTENT_FIELDS[kind]]
    state = [c.clerk_id, c.id, c.version, c.digest, c.gone_at, is_kept, is_deactivated, c.changed_at, c.joined_at]
    return [*state, c.absent_at, *content]


@lru_cache
def _build_range_query(kind: EntityKind) -> sa.Select[Any]:
    c = _TABLES_BY_KIND[kind].c
    since, after = sa.bindparam("at", type_=sa.BigInteger), sa.bindparam("id", type_=sa.Text)
    until = sa.bindparam("until", type_=sa.BigInteger)
    query = sa.select(*_select_columns(kind)).where(c.clerk_id.is_not(None), c.joined_at >= since, c.joined_at < until)
    return query.where(sa.or_(c.joined_at > since, c.id > after)).order_by(c.joined_at, c.id).limit(CHUNK_SIZE)


def _to_mirror_row(row: Any) -> MirroredEntity:
    clerk_id, row_id, version, digest, gone_at, is_kept, is_deactivated, changed_at, _, absent_at, *content = row
    is_deleted = gone_at is not None
    return MirroredEntity(
        clerk_id,
        row_id,
        version,
        digest,
        is_deleted,
        bool(is_kept),
        bool(is_deactivated),
        changed_at,
        tuple(content),
        absent_at,
    )
