"""Queries and updates of the instance's roles."""

from collections.abc import Iterable

import sqlalchemy as sa

from instep.core.db import Conn
from instep.domain.roles import FIELD_SEPARATOR, RECORD_SEPARATOR, ClerkRole, InstanceRoles, can_manage_members
from instep.mirror.tables import roles

c = roles.c
DELETED_VERSION = 2**62


"""The version of a role that Clerk said it deleted: no list that lags behind brings it back."""


_MAX_TEXT_LENGTH = 200


def replace_roles(conn: Conn, found: InstanceRoles, *, now: int) -> bool:
    """Take in every role of the instance; whether anything changed. `now`: Unix milliseconds.

    A list of no roles says nothing: an instance without organizations has none.
    """
    if not found.roles:
        return False
    before = {row.clerk_id: row for row in conn.execute(sa.select(roles).with_for_update())}
    is_changed = False
    for it in found.roles:
        row = before.pop(it.id, None)
        if row is not None and row.version > it.version:
            it = ClerkRole(
                id=it.id, key=row.key, name=row.name, permissions=tuple(row.permissions), version=row.version
            )
        values = _build_values(it) | {"is_default": it.key == found.default, "listed_at": now}
        if row is not None and row.version == DELETED_VERSION:
            continue
        is_changed |= row is None or _has_changed(row, values)
        _upsert(conn, it.id, values | {"gone_at": None}, has_row=row is not None)
    for id, row in before.items():
        if row.gone_at is None:
            is_changed = True
            conn.execute(sa.update(roles).where(c.clerk_id == id).values(gone_at=now))
    return is_changed


def upsert_role(conn: Conn, role: ClerkRole) -> bool:
    """Take in what a webhook says of one role; whether anything changed. An older version changes nothing."""
    row = conn.execute(sa.select(roles).where(c.clerk_id == role.id).with_for_update()).first()
    if row is not None and (row.version >= role.version or row.version == DELETED_VERSION):
        return False
    values = _build_values(role)
    if role.permissions is None and row is not None:
        values = {name: value for name, value in values.items() if name not in ("permissions", "is_admin")}
    _upsert(conn, role.id, values, has_row=row is not None)
    return True


def mark_role_deleted(conn: Conn, id: str, *, now: int) -> bool:
    """Note that a role was deleted; whether that is new."""
    row = conn.execute(sa.select(roles).where(c.clerk_id == id).with_for_update()).first()
    values = {"gone_at": now, "version": DELETED_VERSION}
    if row is None:
        _upsert(conn, id, {"key": id, "name": id, "permissions": [], "is_admin": False, **values}, has_row=False)
    else:
        conn.execute(sa.update(roles).where(c.clerk_id == id).values(**values))
    return row is not None and row.gone_at is None


def find_last_listed_at(conn: Conn) -> int | None:
    """When the roles were read last, in Unix milliseconds; None: never."""
    found: int | None = conn.execute(sa.select(sa.func.max(c.listed_at))).scalar()
    return found


def _build_values(role: ClerkRole) -> dict[str, object]:
    permissions = list(role.permissions or ())
    return {
        "key": _clean_text(role.key),
        "name": _clean_text(role.name) or _clean_text(role.key),
        "permissions": permissions,
        "is_admin": can_manage_members(permissions),
        "version": role.version,
    }


def _upsert(conn: Conn, id: str, values: dict[str, object], *, has_row: bool) -> None:
    if has_row:
        conn.execute(sa.update(roles).where(c.clerk_id == id).values(**values))
    else:
        conn.execute(sa.insert(roles).values(clerk_id=id, **values))


def _has_changed(row: sa.Row[object], values: dict[str, object]) -> bool:
    named: Iterable[str] = ("key", "name", "is_admin", "is_default")
    return row.gone_at is not None or row.listed_at is None or any(getattr(row, it) != values[it] for it in named)


def _clean_text(text: str) -> str:
    return text.replace(FIELD_SEPARATOR, "").replace(RECORD_SEPARATOR, "").replace("\0", "")[:_MAX_TEXT_LENGTH]
