"""The slice's SQL: pages of people, what they belong to, and what they share with the asker."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from instep.access.principal import Principal
from instep.identity.model import ADMIN
from instep.kit.db import Conn, is_among
from instep.kit.sought import needles
from instep.mirror import search
from instep.mirror.people import COLUMNS, IS_SOMEBODY, PersonRow
from instep.mirror.tables import memberships, organizations, users
from instep.profiles.profile import SHOWN_AT_FIRST, Ask, Belonging, Cursor, Status
from instep.profiles.rules import Tie

u, m, o = users.c, memberships.c, organizations.c

_IS_HERE = sa.and_(o.deleted_at.is_(None), o.gone_at.is_(None), m.status != "removed")
_IS_DELETED = sa.or_(u.deleted_at.is_not(None), u.gone_at.is_not(None))
_BELONGINGS = (
    m.user_id,
    m.id.label("membership_id"),
    o.id.label("organization_id"),
    o.clerk_id.label("organization_clerk_id"),
    o.name,
    o.slug,
    m.role,
    m.status,
)
_at = sa.tuple_(u.joined_at, u.id)
_NEWEST = (u.joined_at.desc(), u.id.desc())
_IS: dict[Status, sa.ColumnElement[bool]] = {
    "deleted": _IS_DELETED,
    "banned": sa.and_(sa.not_(_IS_DELETED), u.is_banned),
    "deactivated": sa.and_(sa.not_(_IS_DELETED), sa.not_(u.is_banned), sa.not_(u.is_active)),
    "local": sa.and_(sa.not_(_IS_DELETED), sa.not_(u.is_banned), u.is_active, u.clerk_id.is_(None)),
    "active": sa.and_(sa.not_(_IS_DELETED), sa.not_(u.is_banned), u.is_active, u.clerk_id.is_not(None)),
}


def list_people(conn: Conn, ask: Ask) -> list[PersonRow]:
    """Up to `limit + 1` people, newest first: one walk of one index from where the last page ended.

    A single word that is somebody's address or id means them; other words are looked for in names, addresses and
    usernames (see kit.sought).
    """
    words = ask.query.split()
    if len(words) == 1 and (
        found := _rows(conn, _ordered(_after(_asked(ask), ask.cursor), ask.limit + 1).where(_is(words[0])))
    ):
        return found
    wanted = needles(ask.query)
    if not wanted:
        return _rows(conn, _ordered(_after(_asked(ask), ask.cursor), ask.limit + 1))
    return _search(conn, ask, wanted)


def _search(conn: Conn, ask: Ask, wanted: Sequence[str]) -> list[PersonRow]:
    """Walk the list as far as it is cheap, then ask the index for the rest of it."""
    dialect, given = conn.dialect.name, search.looking_for(conn, users, wanted)
    query = _asked(ask).where(*search.holds(dialect, users, len(wanted)))
    found: list[PersonRow] = []
    place = ask.cursor
    if not search.has_index(conn):
        return _rows(conn, _ordered(_after(query, place), ask.limit + 1), given)
    for rows, least in search.walks(wanted):
        far = _after(sa.select(u.joined_at, u.id), place).order_by(*_NEWEST).limit(1).offset(rows)
        end = conn.execute(far).first()
        walk = _ordered(_after(query, place), ask.limit + 1 - len(found))
        if end is None:
            return found + _rows(conn, walk, given)
        found += _rows(conn, walk.where(_at >= tuple(end)), given)
        place = Cursor(*end)
        if len(found) > ask.limit:
            return found
        if len(found) < least:
            break
    return found + _rest(conn, query, place, given, ask.limit + 1 - len(found))


def _rest(conn: Conn, query: Any, place: Cursor | None, given: dict[str, Any], limit: int) -> list[PersonRow]:
    """By the index. Nothing is added to the time, so that no index but that of search is taken."""
    joined_at = u.joined_at + 0
    words = sum(name.startswith("needle_") for name in given)
    query = query.where(*search.narrowed(conn.dialect.name, users, words))
    if place is not None:
        query = query.where(sa.tuple_(joined_at, u.id) < (place.joined_at, place.id))
    return _rows(conn, query.order_by(joined_at.desc(), u.id.desc()).limit(limit), given)


def _asked(ask: Ask) -> Any:
    """Whoever is asked for, whatever the words."""
    query = sa.select(*COLUMNS).where(IS_SOMEBODY)
    statuses = ask.statuses or SHOWN_AT_FIRST
    if len(statuses) < len(_IS):
        query = query.where(sa.or_(*(_IS[status] for status in sorted(statuses))))
    if ask.organization is not None:
        query = query.where(u.id.in_(_members_of(ask.organization)))
    return query


def _after(query: Any, cursor: Cursor | None) -> Any:
    return query.where(_at < (cursor.joined_at, cursor.id)) if cursor else query


def _ordered(query: Any, limit: int) -> Any:
    return query.order_by(*_NEWEST).limit(limit)


def _rows(conn: Conn, query: sa.Select[Any], given: Mapping[str, Any] | None = None) -> list[PersonRow]:
    return [PersonRow(**row._mapping) for row in conn.execute(query, given)]


def _is(word: str) -> sa.ColumnElement[bool]:
    return sa.or_(u.id == word, u.clerk_id == word, sa.func.lower(u.email) == word.lower())


def _members_of(ref: str) -> sa.Select[Any]:
    is_meant = sa.or_(o.id == ref, o.clerk_id == ref, o.slug == ref)
    return sa.select(m.user_id).join(organizations, o.id == m.organization_id).where(is_meant, _IS_HERE)


def list_belongings(conn: Conn, user_ids: Sequence[str]) -> dict[str, list[Belonging]]:
    """What each of these people belongs to, or is deactivated in, by the organization's name."""
    if not user_ids:
        return {}
    query = (
        sa.select(*_BELONGINGS)
        .join(organizations, o.id == m.organization_id)
        .where(is_among(conn, m.user_id, user_ids), _IS_HERE)
        .order_by(sa.func.lower(o.name), m.id)
    )
    found: dict[str, list[Belonging]] = {}
    for user_id, *values in conn.execute(query):
        found.setdefault(user_id, []).append(Belonging(**dict(zip(Belonging.__struct_fields__, values, strict=True))))
    return found


def list_ties(conn: Conn, principal: Principal, user_id: str) -> list[Tie]:
    """The organizations that the asker and this person both belong to; a key for one organization is an admin there."""
    theirs = sa.select(m.organization_id, m.role).join(organizations, o.id == m.organization_id)
    theirs = theirs.where(m.user_id == user_id, _IS_HERE)
    if principal.only is not None:
        rows = conn.execute(theirs.where(o.id == principal.only)).all()
        return [Tie(organization_id=id, own=ADMIN, theirs=role) for id, role in rows]
    if principal.user_id is None:
        return []
    own = memberships.alias("own")
    is_own = sa.and_(own.c.organization_id == m.organization_id, own.c.user_id == principal.user_id)
    both = theirs.add_columns(own.c.role).join(own, is_own).where(own.c.status == "active", own.c.gone_at.is_(None))
    return [Tie(organization_id=id, own=mine, theirs=role) for id, role, mine in conn.execute(both)]
