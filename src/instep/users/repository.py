"""Queries for pages of users, their memberships and the organizations shared with the caller."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from instep.auth.principal import Principal
from instep.auth.repository import PACKED_ROLES, unpack_roles
from instep.core.db import Conn
from instep.core.sql import fetch_all, is_one_of_parameter, make_list_parameter
from instep.domain.emails import canonicalize_email, format_email
from instep.mirror import search
from instep.mirror.search_text import parse_search_query
from instep.mirror.tables import memberships, organizations, users
from instep.mirror.user_repository import IS_NOT_TOMBSTONE, USER_COLUMNS, UserRow
from instep.users.models import DEFAULT_STATUSES, SharedOrganization, UserFilter, UserMembership, UserStatus

u, m, o = users.c, memberships.c, organizations.c
_IS_PRESENT = sa.and_(o.deleted_at.is_(None), o.gone_at.is_(None), m.status != "removed")
_IS_DELETED = sa.or_(u.deleted_at.is_not(None), u.gone_at.is_not(None))
_IS_BARRED = sa.or_(u.is_banned, u.is_deprovisioned)
_MEMBERSHIP_COLUMNS = (
    m.user_id,
    m.id.label("membership_id"),
    o.id.label("organization_id"),
    o.clerk_id.label("organization_clerk_id"),
    o.name,
    o.slug,
    m.role,
    m.status,
)
_USER_FIELDS = UserRow.__struct_fields__
_STATUS_CONDITIONS: dict[UserStatus, sa.ColumnElement[bool]] = {
    "deleted": _IS_DELETED,
    "banned": sa.and_(sa.not_(_IS_DELETED), u.is_banned),
    "deprovisioned": sa.and_(sa.not_(_IS_DELETED), sa.not_(u.is_banned), u.is_deprovisioned),
    "deactivated": sa.and_(sa.not_(_IS_DELETED), sa.not_(_IS_BARRED), sa.not_(u.is_active)),
    "local": sa.and_(sa.not_(_IS_DELETED), sa.not_(_IS_BARRED), u.is_active, u.clerk_id.is_(None)),
    "active": sa.and_(sa.not_(_IS_DELETED), sa.not_(_IS_BARRED), u.is_active, u.clerk_id.is_not(None)),
}


class UserStatementKey(Struct, frozen=True):
    """Which statement: built once, it costs a third; the limit is written out, so that PostgreSQL has one plan for it.

    `is_indexed` looks for the words in the index of search.
    """

    dialect: str
    limit: int
    statuses: frozenset[UserStatus]
    has_organization: bool
    words: int = 0
    has_start: bool = False
    has_end: bool = False
    is_indexed: bool = False


def list_users(conn: Conn, ask: UserFilter) -> list[UserRow]:
    """Up to `limit + 1` people, newest first: one walk of one index from where the last page ended.

    A single word that is somebody's address or id means them; other words are looked for in names, addresses and
    usernames (see kit.sought).
    """
    has_organization = ask.organization is not None
    shape = UserStatementKey(conn.dialect.name, ask.limit + 1, ask.statuses or DEFAULT_STATUSES, has_organization)
    part = search.SearchRange((ask.cursor.joined_at, ask.cursor.id) if ask.cursor else None)
    given: dict[str, Any] = {"organization": ask.organization} if has_organization else {}
    words = ask.query.split()
    if len(words) == 1:
        named = _build_exact_match(replace(shape, **part.shape))
        address = canonicalize_email(words[0])
        meant = (
            given
            | _cursor_params("after", part.after)
            | {"ref": words[0], "email": address, "shown": format_email(address)}
        )
        if found := _fetch_users(conn, named, meant):
            return found
    wanted = parse_search_query(ask.query)
    if wanted:
        given |= search.build_search_params(conn, users, wanted)
        shape = replace(shape, words=len(wanted))

    def read(part: search.SearchRange, limit: int) -> list[UserRow]:
        places = _cursor_params("after", part.after) | _cursor_params("until", part.until)
        return _fetch_users(conn, _build_page(replace(shape, **part.shape)), given | places)[:limit]

    def go(after: search.SearchPosition | None, rows: int) -> search.SearchPosition | None:
        far = _build_offset_cursor(after is not None, rows)
        return next(iter(fetch_all(conn, far, _cursor_params("after", after))), None)

    if not wanted:
        return read(part, shape.limit)
    return search.find_matching_rows(conn, search.SearchableList(users, read, go), wanted, given, part, shape.limit)


def _cursor_params(name: str, place: search.SearchPosition | None) -> dict[str, Any]:
    return {} if place is None else {f"{name}_at": place[0], f"{name}_id": place[1]}


@lru_cache(maxsize=256)
def _build_page(shape: UserStatementKey) -> sa.Select[Any]:
    """One page. Where the index of search narrows it, nothing is added to the time, so that no other index is taken."""
    joined_at = u.joined_at + 0 if shape.is_indexed else u.joined_at
    query = sa.select(*USER_COLUMNS).where(IS_NOT_TOMBSTONE)
    if shape.has_start:
        query = query.where(sa.tuple_(joined_at, u.id) < _cursor_tuple("after"))
    if shape.has_end:
        query = query.where(sa.tuple_(joined_at, u.id) >= _cursor_tuple("until"))
    if len(shape.statuses) < len(_STATUS_CONDITIONS):
        query = query.where(sa.or_(*(_STATUS_CONDITIONS[status] for status in sorted(shape.statuses))))
    if shape.has_organization:
        query = query.where(u.id.in_(_build_member_ids(sa.bindparam("organization", type_=sa.Text))))
    if shape.words:
        query = query.where(*search.build_match_conditions(shape.dialect, users, shape.words))
    if shape.is_indexed:
        query = query.where(*search.build_index_conditions(shape.dialect, users, shape.words))
    return query.order_by(joined_at.desc(), u.id.desc()).limit(sa.literal_column(str(shape.limit), sa.Integer))


@lru_cache(maxsize=16)
def _build_offset_cursor(has_start: bool, rows: int) -> sa.Select[Any]:
    """The place so many rows further in the list, whoever is asked for; none where fewer are left."""
    query = sa.select(u.joined_at, u.id).order_by(u.joined_at.desc(), u.id.desc())
    if has_start:
        query = query.where(sa.tuple_(u.joined_at, u.id) < _cursor_tuple("after"))
    return query.limit(sa.literal_column("1", sa.Integer)).offset(sa.literal_column(str(rows), sa.Integer))


def _cursor_tuple(name: str) -> sa.ColumnElement[Any]:
    return sa.tuple_(sa.bindparam(f"{name}_at", type_=sa.BigInteger), sa.bindparam(f"{name}_id", type_=sa.Text))


def _fetch_users(conn: Conn, query: sa.Select[Any], given: Mapping[str, Any]) -> list[UserRow]:
    return [UserRow(**dict(zip(_USER_FIELDS, row, strict=True))) for row in fetch_all(conn, query, given)]


@lru_cache(maxsize=64)
def _build_exact_match(shape: UserStatementKey) -> sa.Select[Any]:
    """Whoever is meant by an id or a whole address, if they are on the page."""
    ref = sa.bindparam("ref", type_=sa.Text)
    forms = [sa.bindparam(name, type_=sa.Text) for name in ("email", "shown")]
    has_email = sa.func.lower(u.email).in_(forms)
    return _build_page(shape).where(sa.or_(u.id == ref, u.clerk_id == ref, has_email))


def _build_member_ids(ref: sa.BindParameter[str]) -> sa.Select[Any]:
    is_meant = sa.or_(o.id == ref, o.clerk_id == ref, o.slug == ref)
    return sa.select(m.user_id).join(organizations, o.id == m.organization_id).where(is_meant, _IS_PRESENT)


def list_user_memberships(conn: Conn, user_ids: Sequence[str]) -> dict[str, list[UserMembership]]:
    """What each of these people belongs to, or is deactivated in, by the organization's name."""
    if not user_ids:
        return {}
    found: dict[str, list[UserMembership]] = {}
    for user_id, *values in fetch_all(
        conn, _build_memberships(conn.dialect.name), {"user_ids": make_list_parameter(conn, user_ids)}
    ):
        found.setdefault(user_id, []).append(
            UserMembership(**dict(zip(UserMembership.__struct_fields__, values, strict=True)))
        )
    return found


