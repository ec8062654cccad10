"""Membership statuses that the database decides: deactivate, reactivate, remove, restore."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from instep.core.db import Conn
from instep.core.sql import is_one_of
from instep.domain.models import PRESENT_STATUSES
from instep.mirror.tables import memberships, organizations, users

DeactivationScope = Literal["database", "membership", "ban"]
m = memberships.c
STATUS_FROM_USER = sa.case(
    (users.c.is_banned, "banned"),
    (users.c.is_deprovisioned, "deprovisioned"),
    (sa.not_(users.c.is_active), "banned"),
    else_="active",
)
"""Status of a membership by its user's row, if the database itself decides nothing.

A user who is locked out by the application counts as banned. A trigger (migration 0002) applies changes of the user.
"""

STATUS_FROM_USER_SUBQUERY = sa.select(STATUS_FROM_USER).where(users.c.id == m.user_id).scalar_subquery()
"""The same as a subquery, for statements about memberships."""

_IS_KEPT_AFTER_REMOVAL = sa.and_(m.status == "deactivated", m.deactivation == "membership")
STATUS_AFTER_DELETION = sa.case((_IS_KEPT_AFTER_REMOVAL, m.status), else_="removed")
"""Status of a membership that Clerk deleted: one deactivated here by removing it there stays deactivated."""


def lock_organization(conn: Conn, organization_id: str) -> None:
    """Block other changes of membership statuses in this organization until the transaction ends.

    PostgreSQL: locks the organization's row in a mode that still allows new members; SQLite has one writer.
    """
    query = sa.select(organizations.c.id).where(organizations.c.id == organization_id)
    conn.execute(query.with_for_update(key_share=True))


def deactivate_membership(conn: Conn, membership_id: str, *, scope: DeactivationScope, now: int) -> None:
    """Deactivate a membership, whatever its state in Clerk; its role is kept. `scope`: the part that Clerk follows."""
    present = sa.update(memberships).where(m.id == membership_id, m.status.in_(PRESENT_STATUSES))
    conn.execute(present.values(status="deactivated", deactivated_at=now, deactivation=scope, changed_at=now))


def set_deactivation_scope(conn: Conn, membership_id: str, *, scope: DeactivationScope) -> None:
    """Store the part of a deactivation that Clerk has followed in the end."""
    conn.execute(
        sa.update(memberships).where(m.id == membership_id, m.status == "deactivated").values(deactivation=scope)
    )


def deactivate_memberships_by_email(conn: Conn, emails: Sequence[str], *, now: int) -> None:
    """Deactivate every membership of the users with these addresses."""
    user_ids = sa.select(users.c.id).where(is_one_of(conn, users.c.email, emails))
    present = sa.update(memberships).where(m.user_id.in_(user_ids), m.status.in_(PRESENT_STATUSES))
    conn.execute(present.values(status="deactivated", deactivated_at=now, deactivation="database", changed_at=now))


def reactivate_membership(conn: Conn, membership_id: str, *, now: int) -> None:
    """Reactivate a deactivated membership."""
    deactivated = sa.update(memberships).where(m.id == membership_id, m.status == "deactivated")
    conn.execute(
        deactivated.values(status=STATUS_FROM_USER_SUBQUERY, deactivated_at=None, deactivation=None, changed_at=now)
    )


def remove_membership(conn: Conn, membership_id: str, *, now: int) -> None:
    """Mark a membership as removed; its row is kept."""
    current = sa.update(memberships).where(m.id == membership_id, m.status != "removed")
    conn.execute(current.values(status="removed", gone_at=sa.func.coalesce(m.gone_at, now), changed_at=now))


def remove_memberships_of_same_user(conn: Conn, membership_id: str, *, now: int) -> None:
    """Remove every membership of the same user in the same organization."""
    row = memberships.alias("row")
    is_same_pair = sa.exists().where(
        row.c.id == membership_id, row.c.user_id == m.user_id, row.c.organization_id == m.organization_id
    )
    user_id = sa.select(row.c.user_id).where(row.c.id == membership_id)
    current = sa.update(memberships).where(m.user_id.in_(user_id), is_same_pair, m.status != "removed")
    conn.execute(current.values(status="removed", gone_at=sa.func.coalesce(m.gone_at, now), changed_at=now))


def restore_membership(conn: Conn, membership_id: str, *, now: int) -> None:
    """Restore a removed membership that Clerk does not know."""
    removed = sa.update(memberships).where(m.id == membership_id, m.status == "removed", m.clerk_id.is_(None))
    restored = {
        "status": STATUS_FROM_USER_SUBQUERY,
        "gone_at": None,
        "deactivated_at": None,
        "deactivation": None,
        "changed_at": now,
    }
    conn.execute(removed.values(**restored))


def set_membership_role(conn: Conn, membership_id: str, role: str, *, now: int) -> None:
    """Set the role of a membership that Clerk does not know."""
    conn.execute(sa.update(memberships).where(m.id == membership_id).values(role=role, changed_at=now))


def relink_membership(
    conn: Conn, membership_id: str, *, new_clerk_id: str, tombstone_ids: Mapping[str, str], now: int
) -> None:
    """Link a kept row to the new Clerk id of the membership.

    `tombstone_ids`: row ids for the Clerk ids it had before, which are inserted as removed, so that late events about
    them stay without effect.
    """
    row = conn.execute(sa.select(memberships).where(m.id == membership_id)).one()._mapping
    conn.execute(
        sa.update(memberships)
        .where(m.id == membership_id)
        .values(clerk_id=new_clerk_id, gone_at=None, absent_at=None, changed_at=now)
    )
    tombstone: dict[str, Any] = {**row, "status": "removed", "gone_at": now, "changed_at": now}
    tombstone |= {"version": 0, "digest": "", "absent_at": None, "deactivated_at": None, "deactivation": None}
    conn.execute(
        sa.insert(memberships), [tombstone | {"clerk_id": old, "id": row_id} for old, row_id in tombstone_ids.items()]
    )
