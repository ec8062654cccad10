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
from instep.mirror.search import parse_search_query
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
    """Cache key of a list statement; a cached statement costs a third of building it.

    `limit` is a literal of the statement, so that PostgreSQL has one plan for each. `is_indexed`: use the search index.
    """

    dialect: str
    limit: int
    statuses: frozenset[UserStatus]
    has_organization: bool
    words: int = 0
    has_start: bool = False
    has_end: bool = False
    is_indexed: bool = False


def list_users(conn: Conn, user_filter: UserFilter) -> list[UserRow]:
    """Return up to `limit + 1` users, newest first, by one index scan that starts at the cursor.

    A single word that equals an address or an id matches only that user; other words are searched in names, addresses
    and usernames (see `mirror.search`).
    """
    has_organization = user_filter.organization is not None
    statuses = user_filter.statuses or DEFAULT_STATUSES
    key = UserStatementKey(conn.dialect.name, user_filter.limit + 1, statuses, has_organization)
    cursor = user_filter.cursor
    first_range = search.SearchRange((cursor.joined_at, cursor.user_id) if cursor else None)
    params: dict[str, Any] = {"organization": user_filter.organization} if has_organization else {}
    words = user_filter.query.split()
    if len(words) == 1 and (found := _find_exact_match(conn, words[0], key, first_range, params)):
        return found
    wanted = parse_search_query(user_filter.query)
    if wanted:
        params |= search.build_search_params(conn, users, wanted)
        key = replace(key, words=len(wanted))

    def read_range(scanned: search.SearchRange, limit: int) -> list[UserRow]:
        bounds = _cursor_params("after", scanned.after) | _cursor_params("until", scanned.until)
        return _fetch_users(conn, _build_page(replace(key, **scanned.shape)), params | bounds)[:limit]

    def find_position(after: search.SearchPosition | None, rows: int) -> search.SearchPosition | None:
        query = _build_offset_cursor(after is not None, rows)
        return next(iter(fetch_all(conn, query, _cursor_params("after", after))), None)

    if not wanted:
        return read_range(first_range, key.limit)
    searchable = search.SearchableList(users, read_range, find_position)
    return search.find_matching_rows(conn, searchable, wanted, params, first_range, key.limit)


def _find_exact_match(
    conn: Conn, word: str, key: UserStatementKey, first_range: search.SearchRange, params: dict[str, Any]
) -> list[UserRow]:
    """Return the user whose id or address is this word, if they match the filter and the page."""
    address = canonicalize_email(word)
    identifiers = {"ref": word, "email": address, "shown": format_email(address)}
    query = _build_exact_match(replace(key, **first_range.shape))
    return _fetch_users(conn, query, params | _cursor_params("after", first_range.after) | identifiers)


def _cursor_params(name: str, position: search.SearchPosition | None) -> dict[str, Any]:
    return {} if position is None else {f"{name}_at": position[0], f"{name}_id": position[1]}


@lru_cache(maxsize=256)
def _build_page(key: UserStatementKey) -> sa.Select[Any]:
    """Build the statement of one page.

    With the search index, `+ 0` on the time keeps the planner from taking the index of the order instead.
    """
    joined_at = u.joined_at + 0 if key.is_indexed else u.joined_at
    query = sa.select(*USER_COLUMNS).where(IS_NOT_TOMBSTONE)
    if key.has_start:
        query = query.where(sa.tuple_(joined_at, u.id) < _cursor_tuple("after"))
    if key.has_end:
        query = query.where(sa.tuple_(joined_at, u.id) >= _cursor_tuple("until"))
    if len(key.statuses) < len(_STATUS_CONDITIONS):
        query = query.where(sa.or_(*(_STATUS_CONDITIONS[status] for status in sorted(key.statuses))))
    if key.has_organization:
        query = query.where(u.id.in_(_build_member_ids(sa.bindparam("organization", type_=sa.Text))))
    if key.words:
        query = query.where(*search.build_match_conditions(key.dialect, users, key.words))
    if key.is_indexed:
        query = query.where(*search.build_index_conditions(key.dialect, users, key.words))
    return query.order_by(joined_at.desc(), u.id.desc()).limit(sa.literal_column(str(key.limit), sa.Integer))


@lru_cache(maxsize=16)
def _build_offset_cursor(has_start: bool, rows: int) -> sa.Select[Any]:
    """Build the statement of the position `rows` rows further in the unfiltered list; no row where fewer are left."""
    query = sa.select(u.joined_at, u.id).order_by(u.joined_at.desc(), u.id.desc())
    if has_start:
        query = query.where(sa.tuple_(u.joined_at, u.id) < _cursor_tuple("after"))
    return query.limit(sa.literal_column("1", sa.Integer)).offset(sa.literal_column(str(rows), sa.Integer))


def _cursor_tuple(name: str) -> sa.ColumnElement[Any]:
    return sa.tuple_(sa.bindparam(f"{name}_at", type_=sa.BigInteger), sa.bindparam(f"{name}_id", type_=sa.Text))


def _fetch_users(conn: Conn, query: sa.Select[Any], params: Mapping[str, Any]) -> list[UserRow]:
    return [UserRow(**dict(zip(_USER_FIELDS, row, strict=True))) for row in fetch_all(conn, query, params)]


@lru_cache(maxsize=64)
def _build_exact_match(key: UserStatementKey) -> sa.Select[Any]:
    """Build the statement of the user with an id or a complete address, within the filter and the page."""
    ref = sa.bindparam("ref", type_=sa.Text)
    forms = [sa.bindparam(name, type_=sa.Text) for name in ("email", "shown")]
    has_email = sa.func.lower(u.email).in_(forms)
    return _build_page(key).where(sa.or_(u.id == ref, u.clerk_id == ref, has_email))


def _build_member_ids(ref: sa.BindParameter[str]) -> sa.Select[Any]:
    is_match = sa.or_(o.id == ref, o.clerk_id == ref, o.slug == ref)
    return sa.select(m.user_id).join(organizations, o.id == m.organization_id).where(is_match, _IS_PRESENT)


def list_user_memberships(conn: Conn, user_ids: Sequence[str]) -> dict[str, list[UserMembership]]:
    """Return the active and deactivated memberships of these users by user id, ordered by organization name."""
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
    """Return the organizations that the caller and this user both belong to.

    An API key for one organization counts as an admin of it.
    """
    query = sa.select(m.organization_id, m.role, o.clerk_id, PACKED_ROLES).join(
        organizations, o.id == m.organization_id
    )
    query = query.where(m.user_id == user_id, _IS_PRESENT)
    if principal.bound_organization_id is not None:
        rows = conn.execute(query.where(o.id == principal.bound_organization_id)).all()
        return [
            SharedOrganization(organization_id=organization_id, is_caller_admin=True, role=role)
            for organization_id, role, *_ in rows
        ]
    if principal.user_id is None:
        return []
    own = memberships.alias("own")
    is_own = sa.and_(own.c.organization_id == m.organization_id, own.c.user_id == principal.user_id)
    shared = query.add_columns(own.c.role).join(own, is_own).where(own.c.status == "active", own.c.gone_at.is_(None))
    return [
        SharedOrganization(
            organization_id=organization_id,
            is_caller_admin=unpack_roles(conn, packed, is_local=clerk_id is None).is_admin(own_role),
            role=role,
        )
        for organization_id, role, clerk_id, packed, own_role in conn.execute(shared)
    ]
