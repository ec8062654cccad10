"""Queries and updates of the instance's roles."""

from collections.abc import Iterable

import sqlalchemy as sa

from instep.core.db import Conn
from instep.domain.roles import FIELD_SEPARATOR, RECORD_SEPARATOR, ClerkRole, InstanceRoles, can_manage_members
from instep.mirror.tables import roles

c = roles.c
DELETED_VERSION = 2**62
"""The version of a role that Clerk reported as deleted: no lagging list restores it."""

_MAX_TEXT_LENGTH = 200


def replace_roles(conn: Conn, listed: InstanceRoles, *, now: int) -> bool:
    """Store all roles of the instance; return whether anything changed. `now`: Unix milliseconds.

    An empty list is ignored: an instance without organizations has no roles.
    """
    if not listed.roles:
        return False
    before = {row.clerk_id: row for row in conn.execute(sa.select(roles).with_for_update())}
    is_changed = False
    for role in listed.roles:
        row = before.pop(role.id, None)
        if row is not None and row.version > role.version:
            role = ClerkRole(
                id=role.id, key=row.key, name=row.name, permissions=tuple(row.permissions), version=row.version
            )
        values = _build_values(role) | {"is_default": role.key == listed.default, "listed_at": now}
        if row is not None and row.version == DELETED_VERSION:
            continue
        is_changed |= row is None or _has_changed(row, values)
        _upsert(conn, role.id, values | {"gone_at": None}, has_row=row is not None)
    for role_id, row in before.items():
        if row.gone_at is None:
            is_changed = True
            conn.execute(sa.update(roles).where(c.clerk_id == role_id).values(gone_at=now))
    return is_changed


def upsert_role(conn: Conn, role: ClerkRole) -> bool:
    """Store a role from a webhook; return whether anything changed. An older version changes nothing."""
    row = conn.execute(sa.select(roles).where(c.clerk_id == role.id).with_for_update()).first()
    if row is not None and (row.version >= role.version or row.version == DELETED_VERSION):
        return False
    values = _build_values(role)
    if role.permissions is None and row is not None:
        values = {name: value for name, value in values.items() if name not in ("permissions", "is_admin")}
    _upsert(conn, role.id, values, has_row=row is not None)
    return True


def mark_role_deleted(conn: Conn, role_id: str, *, now: int) -> bool:
    """Mark a role as deleted; return whether it was not before."""
    row = conn.execute(sa.select(roles).where(c.clerk_id == role_id).with_for_update()).first()
    values = {"gone_at": now, "version": DELETED_VERSION}
    if row is None:
        _upsert(
            conn,
            role_id,
            {"key": role_id, "name": role_id, "permissions": [], "is_admin": False, **values},
            has_row=False,
        )
    else:
        conn.execute(sa.update(roles).where(c.clerk_id == role_id).values(**values))
    return row is not None and row.gone_at is None


def find_last_listed_at(conn: Conn) -> int | None:
    """Return when the roles were last read, in Unix milliseconds; None for never."""
    listed_at: int | None = conn.execute(sa.select(sa.func.max(c.listed_at))).scalar()
    return listed_at


def _build_values(role: ClerkRole) -> dict[str, object]:
    permissions = list(role.permissions or ())
    return {
        "key": _clean_text(role.key),
        "name": _clean_text(role.name) or _clean_text(role.key),
        "permissions": permissions,
        "is_admin": can_manage_members(permissions),
        "version": role.version,
    }


def _upsert(conn: Conn, role_id: str, values: dict[str, object], *, has_row: bool) -> None:
    if has_row:
        conn.execute(sa.update(roles).where(c.clerk_id == role_id).values(**values))
    else:
        conn.execute(sa.insert(roles).values(clerk_id=role_id, **values))


def _has_changed(row: sa.Row[object], values: dict[str, object]) -> bool:
    columns: Iterable[str] = ("key", "name", "is_admin", "is_default")
    return (
        row.gone_at is not None or row.listed_at is None or any(getattr(row, name) != values[name] for name in columns)
    )


def _clean_text(text: str) -> str:
    return text.replace(FIELD_SEPARATOR, "").replace(RECORD_SEPARATOR, "").replace("\0", "")[:_MAX_TEXT_LENGTH]