@lru_cache
def _build_memberships(dialect: str) -> sa.Select[Any]:
    query = sa.select(*_MEMBERSHIP_COLUMNS).join(organizations, o.id == m.organization_id)
    return query.where(is_one_of_parameter(dialect, m.user_id, "user_ids"), _IS_PRESENT).order_by(
        sa.func.lower(o.name), m.id
    )


def list_shared_organizations(conn: Conn, principal: Principal, user_id: str) -> list[SharedOrganization]:
    """The organizations that the asker and this person both belong to; a key for one organization is an admin there."""
    theirs = sa.select(m.organization_id, m.role, o.clerk_id, PACKED_ROLES).join(
        organizations, o.id == m.organization_id
    )
    theirs = theirs.where(m.user_id == user_id, _IS_PRESENT)
    if principal.bound_organization_id is not None:
        rows = conn.execute(theirs.where(o.id == principal.bound_organization_id)).all()
        return [SharedOrganization(organization_id=id, is_admin=True, theirs=role) for id, role, *_ in rows]
    if principal.user_id is None:
        return []
    own = memberships.alias("own")
    is_own = sa.and_(own.c.organization_id == m.organization_id, own.c.user_id == principal.user_id)
    both = theirs.add_columns(own.c.role).join(own, is_own).where(own.c.status == "active", own.c.gone_at.is_(None))
    return [
        SharedOrganization(
            organization_id=id,
            is_admin=unpack_roles(conn, packed, is_local=clerk_id is None).is_admin(mine),
            theirs=role,
        )
        for id, role, clerk_id, packed, mine in conn.execute(both)
    ]
