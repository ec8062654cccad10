"""SQL of the members slice."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from instep.auth.repository import find_roles
from instep.core.db import Conn
from instep.core.sql import fetch_all, is_one_of, is_one_of_parameter, make_list_parameter
from instep.domain.emails import canonicalize_email, list_stored_forms
from instep.domain.models import PRESENT_STATUSES
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog
from instep.members.models import ActivityFilter, MemberFilter, MemberQueryResult, MemberRecord, MemberRow
from instep.mirror import search
from instep.mirror.search import parse_search_query
from instep.mirror.tables import member_counts, memberships, organizations, users

m, u = memberships.c, users.c
_COLUMNS = (
    m.id,
    m.clerk_id,
    m.user_id,
    u.clerk_id.label("clerk_user_id"),
    u.email,
    u.first_name,
    u.last_name,
    u.username,
    u.image_url,
    m.role,
    m.status,
    m.sort_name,
    m.joined_at,
    u.last_active_at,
)
_PAGE = sa.select(*_COLUMNS).select_from(memberships.join(users, u.id == m.user_id)).order_by(m.sort_name, m.id)
_COUNTS = (
    sa.select(organizations.c.max_members, member_counts.c.status, member_counts.c.role, member_counts.c.members)
    .select_from(organizations.outerjoin(member_counts, member_counts.c.organization_id == organizations.c.id))
    .where(organizations.c.id == sa.bindparam("organization_id"))
)


def _get_activity_kind(activity: ActivityFilter | None) -> str:
    if activity is None:
        return ""
    return "never" if activity.is_never else "until" if activity.since is None else "since"


class MemberQueryVariant(Struct, frozen=True):
    """Properties that select a prepared statement.

    `roles` is 0, 1, or 2 for several; `activity` is since, until or never; `is_indexed` finds the words by the search
    index. The limit is part of the statement: PostgreSQL then has one plan for all pages.
    """

    dialect: str
    limit: int
    roles: int
    words: int = 0
    source: str = ""
    activity: str = ""
    has_start: bool = False
    has_end: bool = False
    is_indexed: bool = False
    has_piece: bool = False


def find_members(
    conn: Conn, organization_id: str, filters: MemberFilter, roles: RoleCatalog = UNKNOWN_ROLES
) -> MemberQueryResult:
    """Return up to `limit + 1` members, by status and then by name, with the organization's counts and seats."""
    rows: list[MemberRow] = []
    counted = fetch_all(conn, _COUNTS, {"organization_id": organization_id})
    is_large = sum(members or 0 for *_, members in counted) >= search.LARGE_ORGANIZATION_SIZE
    after = filters.cursor.member if filters.cursor else None
    present_statuses = {status for _, status, _, members in counted if members}
    for status in filters.member_statuses():
        if status not in present_statuses:
            continue
        if after is not None and status < after[0]:
            continue
        start = after[1:] if after is not None and status == after[0] else None
        limit = filters.limit + 1 - len(rows)
        rows += _find_by_status(conn, (organization_id, is_large), filters, (status, start), limit)
        if len(rows) > filters.limit:
            break
    return MemberQueryResult(
        rows=rows,
        counts={(status, role): members for _, status, role, members in counted if members},
        seats=counted[0][0] if counted else None,
        roles=roles,
    )


def _find_by_status(
    conn: Conn,
    organization: tuple[str, bool],
    filters: MemberFilter,
    range_start: tuple[str, Sequence[str] | None],
    limit: int,
) -> list[MemberRow]:
    """Return up to `limit` members of one status.

    `organization`: its id, and True if it is large. `range_start`: the status, and the position after which to start.
    """
    (organization_id, is_large), (status, start) = organization, range_start
    params: dict[str, Any] = {"organization_id": organization_id, "status": status}
    if filters.roles:
        roles = filters.roles
        params["roles"] = make_list_parameter(conn, sorted(roles)) if len(roles) > 1 else next(iter(roles))
    variant = MemberQueryVariant(conn.dialect.name, filters.limit + 1, min(len(filters.roles), 2))
    if filters.activity is not None:
        activity = filters.activity
        params["active_at"] = activity.until if activity.since is None else activity.since
    variant = replace(variant, source=filters.source, activity=_get_activity_kind(filters.activity))
    words = parse_search_query(filters.query)
    if words:
        params |= search.build_search_params(conn, memberships, words, None if is_large else organization_id)
        variant = replace(variant, words=len(words), has_piece=not is_large)

    def read(part: search.SearchRange, limit: int) -> list[MemberRow]:
        bounds = _build_position_parameters("after", part.after) | _build_position_parameters("until", part.until)
        query = _build_page_query(replace(variant, **part.shape))
        return [MemberRow(*row) for row in fetch_all(conn, query, params | bounds)[:limit]]

    def skip(after: search.SearchPosition | None, rows: int) -> search.SearchPosition | None:
        query = _build_skip_query(replace(variant, has_start=after is not None), rows)
        return next(iter(fetch_all(conn, query, params | _build_position_parameters("after", after))), None)

    part = search.SearchRange(start)
    if not words:
        return read(part, limit)
    return search.find_matching_rows(conn, search.SearchableList(memberships, read, skip), words, params, part, limit)


