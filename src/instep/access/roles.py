"""Reading the roles of the instance: gathered in one text, so that another statement can bring it along."""

from typing import Any

import sqlalchemy as sa

from instep.access.tables import roles
from instep.identity import roles as words
from instep.identity.roles import Roles, roles_of
from instep.kit.db import Conn

c = roles.c


def _flag(column: sa.ColumnElement[Any], flag: str) -> sa.ColumnElement[str]:
    return sa.case((column, _text(flag)), else_=_text(""))


def _text(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{text}'", sa.Text)


_FLAGS = _flag(c.is_admin, "a") + _flag(c.is_default, "d") + _flag(c.listed_at.is_not(None), "l")
_RECORD = c.key + _text(words.FIELD) + c.name + _text(words.FIELD) + _FLAGS
PACKED: sa.ScalarSelect[str] = (
    sa.select(sa.func.aggregate_strings(_RECORD, words.RECORD)).where(c.gone_at.is_(None)).scalar_subquery()
)
"""Every living role, as `identity.roles.roles_of` reads it."""


def unpack(conn: Conn, packed: str | None, *, is_local: bool) -> Roles:
    """Return the roles that `PACKED` gave, with those that the settings name. `is_local`: of an organization that
    Clerk does not know."""
    named: frozenset[str] = conn.get_execution_options().get(words.ADMIN_ROLES, frozenset())
    return roles_of(packed, named, is_local)


def find_roles(conn: Conn, *, is_local: bool = False) -> Roles:
    """Return the roles of the instance, or of a local organization."""
    packed = conn.execute(sa.select(PACKED)).scalar()
    return unpack(conn, packed, is_local=is_local)
