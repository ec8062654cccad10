"""The SQL of history: what waits for a person, and what to call those whom the records name by ids."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.access.tables import api_keys
from instep.identity.addresses import invitation_target
from instep.journal.tables import UNFINISHED, operations
from instep.kit.db import Conn, is_among
from instep.kit.sought import needles
from instep.mirror import search
from instep.mirror.tables import memberships, organizations, users

u, m, o, k = users.c, memberships.c, organizations.c, api_keys.c
_NAMES = (u.first_name, u.last_name, u.username, u.email)
MOST_FOUND = 8


class Found(Struct, frozen=True, kw_only=True):
    """Someone whom a reader looks for, with every name under which the records may know them."""

    id: str
    name: str
    email: str | None
    aliases: tuple[str, ...]


def count_attention(conn: Conn, organization_id: str | None) -> int:
    """How many operations need a person; in one organization, or in all."""
    c = operations.c
    query = sa.select(sa.func.count()).select_from(operations).where(UNFINISHED, c.state == "attention")
    if organization_id is not None:
        query = query.where(c.organization_id == organization_id)
    return int(conn.execute(query).scalar_one())


def list_names(conn: Conn, ids: Iterable[str]) -> dict[str, str]:
    """What to call people, memberships, organizations and keys (our ids, or Clerk's); unknown ones are left out."""
    wanted = sorted(set(ids))
    of_members = memberships.join(users, u.id == m.user_id)
    queries: tuple[sa.Select[Any], ...] = (
        sa.select(u.id, u.clerk_id, *_NAMES).where(_is_one(conn, users, wanted)),
        sa.select(m.id, m.clerk_id, *_NAMES).select_from(of_members).where(_is_one(conn, memberships, wanted)),
        sa.select(o.id, o.clerk_id, o.name).where(_is_one(conn, organizations, wanted)),
        sa.select(k.id, sa.null(), k.name).where(is_among(conn, k.id, wanted)),
    )
    rows = [row for query in queries for row in conn.execute(query)]
    return {id: _name(*names) for ours, theirs, *names in rows for id in (ours, theirs) if id}


def find_people(conn: Conn, words: str, organization_id: str | None) -> list[Found]:
    """Whom these words mean: an id, or parts of a name or an address; up to eight, in one organization or in all."""
    query = sa.select(u.id, u.clerk_id, *_NAMES)
    if organization_id is not None:
        query = query.where(u.id.in_(sa.select(m.user_id).where(m.organization_id == organization_id)))
    rows = conn.execute(query.where(sa.or_(u.id == words, u.clerk_id == words)).limit(MOST_FOUND)).all()
    if not rows and (wanted := needles(words)):
        dialect, has_index = conn.dialect.name, search.has_index(conn)
        query = query.where(*search.holds(dialect, users, len(wanted)))
        narrowed = query.where(*search.narrowed(dialect, users, len(wanted))) if has_index else query
        by_name = narrowed.order_by(u.sort_name, u.id).limit(MOST_FOUND)
        rows = conn.execute(by_name, search.looking_for(conn, users, wanted)).all()
    return [_found(conn, row) for row in rows]


def _found(conn: Conn, row: Sequence[Any]) -> Found:
    id, clerk_id, *names = row
    email = names[-1]
    query = sa.select(m.id, m.clerk_id, o.clerk_id).select_from(memberships.join(organizations))
    aliases = [id, f"user:{id}", clerk_id]
    for membership, clerk_membership, organization in conn.execute(query.where(m.user_id == id)):
        aliases += [membership, f"membership:{membership}", f"standing:{membership}", clerk_membership]
        aliases += [invitation_target(organization, email)] if email and organization else []
    known = tuple(dict.fromkeys(it for it in aliases if it))
    return Found(id=id, name=_name(*names), email=email, aliases=known)


def _is_one(conn: Conn, table: sa.Table, wanted: list[str]) -> sa.ColumnElement[bool]:
    return sa.or_(is_among(conn, table.c.id, wanted), is_among(conn, table.c.clerk_id, wanted))


def _name(*parts: str | None) -> str:
    """A name alone, or the first of: first and last name, username, address."""
    if len(parts) == 1:
        return parts[0] or ""
    first, last, username, email = parts
    return " ".join(part for part in (first, last) if part) or username or email or ""
