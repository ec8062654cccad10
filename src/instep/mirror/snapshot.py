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
    """Rows of things made from `since` until before `until`, by Clerk's clock; a few thousand, and where to go on.

    To go on, give the time and the id that came back as `since` and `after`.
    """
    bound = {"at": since, "id": after, "until": 2**62 if until is None else until}
    rows = conn.execute(_build_range_query(kind), bound).all()
    return [_to_mirror_row(row) for row in rows], (rows[-1][8], rows[-1][1]) if len(rows) == CHUNK_SIZE else None


def find_mirror_rows(conn: Conn, kind: EntityKind, clerk_ids: Iterable[str]) -> list[MirroredEntity]:
    """The rows of these, wherever they are."""
    table = _TABLES_BY_KIND[kind]
    query = sa.select(*_select_columns(kind)).where(is_one_of(conn, table.c.clerk_id, sorted(set(clerk_ids))))
    return [_to_mirror_row(row) for row in conn.execute(query)]


def is_mirror_empty(conn: Conn) -> bool:
    """Whether nothing of Clerk's is here yet."""
    known = [sa.select(it.c.id).where(it.c.clerk_id.is_not(None)).limit(1) for it in (users, organizations)]
    return all(conn.execute(query).first() is None for query in known)


def count_mirror_rows(conn: Conn, kind: EntityKind) -> int:
    """How many living things of Clerk's there are here."""
    table = _TABLES_BY_KIND[kind]
    living = sa.select(sa.func.count()).where(table.c.clerk_id.is_not(None), table.c.gone_at.is_(None))
    return int(conn.execute(living).scalar_one())


class MirrorRowLabel(Struct, frozen=True):
    """What to call a row."""

    id: str
    label: str


def list_duplicate_emails(conn: Conn, limit: int) -> list[tuple[str, list[MirrorRowLabel]]]:
    """Addresses that several living people of Clerk's have here, and who they are."""
    email = sa.func.lower(users.c.email)
    living = (users.c.clerk_id.is_not(None), users.c.gone_at.is_(None), users.c.email.is_not(None))
    several = sa.select(email).where(*living).group_by(email).having(sa.func.count() > 1).limit(limit)
    addresses = [str(it) for it in conn.execute(several).scalars()]
    people = sa.select(email, users.c.id, users.c.clerk_id).where(*living, is_one_of(conn, email, addresses))
    found: dict[str, list[MirrorRowLabel]] = {address: [] for address in addresses}
    for address, id, clerk_id in conn.execute(people.order_by(users.c.id)):
        found[address].append(MirrorRowLabel(id, clerk_id))
    return sorted(found.items())


def list_linkable_users(conn: Conn, limit: int) -> list[tuple[str, str, str]]:
    """People without a Clerk account whose address a person of Clerk's has too: our id, the address, Clerk's id."""
    local, linked = users.alias("local"), users.alias("linked")
    same = sa.func.lower(local.c.email) == sa.func.lower(linked.c.email)
    query = (
        sa.select(local.c.id, local.c.email, linked.c.clerk_id)
        .where(local.c.clerk_id.is_(None), local.c.deleted_at.is_(None), local.c.email.is_not(None))
        .where(linked.c.clerk_id.is_not(None), linked.c.gone_at.is_(None), linked.c.is_email_verified, same)
        .order_by(local.c.id)
        .limit(limit)
    )
    return [(id, email, clerk_id) for id, email, clerk_id in conn.execute(query)]


def list_legacy_invited_members(conn: Conn, limit: int) -> list[MirrorRowLabel]:
    """Rows that say "invited", from a time when invitations were kept as members."""
    query = (
        sa.select(memberships.c.id, users.c.email, users.c.id)
        .join(users, users.c.id == memberships.c.user_id)
        .where(memberships.c.status == "invited", memberships.c.gone_at.is_(None))
        .order_by(memberships.c.id)
        .limit(limit)
    )
    return [MirrorRowLabel(id, email or user_id) for id, email, user_id in conn.execute(query)]


def find_labels(conn: Conn, kind: EntityKind, ids: Sequence[str]) -> dict[str, str]:
    """What to call these rows (by our ids): an address or a name; a membership by both its sides."""
    if kind == "user":
        shown = sa.func.coalesce(users.c.email, users.c.username, users.c.sort_name)
        query = sa.select(users.c.id, shown).where(is_one_of(conn, users.c.id, ids))
    elif kind == "organization":
        query = sa.select(organizations.c.id, organizations.c.name).where(is_one_of(conn, organizations.c.id, ids))
    else:
        who = sa.func.coalesce(users.c.email, users.c.username, users.c.sort_name)
        query = (
            sa.select(memberships.c.id, who + " in " + organizations.c.name)
            .join(users, users.c.id == memberships.c.user_id)
            .join(organizations, organizations.c.id == memberships.c.organization_id)
            .where(is_one_of(conn, memberships.c.id, ids))
        )
    return {str(id): str(label) for id, label in conn.execute(query)}


def find_membership_pairs(conn: Conn, membership_ids: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
    """Clerk's ids of the organization and the user of memberships (by Clerk's ids): how Clerk finds one."""
    query = (
        sa.select(memberships.c.clerk_id, organizations.c.clerk_id, users.c.clerk_id)
        .join(users, users.c.id == memberships.c.user_id)
        .join(organizations, organizations.c.id == memberships.c.organization_id)
        .where(is_one_of(conn, memberships.c.clerk_id, membership_ids))
    )
    return {id: (organization, user) for id, organization, user in conn.execute(query)}


def _select_columns(kind: EntityKind) -> list[sa.ColumnElement[Any]]:
    """Our id second and the time of making ninth, which `list_ours` goes on from; the content from the eleventh on."""
    table = _TABLES_BY_KIND[kind]
    c = table.c
    no: sa.ColumnElement[bool] = sa.false()
    is_kept, is_deactivated = no, no
    if kind == "user":
        is_deactivated = sa.not_(c.is_active)
    if kind == "membership":
        is_deactivated = c.status == "deactivated"
        is_kept = sa.and_(is_deactivated, sa.func.coalesce(c.deactivation, "") == "membership")
    content = [sa.cast(c[name], sa.Text) if name == "public_metadata" else c[name] for name in CONTENT_FIELDS[kind]]
    standing = [c.clerk_id, c.id, c.version, c.digest, c.gone_at, is_kept, is_deactivated, c.changed_at, c.joined_at]
    return [*standing, c.absent_at, *content]


@lru_cache
def _build_range_query(kind: EntityKind) -> sa.Select[Any]:
    c = _TABLES_BY_KIND[kind].c
    at, id = sa.bindparam("at", type_=sa.BigInteger), sa.bindparam("id", type_=sa.Text)
    until = sa.bindparam("until", type_=sa.BigInteger)
    query = sa.select(*_select_columns(kind)).where(c.clerk_id.is_not(None), c.joined_at >= at, c.joined_at < until)
    return query.where(sa.or_(c.joined_at > at, c.id > id)).order_by(c.joined_at, c.id).limit(CHUNK_SIZE)


def _to_mirror_row(row: Any) -> MirroredEntity:
    clerk_id, id, version, digest, gone_at, is_kept, is_out, changed_at, _, absent_at, *content = row
    is_gone = gone_at is not None
    return MirroredEntity(
        clerk_id, id, version, digest, is_gone, bool(is_kept), bool(is_out), changed_at, tuple(content), absent_at
    )
