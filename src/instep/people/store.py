"""The list's SQL: pages of members, each one walk of one index; and what a change must know of one member."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from instep.identity.model import ADMIN
from instep.kit.db import Conn, is_among, is_in, listed
from instep.mirror.tables import member_counts, memberships, organizations, users
from instep.people.merge import Ask, MemberRow, Members
from instep.people.rules import Member

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
_FIELDS = MemberRow.__struct_fields__
_COUNTS = (
    sa.select(organizations.c.max_members, member_counts.c.status, member_counts.c.role, member_counts.c.members)
    .select_from(organizations.outerjoin(member_counts, member_counts.c.organization_id == organizations.c.id))
    .where(organizations.c.id == sa.bindparam("organization_id"))
)


def find_members(conn: Conn, organization_id: str, ask: Ask) -> Members:
    """Up to `limit + 1` members of one page, by status and then by name; the counts and seats of the organization."""
    rows: list[MemberRow] = []
    after = ask.cursor.member if ask.cursor else None
    for status in ask.member_statuses():
        if after is not None and status < after[0]:
            continue
        start = after[1:] if after is not None and status == after[0] else None
        rows += _find(conn, organization_id, ask, status, start, ask.limit + 1 - len(rows))
        if len(rows) > ask.limit:
            break
    counted = conn.execute(_COUNTS, {"organization_id": organization_id}).all()
    return Members(
        rows=rows,
        counts={(status, role): members for _, status, role, members in counted if members},
        seats=counted[0].max_members if counted else None,
    )


def _find(
    conn: Conn, organization_id: str, ask: Ask, status: str, start: Sequence[str] | None, limit: int
) -> list[MemberRow]:
    words = ask.query.casefold().split()
    given = {"organization_id": organization_id, "status": status}
    if start is not None:
        given |= {"after_name": start[0], "after_id": start[1]}
    if ask.roles:
        given["roles"] = listed(conn, sorted(ask.roles)) if len(ask.roles) > 1 else next(iter(ask.roles))
    given |= {f"word_{i}": f"%{_escaped(word)}%" for i, word in enumerate(words)}
    query = _page(conn.dialect.name, ask.limit + 1, start is not None, min(len(ask.roles), 2), len(words))
    rows = conn.execute(query, given).fetchmany(limit)
    return [MemberRow(**dict(zip(_FIELDS, row, strict=True))) for row in rows]


@lru_cache(maxsize=64)
def _page(dialect: str, limit: int, has_start: bool, roles: int, words: int) -> sa.Select[Any]:
    """One page, in one of its shapes; `roles` is 0, 1, or 2 for several.

    The limit is written out: PostgreSQL then has one plan for all pages and need not make one for each.
    """
    query = _PAGE.where(m.organization_id == sa.bindparam("organization_id"), m.status == sa.bindparam("status"))
    if has_start:
        start = sa.tuple_(sa.bindparam("after_name", type_=sa.Text), sa.bindparam("after_id", type_=sa.Text))
        query = query.where(sa.tuple_(m.sort_name, m.id) > start)
    if roles:
        query = query.where(m.role == sa.bindparam("roles") if roles == 1 else is_in(dialect, m.role, "roles"))
    for i in range(words):
        query = query.where(m.search_text.like(sa.bindparam(f"word_{i}"), escape="/"))
    return query.limit(sa.literal_column(str(limit), sa.Integer))


def _escaped(word: str) -> str:
    return word.replace("/", "//").replace("%", "/%").replace("_", "/_")


def find_joined(conn: Conn, organization_id: str, emails: Sequence[str]) -> set[str]:
    """Which of these addresses (lower case) belong to a member of the organization."""
    email = sa.func.lower(u.email)
    query = (
        sa.select(email)
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, m.status != "removed", is_among(conn, email, sorted(emails)))
    )
    return set(conn.execute(query).scalars())


_LIVE = sa.and_(u.is_active, sa.not_(u.is_banned), u.deleted_at.is_(None), u.gone_at.is_(None))
_MEMBER = sa.select(*_COLUMNS, m.deactivation, _LIVE.label("is_live")).select_from(
    memberships.join(users, u.id == m.user_id)
)
_STANDING = sa.case((m.status == "active", 0), (m.status == "deactivated", 1), else_=2)
_IS_ADMIN = sa.and_(m.status == "active", m.role == ADMIN, _LIVE)
_LONGEST_REF = 200


def find_member(conn: Conn, organization_id: str, ref: str) -> Member | None:
    """One person's place in an organization, by the person's id (ours or Clerk's) or the membership's (ours).

    Of several, the present one goes before those that ended, and then the newest.
    """
    if not ref.isprintable() or len(ref) > _LONGEST_REF:
        return None
    of_membership = sa.select(m.user_id).where(m.id == ref)
    is_person = sa.or_(users.c.id == ref, users.c.clerk_id == ref, users.c.id.in_(of_membership))
    is_meant = m.user_id.in_(sa.select(users.c.id).where(is_person))
    query = _MEMBER.where(m.organization_id == organization_id, is_meant)
    row = conn.execute(query.order_by(_STANDING, m.joined_at.desc(), m.id.desc()).limit(1)).first()
    return Member(**row._mapping) if row else None


def list_admins(conn: Conn, organization_id: str) -> dict[str, str]:
    """The memberships of an organization's active admins, and whose they are (our ids)."""
    query = sa.select(m.id, m.user_id).select_from(memberships.join(users, u.id == m.user_id))
    rows = conn.execute(query.where(m.organization_id == organization_id, _IS_ADMIN))
    return {str(row.id): str(row.user_id) for row in rows}


def find_without_admin(conn: Conn, organization_id: str | None = None, *, limit: int = 500) -> list[tuple[str, str]]:
    """Organizations (id and name) that have members and no active admin: they need attention. All, or this one."""
    o = organizations.c
    has_members = sa.exists().where(m.organization_id == o.id, m.status != "removed")
    has_admin = sa.exists(
        sa.select(1).select_from(memberships.join(users, u.id == m.user_id)).where(m.organization_id == o.id, _IS_ADMIN)
    )
    query = sa.select(o.id, o.name).where(o.deleted_at.is_(None), o.gone_at.is_(None), has_members, sa.not_(has_admin))
    if organization_id is not None:
        query = query.where(o.id == organization_id)
    return [(id, name) for id, name in conn.execute(query.order_by(o.name, o.id).limit(limit))]


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
