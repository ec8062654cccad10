"""What a mere absence had ended lives again, or is dead for good: the rows of a thing, and those that hang on it.

An absence is a deletion that Clerk did not tell of (see identity.events.Gone). Memberships that ended with an absent
person or organization carry that one's `absent_at`, so that what was only inferred goes when the reason for it goes.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from instep.identity.events import Seen
from instep.identity.model import Membership
from instep.identity.rules import Known
from instep.kit.db import Conn, is_among
from instep.mirror.ledger import Entry
from instep.mirror.standing import STATUS_WHEN_PRESENT
from instep.mirror.tables import memberships, organizations, users

m = memberships.c
_BACK: dict[Any, Any] = {
    "status": sa.case((m.deactivated_at.is_not(None), "deactivated"), else_=STATUS_WHEN_PRESENT),
    "gone_at": None,
    "absent_at": None,
}


def take_back(conn: Conn, entries: Sequence[Entry], *, now: int) -> None:
    """Before these are written: what was dead by an absence alone lives again, or stays dead by Clerk's word."""
    for it in entries:
        if not it.was_gone or it.before is None or it.news.key.kind == "membership":
            continue
        table = users if it.news.key.kind == "user" else organizations
        if isinstance(it.news, Seen):
            _revive(conn, table, it, now)
            _revive_members(conn, table, it.before, now)
        else:
            _confirm(conn, table, it.before)


def revive_members(conn: Conn, ids: Sequence[str], *, now: int) -> None:
    """These memberships (our ids) are what they were before a reading did not find them."""
    if ids:
        conn.execute(sa.update(memberships).where(is_among(conn, m.id, ids)).values(**_BACK, changed_at=now))


def end_for_good(conn: Conn, ids: Sequence[str]) -> None:
    """Clerk says of these memberships (our ids), which had only not been found, that they are over."""
    if ids:
        conn.execute(sa.update(memberships).where(is_among(conn, m.id, ids)).values(absent_at=None))


def absence_of(entry: Entry, parents: Sequence[Known]) -> int | None:
    """The absence that a dead membership is dead by; None where Clerk said so, of it or of one of its parents."""
    if not isinstance(entry.news, Seen):
        return entry.news.absent_at
    dead = [it.absent_at for it in parents if it.is_gone]
    return None if None in dead else max(it for it in dead if it is not None)


def _revive(conn: Conn, table: sa.Table, entry: Entry, now: int) -> None:
    """Whoever was deleted here by our own word before stays deleted, and whoever was deactivated stays so."""
    c, entity = table.c, entry.news.entity
    is_ours = sa.and_(c.deleted_at.is_not(None), c.deleted_at != c.gone_at)
    values: dict[str, Any] = {"gone_at": None, "absent_at": None, "deleted_at": sa.case((is_ours, c.deleted_at))}
    if entity is not None and not isinstance(entity, Membership) and not (entry.before and entry.before.digest):
        values["joined_at"] = entity.joined_at  # nothing was known of it but that it was not there
    if table is users:
        values["is_active"] = sa.and_(sa.not_(sa.func.coalesce(is_ours, sa.false())), c.deactivated_at.is_(None))
    conn.execute(sa.update(table).where(c.id == entry.id).values(**values))


def _revive_members(conn: Conn, table: sa.Table, before: Known, now: int) -> None:
    """Memberships that ended with this absence live again; where the other parent is dead, they are dead by that."""
    column, other, of_other = (
        (m.user_id, organizations, m.organization_id) if table is users else (m.organization_id, users, m.user_id)
    )
    theirs = sa.and_(column == before.id, m.absent_at == before.absent_at)
    its_other = sa.select(other.c.absent_at).where(other.c.id == of_other)
    is_other_alive = sa.exists(its_other.where(other.c.gone_at.is_(None)))
    conn.execute(sa.update(memberships).where(theirs, is_other_alive).values(**_BACK, changed_at=now))
    conn.execute(sa.update(memberships).where(theirs).values(absent_at=its_other.scalar_subquery()))


def _confirm(conn: Conn, table: sa.Table, before: Known) -> None:
    column = m.user_id if table is users else m.organization_id
    conn.execute(sa.update(table).where(table.c.id == before.id).values(absent_at=None))
    theirs = sa.and_(column == before.id, m.absent_at == before.absent_at)
    conn.execute(sa.update(memberships).where(theirs).values(absent_at=None))
