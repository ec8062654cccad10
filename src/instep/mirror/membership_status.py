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


"""The status of a member of whom the database itself decides nothing, by the person's row. Someone whom the
application lets in nowhere counts as banned. A trigger (migration 0002) carries changes of the person over."""


STATUS_FROM_USER_SUBQUERY = sa.select(STATUS_FROM_USER).where(users.c.id == m.user_id).scalar_subquery()


"""The same, in a statement about memberships."""


_IS_KEPT_AFTER_REMOVAL = sa.and_(m.status == "deactivated", m.deactivation == "membership")
STATUS_AFTER_DELETION = sa.case((_IS_KEPT_AFTER_REMOVAL, m.status), else_="removed")


"""The status of a membership that Clerk has no longer: who was removed there by being deactivated here stays."""


def lock_organization(conn: Conn, organization_id: str) -> None:
    """Keep other changes of standing in this organization waiting until the transaction ends.

    PostgreSQL: the organization's row is locked, in a mode that lets new members in; SQLite has one writer anyway.
    """
    query = sa.select(organizations.c.id).where(organizations.c.id == organization_id)
    conn.execute(query.with_for_update(key_share=True))


def deactivate_membership(conn: Conn, id: str, *, how: DeactivationScope, now: int) -> None:
    """From now on this member is out, whatever Clerk says; the role is remembered. `how`: how far Clerk follows."""
    living = sa.update(memberships).where(m.id == id, m.status.in_(PRESENT_STATUSES))
    conn.execute(living.values(status="deactivated", deactivated_at=now, deactivation=how, changed_at=now))


def set_deactivation_scope(conn: Conn, id: str, *, how: DeactivationScope) -> None:
    """How far Clerk followed in the end."""
    conn.execute(sa.update(memberships).where(m.id == id, m.status == "deactivated").values(deactivation=how))


def deactivate_memberships_by_email(conn: Conn, emails: Sequence[str], *, now: int) -> None:
    """Deactivate every membership of these people, by their addresses."""
    people = sa.select(users.c.id).where(is_one_of(conn, users.c.email, emails))
    living = sa.update(memberships).where(m.user_id.in_(people), m.status.in_(PRESENT_STATUSES))
    conn.execute(living.values(status="deactivated", deactivated_at=now, deactivation="database", changed_at=now))


def reactivate_membership(conn: Conn, id: str, *, now: int) -> None:
    """A deactivated member is in again."""
    out = sa.update(memberships).where(m.id == id, m.status == "deactivated")
    conn.execute(out.values(status=STATUS_FROM_USER_SUBQUERY, deactivated_at=None, deactivation=None, changed_at=now))


def remove_membership(conn: Conn, id: str, *, now: int) -> None:
    """This person is a member no longer; the row stays, marked."""
    staying = sa.update(memberships).where(m.id == id, m.status != "removed")
    conn.execute(staying.values(status="removed", gone_at=sa.func.coalesce(m.gone_at, now), changed_at=now))


def remove_memberships_of_same_user(conn: Conn, id: str, *, now: int) -> None:
    """End every membership that the person of this one has in its organization."""
    row = memberships.alias("row")
    is_of_pair = sa.exists().where(
        row.c.id == id, row.c.user_id == m.user_id, row.c.organization_id == m.organization_id
    )
    theirs = sa.select(row.c.user_id).where(row.c.id == id)
    staying = sa.update(memberships).where(m.user_id.in_(theirs), is_of_pair, m.status != "removed")
    conn.execute(staying.values(status="removed", gone_at=sa.func.coalesce(m.gone_at, now), changed_at=now))


def restore_membership(conn: Conn, id: str, *, now: int) -> None:
    """A removed member whom Clerk does not know is a member again."""
    removed = sa.update(memberships).where(m.id == id, m.status == "removed", m.clerk_id.is_(None))
    back = {
        "status": STATUS_FROM_USER_SUBQUERY,
        "gone_at": None,
        "deactivated_at": None,
        "deactivation": None,
        "changed_at": now,
    }
    conn.execute(removed.values(**back))


def set_membership_role(conn: Conn, id: str, role: str, *, now: int) -> None:
    """The role of a member whom Clerk does not know."""
    conn.execute(sa.update(memberships).where(m.id == id).values(role=role, changed_at=now))


def relink_membership(conn: Conn, id: str, *, to: str, graves: Mapping[str, str], now: int) -> None:
    """A kept row goes on under Clerk's new id `to`.

    `graves`: our new ids of removed rows for the ids it had before, so that late news of these stay dead.
    """
    row = conn.execute(sa.select(memberships).where(m.id == id)).one()._mapping
    conn.execute(
        sa.update(memberships).where(m.id == id).values(clerk_id=to, gone_at=None, absent_at=None, changed_at=now)
    )
    dead: dict[str, Any] = {**row, "status": "removed", "gone_at": now, "changed_at": now}
    dead |= {"version": 0, "digest": "", "absent_at": None, "deactivated_at": None, "deactivation": None}
    conn.execute(sa.insert(memberships), [dead | {"clerk_id": old, "id": grave} for old, grave in graves.items()])