def _build_position_parameters(name: str, position: search.SearchPosition | None) -> dict[str, Any]:
    return {} if position is None else {f"{name}_name": position[0], f"{name}_id": position[1]}


@lru_cache(maxsize=256)
def _build_page_query(variant: MemberQueryVariant) -> sa.Select[Any]:
    """Build the query of one page."""
    if variant.is_indexed:
        return _PAGE.where(m.id.in_(_build_indexed_query(variant)))
    query = _apply_filters(_PAGE, variant, None)
    if variant.words:
        query = query.where(*search.build_match_conditions(variant.dialect, memberships, variant.words))
    return query.limit(sa.literal_column(str(variant.limit), sa.Integer))


def _build_indexed_query(variant: MemberQueryVariant) -> sa.Select[Any]:
    """Build the query of a page's membership ids by the search index; users are joined only for the rows of the page.

    The organization is compared as an expression, so that the planner does not choose another index.
    """
    needs_users = variant.source or variant.activity
    source = memberships.join(users, u.id == m.user_id) if needs_users else memberships
    query = _apply_filters(sa.select(m.id).select_from(source).order_by(m.sort_name, m.id), variant, "")
    query = query.where(*search.build_match_conditions(variant.dialect, memberships, variant.words))
    query = query.where(
        *search.build_index_conditions(variant.dialect, memberships, variant.words, has_piece=variant.has_piece)
    )
    return query.limit(sa.literal_column(str(variant.limit), sa.Integer)).correlate(None)


@lru_cache(maxsize=256)
def _build_skip_query(variant: MemberQueryVariant, rows: int) -> sa.Select[Any]:
    """Build the query of the position `rows` rows further in the list; it has no row where fewer are left.

    Filters on users are left out: a member who was never active may be one in a million.
    """
    query = sa.select(m.sort_name, m.id).order_by(m.sort_name, m.id)
    offset = sa.literal_column(str(rows), sa.Integer)
    return (
        _apply_filters(query, replace(variant, source="", activity=""), None)
        .limit(sa.literal_column("1", sa.Integer))
        .offset(offset)
    )


def _apply_filters(query: sa.Select[Any], variant: MemberQueryVariant, suffix: str | None) -> sa.Select[Any]:
    """Apply all filters but the words. A `suffix` is appended to the organization's id, to avoid its index."""
    organization = m.organization_id if suffix is None else m.organization_id + suffix
    query = query.where(organization == sa.bindparam("organization_id"), m.status == sa.bindparam("status"))
    if variant.has_start:
        query = query.where(sa.tuple_(m.sort_name, m.id) > _build_position("after"))
    if variant.has_end:
        query = query.where(sa.tuple_(m.sort_name, m.id) <= _build_position("until"))
    if variant.roles:
        is_single = variant.roles == 1
        query = query.where(
            m.role == sa.bindparam("roles") if is_single else is_one_of_parameter(variant.dialect, m.role, "roles")
        )
    if variant.source:
        query = query.where(u.clerk_id.is_(None) if variant.source == "local" else u.clerk_id.is_not(None))
    if variant.activity:
        query = query.where(_WAS_ACTIVE[variant.activity])
    return query


_ACTIVE_AT = sa.bindparam("active_at", type_=sa.BigInteger)
_WAS_ACTIVE = {
    "since": u.last_active_at >= _ACTIVE_AT,
    "until": u.last_active_at < _ACTIVE_AT,
    "never": u.last_active_at.is_(None),
}


