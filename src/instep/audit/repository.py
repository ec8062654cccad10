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


def record_entries(conn: Conn, entries: Sequence[NewAuditEntry], *, now: int) -> None:
    """Append entries. `now`: Unix milliseconds.

    One that names no request belongs to the one under way, if there is; so does who acts as its actor.
    """
    request = get_current_request()
    rows = [
        {
            "id": new_id("aud"),
            "at": now,
            "actor": it.actor,
            "action": it.action,
            "target": it.target,
            "outcome": it.outcome,
            "organization_id": it.organization_id,
            "cause": it.cause,
            "request_id": it.request_id or request["request_id"],
            "origin": it.origin or request["origin"],
            "impersonator": it.impersonator or get_impersonator(it.actor),
            "details": dict(it.details),
        }
        for it in entries
    ]
    upsert_rows(conn, audit, rows, key="id")


c = audit.c
_COLUMNS = tuple(c[name] for name in AuditEntryRow.__struct_fields__)


def list_entries(conn: Conn, wanted: AuditFilter, *, before: str = "", limit: int = 50) -> list[AuditEntryRow]:
    """Entries, newest first; `before` is the id where the last page ended."""
    query = sa.select(*_COLUMNS).order_by(c.id.desc()).limit(limit)
    for condition in _filter_conditions(wanted):
        query = query.where(condition)
    if before:
        query = query.where(c.id < before)
    return [AuditEntryRow(**row._mapping) for row in conn.execute(query)]


def list_unclosed_entries(conn: Conn, *, before: int, limit: int = 50) -> list[AuditEntryRow]:
    """Operations that were asked for before this time and that no entry has closed since."""
    query = sa.select(*_COLUMNS).where(_unclosed_condition(), c.at < before)
    return [AuditEntryRow(**row._mapping) for row in conn.execute(query.order_by(c.id).limit(limit))]


def _unclosed_condition() -> sa.ColumnElement[bool]:
    closing = audit.alias("closing")
    closes = sa.and_(closing.c.cause == c.cause, closing.c.outcome != "asked")
    return sa.and_(c.outcome == "asked", sa.not_(sa.exists(sa.select(closing.c.id).where(closes))))


def _filter_conditions(wanted: AuditFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.organization_id is not None:
        found.append(c.organization_id == wanted.organization_id)
    if wanted.person is not None:
        known_as = (wanted.person, *wanted.aliases)
        found.append(sa.or_(c.actor.in_(known_as), c.target.in_(known_as), c.impersonator.in_(known_as)))
    if wanted.action is not None:
        found.append(sa.or_(c.action == wanted.action, c.action.startswith(f"{wanted.action}.", autoescape=True)))
    if wanted.cause is not None:
        found.append(c.cause == wanted.cause)
    if wanted.since is not None:
        found.append(c.at >= wanted.since)
    if wanted.until is not None:
        found.append(c.at < wanted.until)
    if wanted.is_unclosed:
        found.append(_unclosed_condition())
    for word in wanted.words.split():
        found.append(sa.or_(c.action.contains(word, autoescape=True), c.target.contains(word, autoescape=True)))
    return found
