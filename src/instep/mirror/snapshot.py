"""The mirror as it is compared with Clerk: its rows as they stand, whatever their digest says; read only."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.identity.model import Kind
from instep.identity.whole import FIELDS, Ours
from instep.kit.db import Conn, is_among
from instep.mirror.tables import memberships, organizations, users

CHUNK = 4_000
_TABLES: dict[Kind, sa.Table] = {"user": users, "organization": organizations, "membership": memberships}


def list_ours(
    conn: Conn, kind: Kind, *, since: int, until: int | None, after: str = ""
) -> tuple[list[Ours], tuple[int, str] | None]:
    """Rows of things made from `since` until before `until`, by Clerk's clock; a few thousand, and where to go on.

    To go on, give the time and the id that came back as `since` and `after`.
    """
    bound = {"at": since, "id": after, "until": 2**62 if until is None else until}
    rows = conn.execute(_in_range(kind), bound).all()
    return [_ours(row) for row in rows], (rows[-1][8], rows[-1][1]) if len(rows) == CHUNK else None


def find_ours(conn: Conn, kind: Kind, clerk_ids: Iterable[str]) -> list[Ours]:
    """The rows of these, wherever they are."""
    table = _TABLES[kind]
    query = sa.select(*_columns(kind)).where(is_among(conn, table.c.clerk_id, sorted(set(clerk_ids))))
    return [_ours(row) for row in conn.execute(query)]


def is_empty(conn: Conn) -> bool:
    """Whether nothing of Clerk's is here yet."""
    known = [sa.select(it.c.id).where(it.c.clerk_id.is_not(None)).limit(1) for it in (users, organizations)]
    return all(conn.execute(query).first() is None for query in known)


def count_ours(conn: Conn, kind: Kind) -> int:
    """How many living things of Clerk's there are here."""
    table = _TABLES[kind]
    living = sa.select(sa.func.count()).where(table.c.clerk_id.is_not(None), table.c.gone_at.is_(None))
    return int(conn.execute(living).scalar_one())


class Shown(Struct, frozen=True):
    """What to call a row."""

    id: str
    label: str


def list_same_address(conn: Conn, limit: int) -> list[tuple[str, list[Shown]]]:
    """Addresses that several living people of Clerk's have here, and who they are."""
    email = sa.func.lower(users.c.email)
    living = (users.c.clerk_id.is_not(None), users.c.gone_at.is_(None), users.c.email.is_not(None))
    several = sa.select(email).where(*living).group_by(email).having(sa.func.count() > 1).limit(limit)
    addresses = [str(it) for it in conn.execute(several).scalars()]
    people = sa.select(email, users.c.id, users.c.clerk_id).where(*living, is_among(conn, email, addresses))
    found: dict[str, list[Shown]] = {address: [] for address in addresses}
    for address, id, clerk_id in conn.execute(people.order_by(users.c.id)):
        found[address].append(Shown(id, clerk_id))
    return sorted(found.items())


def list_unlinked(conn: Conn, limit: int) -> list[tuple[str, str, str]]:
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


def list_invited(conn: Conn, limit: int) -> list[Shown]:
    """Rows that say "invited", from a time when invitations were kept as members."""
    query = (
        sa.select(memberships.c.id, users.c.email, users.c.id)
        .join(users, users.c.id == memberships.c.user_id)
        .where(memberships.c.status == "invited", memberships.c.gone_at.is_(None))
        .order_by(memberships.c.id)
        .limit(limit)
    )
    return [Shown(id, email or user_id) for id, email, user_id in conn.execute(query)]


def find_labels(conn: Conn, kind: Kind, ids: Sequence[str]) -> dict[str, str]:
    """What to call these rows (by our ids): an address or a name; a membership by both its sides."""
    if kind == "user":
        shown = sa.func.coalesce(users.c.email, users.c.username, users.c.sort_name)
        query = sa.select(users.c.id, shown).where(is_among(conn, users.c.id, ids))
    elif kind == "organization":
        query = sa.select(organizations.c.id, organizations.c.name).where(is_among(conn, organizations.c.id, ids))
    else:
        who = sa.func.coalesce(users.c.email, users.c.username, users.c.sort_name)
        query = (
            sa.select(memberships.c.id, who + " in " + organizations.c.name)
            .join(users, users.c.id == memberships.c.user_id)
            .join(organizations, organizations.c.id == memberships.c.organization_id)
            .where(is_among(conn, memberships.c.id, ids))
        )
    return {str(id): str(label) for id, label in conn.execute(query)}


def find_pairs(conn: Conn, membership_ids: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
    """Clerk's ids of the organization and the user of memberships (by Clerk's ids): how Clerk finds one."""
    query = (
        sa.select(memberships.c.clerk_id, organizations.c.clerk_id, users.c.clerk_id)
        .join(users, users.c.id == memberships.c.user_id)
        .join(organizations, organizations.c.id == memberships.c.organization_id)
        .where(is_among(conn, memberships.c.clerk_id, membership_ids))
    )
    return {id: (organization, user) for id, organization, user in conn.execute(query)}


def _columns(kind: Kind) -> list[sa.ColumnElement[Any]]:
    """Our id second and the time of making ninth, which `list_ours` goes on from; the content from the eleventh on."""
    table = _TABLES[kind]
    c = table.c
    no: sa.ColumnElement[bool] = sa.false()
    is_kept, is_deactivated = no, no
    if kind == "user":
        is_deactivated = sa.not_(c.is_active)
    if kind == "membership":
        is_deactivated = c.status == "deactivated"
        is_kept = sa.and_(is_deactivated, sa.func.coalesce(c.deactivation, "") == "membership")
    content = [sa.cast(c[name], sa.Text) if name == "public_metadata" else c[name] for name in FIELDS[kind]]
    standing = [c.clerk_id, c.id, c.version, c.digest, c.gone_at, is_kept, is_deactivated, c.changed_at, c.joined_at]
    return [*standing, c.absent_at, *content]


@lru_cache
def _in_range(kind: Kind) -> sa.Select[Any]:
    c = _TABLES[kind].c
    at, id = sa.bindparam("at", type_=sa.BigInteger), sa.bindparam("id", type_=sa.Text)
    until = sa.bindparam("until", type_=sa.BigInteger)
    query = sa.select(*_columns(kind)).where(c.clerk_id.is_not(None), c.joined_at >= at, c.joined_at < until)
    return query.where(sa.or_(c.joined_at > at, c.id > id)).order_by(c.joined_at, c.id).limit(CHUNK)


def _ours(row: Any) -> Ours:
    clerk_id, id, version, digest, gone_at, is_kept, is_out, changed_at, _, absent_at, *content = row
    is_gone = gone_at is not None
    return Ours(
        clerk_id, id, version, digest, is_gone, bool(is_kept), bool(is_out), changed_at, tuple(content), absent_at
    )
