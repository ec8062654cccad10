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
from instep.mirror.search_text import parse_search_query
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
    """Which statement: `roles` is 0, 1, or 2 for several; `is_indexed` looks for the words in the index of search.
    `activity` is since, until or never.

    The limit is written out: PostgreSQL then has one plan for all pages and need not make one for each.
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
    conn: Conn, organization_id: str, ask: MemberFilter, roles: RoleCatalog = UNKNOWN_ROLES
) -> MemberQueryResult:
    """Up to `limit + 1` members of one page, by status and then by name; the counts and seats of the organization."""
    rows: list[MemberRow] = []
    counted = fetch_all(conn, _COUNTS, {"organization_id": organization_id})
    is_big = sum(members or 0 for *_, members in counted) >= search.LARGE_ORGANIZATION_SIZE
    after = ask.cursor.member if ask.cursor else None
    has_any = {status for _, status, _, members in counted if members}
    for status in ask.member_statuses():
        if status not in has_any:
            continue
        if after is not None and status < after[0]:
            continue
        start = after[1:] if after is not None and status == after[0] else None
        rows += _find_by_status(conn, (organization_id, is_big), ask, (status, start), ask.limit + 1 - len(rows))
        if len(rows) > ask.limit:
            break
    return MemberQueryResult(
        rows=rows,
        counts={(status, role): members for _, status, role, members in counted if members},
        seats=counted[0][0] if counted else None,
        roles=roles,
    )


def _find_by_status(
    conn: Conn, where: tuple[str, bool], ask: MemberFilter, since: tuple[str, Sequence[str] | None], limit: int
) -> list[MemberRow]:
    """Up to `limit` members of one status. `where`: the organization, and whether it is big; `since`: which status,
    and after which member of it.
    """
    (organization_id, is_big), (status, start) = where, since
    given: dict[str, Any] = {"organization_id": organization_id, "status": status}
    if ask.roles:
        given["roles"] = make_list_parameter(conn, sorted(ask.roles)) if len(ask.roles) > 1 else next(iter(ask.roles))
    shape = MemberQueryVariant(conn.dialect.name, ask.limit + 1, min(len(ask.roles), 2))
    if ask.activity is not None:
        given["active_at"] = ask.activity.until if ask.activity.since is None else ask.activity.since
    shape = replace(shape, source=ask.source, activity=_get_activity_kind(ask.activity))
    wanted = parse_search_query(ask.query)
    if wanted:
        given |= search.build_search_params(conn, memberships, wanted, None if is_big else organization_id)
        shape = replace(shape, words=len(wanted), has_piece=not is_big)

    def read(part: search.SearchRange, limit: int) -> list[MemberRow]:
        places = _build_position_parameters("after", part.after) | _build_position_parameters("until", part.until)
        page = _build_page_query(replace(shape, **part.shape))
        return [MemberRow(*row) for row in fetch_all(conn, page, given | places)[:limit]]

    def go(after: search.SearchPosition | None, rows: int) -> search.SearchPosition | None:
        far = _build_skip_query(replace(shape, has_start=after is not None), rows)
        return next(iter(fetch_all(conn, far, given | _build_position_parameters("after", after))), None)

    part = search.SearchRange(start)
    if not wanted:
        return read(part, limit)
    return search.find_matching_rows(conn, search.SearchableList(memberships, read, go), wanted, given, part, limit)


def _build_position_parameters(name: str, place: search.SearchPosition | None) -> dict[str, Any]:
    return {} if place is None else {f"{name}_name": place[0], f"{name}_id": place[1]}


@lru_cache(maxsize=256)
def _build_page_query(shape: MemberQueryVariant) -> sa.Select[Any]:
    """One page."""
    if shape.is_indexed:
        return _PAGE.where(m.id.in_(_build_indexed_query(shape)))
    query = _apply_filters(_PAGE, shape, None)
    if shape.words:
        query = query.where(*search.build_match_conditions(shape.dialect, memberships, shape.words))
    return query.limit(sa.literal_column(str(shape.limit), sa.Integer))


def _build_indexed_query(shape: MemberQueryVariant) -> sa.Select[Any]:
    """A page's members by the index of search; the person is read of those alone that are shown.

    Nothing is added to an id, so that no other index is taken.
    """
    looks_at_people = shape.source or shape.activity
    source = memberships.join(users, u.id == m.user_id) if looks_at_people else memberships
    query = _apply_filters(sa.select(m.id).select_from(source).order_by(m.sort_name, m.id), shape, "")
    query = query.where(*search.build_match_conditions(shape.dialect, memberships, shape.words))
    query = query.where(
        *search.build_index_conditions(shape.dialect, memberships, shape.words, has_piece=shape.has_piece)
    )
    return query.limit(sa.literal_column(str(shape.limit), sa.Integer)).correlate(None)


@lru_cache(maxsize=256)
def _build_skip_query(shape: MemberQueryVariant, rows: int) -> sa.Select[Any]:
    """The place so many rows further in the list that those before it are walked; none where fewer are left.

    What is looked at in the person counts for nothing here: who was never active may be one of a million.
    """
    query = sa.select(m.sort_name, m.id).order_by(m.sort_name, m.id)
    offset = sa.literal_column(str(rows), sa.Integer)
    return (
        _apply_filters(query, replace(shape, source="", activity=""), None)
        .limit(sa.literal_column("1", sa.Integer))
        .offset(offset)
    )


def _apply_filters(query: sa.Select[Any], shape: MemberQueryVariant, nothing: str | None) -> sa.Select[Any]:
    """The part of the list that is asked for, whatever the words."""
    organization = m.organization_id if nothing is None else m.organization_id + nothing
    query = query.where(organization == sa.bindparam("organization_id"), m.status == sa.bindparam("status"))
    if shape.has_start:
        query = query.where(sa.tuple_(m.sort_name, m.id) > _build_position("after"))
    if shape.has_end:
        query = query.where(sa.tuple_(m.sort_name, m.id) <= _build_position("until"))
    if shape.roles:
        of_one = m.role == sa.bindparam("roles")
        query = query.where(of_one if shape.roles == 1 else is_one_of_parameter(shape.dialect, m.role, "roles"))
    if shape.source:
        query = query.where(u.clerk_id.is_(None) if shape.source == "local" else u.clerk_id.is_not(None))
    if shape.activity:
        query = query.where(_WAS_ACTIVE[shape.activity])
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
    forms = sorted({form for it in emails for form in list_stored_forms(it)})
    query = (
        sa.select(email)
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, m.status != "removed", is_one_of(conn, email, forms))
    )
    return {canonicalize_email(it) for it in conn.execute(query).scalars()}


_IS_BARRED = sa.or_(u.is_banned, u.is_deprovisioned)
_LIVE = sa.and_(u.is_active, sa.not_(_IS_BARRED), u.deleted_at.is_(None), u.gone_at.is_(None))
_MEMBER = sa.select(*_COLUMNS, m.deactivation, _LIVE.label("is_live")).select_from(
    memberships.join(users, u.id == m.user_id)
)
_STATUS_ORDER = sa.case((m.status.in_(PRESENT_STATUSES), 0), (m.status == "deactivated", 1), else_=2)
_MAX_REFERENCE_LENGTH = 200


def find_member(conn: Conn, organization_id: str, ref: str) -> MemberRecord | None:
    """One person's place in an organization, by the person's id (ours or Clerk's) or the membership's (ours).

    Of several, the present one goes before those that ended, and then the newest.
    """
    if not ref.isprintable() or len(ref) > _MAX_REFERENCE_LENGTH:
        return None
    of_membership = sa.select(m.user_id).where(m.id == ref)
    is_person = sa.or_(users.c.id == ref, users.c.clerk_id == ref, users.c.id.in_(of_membership))
    is_meant = m.user_id.in_(sa.select(users.c.id).where(is_person))
    query = _MEMBER.where(m.organization_id == organization_id, is_meant)
    row = conn.execute(query.order_by(_STATUS_ORDER, m.joined_at.desc(), m.id.desc()).limit(1)).first()
    return MemberRecord(**row._mapping) if row else None


def list_admins(conn: Conn, organization_id: str, roles: RoleCatalog = UNKNOWN_ROLES) -> dict[str, str]:
    """The memberships of an organization's active admins, and whose they are (our ids). `roles` are those it has."""
    query = sa.select(m.id, m.user_id).select_from(memberships.join(users, u.id == m.user_id))
    rows = conn.execute(query.where(m.organization_id == organization_id, _is_admin(roles)))
    return {str(row.id): str(row.user_id) for row in rows}


def find_organizations_without_admin(
    conn: Conn, organization_id: str | None = None, *, limit: int = 500
) -> list[tuple[str, str]]:
    """Organizations (id and name) that have members and no active admin: they need attention. All, or this one."""
    o = organizations.c
    has_members = sa.exists().where(m.organization_id == o.id, m.status != "removed")
    theirs = sa.select(1).select_from(memberships.join(users, u.id == m.user_id)).where(m.organization_id == o.id)
    is_admin = sa.or_(
        _is_admin(find_roles(conn)), sa.and_(o.clerk_id.is_(None), _is_admin(find_roles(conn, is_local=True)))
    )
    has_admin = sa.exists(theirs.where(is_admin))
    query = sa.select(o.id, o.name).where(o.deleted_at.is_(None), o.gone_at.is_(None), has_members, sa.not_(has_admin))
    if organization_id is not None:
        query = query.where(o.id == organization_id)
    return [(id, name) for id, name in conn.execute(query.order_by(o.name, o.id).limit(limit))]


def _is_admin(roles: RoleCatalog) -> sa.ColumnElement[bool]:
    return sa.and_(m.status == "active", m.role.in_(sorted(roles.admins)), _LIVE)


def list_other_organizations(conn: Conn, user_id: str, organization_id: str) -> list[tuple[str, str]]:
    """The other live organizations (id and name) that a person belongs to, active or not, by name."""
    o = organizations.c
    query = (
        sa.select(o.id, o.name)
        .select_from(memberships.join(organizations, o.id == m.organization_id))
        .where(m.user_id == user_id, m.status != "removed", o.id != organization_id)
        .where(o.deleted_at.is_(None), o.gone_at.is_(None))
    )
    return [(id, name) for id, name in conn.execute(query.order_by(o.name, o.id).distinct())]
