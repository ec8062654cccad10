"""The list's SQL: pages of members, each one walk of one index."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from instep.kit.db import Conn, is_among
from instep.mirror.tables import member_counts, memberships, organizations, users
from instep.people.merge import Ask, MemberRow, Members

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
    query: Any = _PAGE.where(m.organization_id == organization_id, m.status == status).limit(limit)
    if start is not None:
        query = query.where(sa.tuple_(m.sort_name, m.id) > sa.tuple_(*map(sa.literal, start)))
    if len(ask.roles) == 1:
        query = query.where(m.role == next(iter(ask.roles)))
    elif ask.roles:
        query = query.where(is_among(conn, m.role, sorted(ask.roles)))
    for word in ask.query.casefold().split():
        query = query.where(m.search_text.contains(word, autoescape=True))
    return [MemberRow(**row._mapping) for row in conn.execute(query)]


def find_joined(conn: Conn, organization_id: str, emails: Sequence[str]) -> set[str]:
    """Which of these addresses (lower case) belong to a member of the organization."""
    email = sa.func.lower(u.email)
    query = (
        sa.select(email)
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, m.status != "removed", is_among(conn, email, sorted(emails)))
    )
    return set(conn.execute(query).scalars())
