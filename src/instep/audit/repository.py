"""SQL of the audit log: append and list entries."""

from collections.abc import Sequence

import sqlalchemy as sa

from instep.audit.entries import AuditEntryRow, NewAuditEntry
from instep.audit.filters import AuditFilter
from instep.audit.tables import audit
from instep.core.db import Conn
from instep.core.ids import new_id
from instep.core.request_context import get_current_request, get_impersonator
from instep.core.sql import upsert_rows

c = audit.c
_COLUMNS = tuple(c[name] for name in AuditEntryRow.__struct_fields__)


def record_entries(conn: Conn, entries: Sequence[NewAuditEntry], *, now: int) -> None:
    """Append entries. Request, origin and impersonator default to those of the current request. `now`: Unix ms."""
    request = get_current_request()
    rows = [
        {
            "id": new_id("aud"),
            "at": now,
            "actor": entry.actor,
            "action": entry.action,
            "target": entry.target,
            "outcome": entry.outcome,
            "organization_id": entry.organization_id,
            "cause": entry.cause,
            "request_id": entry.request_id or request["request_id"],
            "origin": entry.origin or request["origin"],
            "impersonator": entry.impersonator or get_impersonator(entry.actor),
            "details": dict(entry.details),
        }
        for entry in entries
    ]
    upsert_rows(conn, audit, rows, key="id")


def list_entries(conn: Conn, criteria: AuditFilter, *, before: str = "", limit: int = 50) -> list[AuditEntryRow]:
    """Return entries, newest first; `before` is the last id of the previous page."""
    query = sa.select(*_COLUMNS).order_by(c.id.desc()).limit(limit)
    for condition in _filter_conditions(criteria):
        query = query.where(condition)
    if before:
        query = query.where(c.id < before)
    return [AuditEntryRow(**row._mapping) for row in conn.execute(query)]


def _unclosed_condition() -> sa.ColumnElement[bool]:
    closing = audit.alias("closing")
    closes = sa.and_(closing.c.cause == c.cause, closing.c.outcome != "asked")
    return sa.and_(c.outcome == "asked", sa.not_(sa.exists(sa.select(closing.c.id).where(closes))))


def _filter_conditions(criteria: AuditFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if criteria.organization_id is not None:
        conditions.append(c.organization_id == criteria.organization_id)
    if criteria.person is not None:
        ids = (criteria.person, *criteria.aliases)
        conditions.append(sa.or_(c.actor.in_(ids), c.target.in_(ids), c.impersonator.in_(ids)))
    if criteria.action is not None:
        conditions.append(
            sa.or_(c.action == criteria.action, c.action.startswith(f"{criteria.action}.", autoescape=True))
        )
    if criteria.cause is not None:
        conditions.append(c.cause == criteria.cause)
    if criteria.since is not None:
        conditions.append(c.at >= criteria.since)
    if criteria.until is not None:
        conditions.append(c.at < criteria.until)
    if criteria.is_unclosed:
        conditions.append(_unclosed_condition())
    for word in criteria.query.split():
        conditions.append(sa.or_(c.action.contains(word, autoescape=True), c.target.contains(word, autoescape=True)))
    return conditions