def _build_position(name: str) -> sa.ColumnElement[Any]:
    return sa.tuple_(sa.bindparam(f"{name}_name", type_=sa.Text), sa.bindparam(f"{name}_id", type_=sa.Text))


def find_joined_addresses(conn: Conn, organization_id: str, emails: Sequence[str]) -> set[str]:
    """Return which of these canonical addresses belong to a member of the organization."""
    email = sa.func.lower(u.email)
    forms = sorted({form for address in emails for form in list_stored_forms(address)})
    query = (
        sa.select(email)
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, m.status != "removed", is_one_of(conn, email, forms))
    )
    return {canonicalize_email(address) for address in conn.execute(query).scalars()}


_IS_BLOCKED = sa.or_(u.is_banned, u.is_deprovisioned)
_IS_LIVE = sa.and_(u.is_active, sa.not_(_IS_BLOCKED), u.deleted_at.is_(None), u.gone_at.is_(None))
_MEMBER = sa.select(*_COLUMNS, m.deactivation, _IS_LIVE.label("is_live")).select_from(
    memberships.join(users, u.id == m.user_id)
)
_STATUS_ORDER = sa.case((m.status.in_(PRESENT_STATUSES), 0), (m.status == "deactivated", 1), else_=2)
_MAX_ID_LENGTH = 200


def find_member(conn: Conn, organization_id: str, member_id: str) -> MemberRecord | None:
    """Return a member by the user's id (instep's or Clerk's) or instep's id of the membership, None if there is none.

    Of several memberships a present one precedes ended ones, and then the newest.
    """
    if not member_id.isprintable() or len(member_id) > _MAX_ID_LENGTH:
        return None
    of_membership = sa.select(m.user_id).where(m.id == member_id)
    is_user = sa.or_(users.c.id == member_id, users.c.clerk_id == member_id, users.c.id.in_(of_membership))
    is_member = m.user_id.in_(sa.select(users.c.id).where(is_user))
    query = _MEMBER.where(m.organization_id == organization_id, is_member)
    row = conn.execute(query.order_by(_STATUS_ORDER, m.joined_at.desc(), m.id.desc()).limit(1)).first()
    return MemberRecord(**row._mapping) if row else None


def list_admins(conn: Conn, organization_id: str, roles: RoleCatalog = UNKNOWN_ROLES) -> dict[str, str]:
    """Return the active admins: membership ids with their user ids (instep's). `roles` are the organization's."""
    query = sa.select(m.id, m.user_id).select_from(memberships.join(users, u.id == m.user_id))
    rows = conn.execute(query.where(m.organization_id == organization_id, _is_admin(roles)))
    return {str(row.id): str(row.user_id) for row in rows}


def find_organizations_without_admin(
    conn: Conn, organization_id: str | None = None, *, limit: int = 500
) -> list[tuple[str, str]]:
    """Return the organizations (id and name) with members and no active admin: all such, or only this one."""
    o = organizations.c
    has_members = sa.exists().where(m.organization_id == o.id, m.status != "removed")
    members = sa.select(1).select_from(memberships.join(users, u.id == m.user_id)).where(m.organization_id == o.id)
    is_admin = sa.or_(
        _is_admin(find_roles(conn)), sa.and_(o.clerk_id.is_(None), _is_admin(find_roles(conn, is_local=True)))
    )
    has_admin = sa.exists(members.where(is_admin))
    query = sa.select(o.id, o.name).where(o.deleted_at.is_(None), o.gone_at.is_(None), has_members, sa.not_(has_admin))
    if organization_id is not None:
        query = query.where(o.id == organization_id)
    return [(row.id, row.name) for row in conn.execute(query.order_by(o.name, o.id).limit(limit))]


def _is_admin(roles: RoleCatalog) -> sa.ColumnElement[bool]:
    return sa.and_(m.status == "active", m.role.in_(sorted(roles.admins)), _IS_LIVE)


def list_other_organizations(conn: Conn, user_id: str, organization_id: str) -> list[tuple[str, str]]:
    """Return the user's other existing organizations (id and name), with an active membership or not, by name."""
    o = organizations.c
    query = (
        sa.select(o.id, o.name)
        .select_from(memberships.join(organizations, o.id == m.organization_id))
        .where(m.user_id == user_id, m.status != "removed", o.id != organization_id)
        .where(o.deleted_at.is_(None), o.gone_at.is_(None))
    )
    return [(row.id, row.name) for row in conn.execute(query.order_by(o.name, o.id).distinct())]
