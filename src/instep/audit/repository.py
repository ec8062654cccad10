"""Audit entries: building them, and the queries that write and read them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.audit.filters import AuditFilter
from instep.audit.tables import audit
from instep.core.db import Conn
from instep.core.ids import new_id
from instep.core.request_context import get_current_request, get_impersonator
from instep.core.sql import upsert_rows
from instep.domain.reconcile import Change
from instep.mirror.unit_of_work import LocalMembership, UnitOfWork


class NewAuditEntry(Struct, frozen=True, kw_only=True):
    """An entry to append.

    `actor`: a person's id, `clerk`, `break_glass` or `system`. `action`: such as `member.role`. `target`: such as
    `user:usr_...`, or Clerk's id. `outcome`: `asked`, `done`, `refused`, ... `cause`: the operation or delivery that
    led to it. `origin`: the address that the request came from. `impersonator`: the person who acted as the actor.
    `details`: the values before and after.
    """

    actor: str
    action: str
    target: str
    outcome: str = "done"
    organization_id: str | None = None
    cause: str | None = None
    request_id: str | None = None
    origin: str | None = None
    impersonator: str | None = None
    details: Mapping[str, Any] = {}


class AuditEntryRow(Struct, frozen=True, kw_only=True):
    """A stored entry. `at` is in Unix ms; ids sort by time."""

    id: str
    at: int
    actor: str
    action: str
    target: str
    outcome: str
    organization_id: str | None
    cause: str | None
    request_id: str | None
    origin: str | None
    impersonator: str | None
    details: dict[str, Any]


def build_joined_entries(memberships: Iterable[LocalMembership]) -> list[NewAuditEntry]:
    """Return the entries of new members of local organizations, who signed up through an invitation."""
    return [
        NewAuditEntry(
            actor="system",
            action="membership.joined",
            target=membership.membership_id,
            organization_id=membership.organization_id,
            details={"user": membership.user_id, "role": membership.role},
        )
        for membership in memberships
    ]


def build_change_entry(
    change: Change, unit: UnitOfWork, *, actor: str, cause: str, action: str | None = None
) -> NewAuditEntry:
    """Return the entry of a change in Clerk, after the unit of work is applied; `action` None: derived from it."""
    key = change.state.key
    derived = (
        "gone" if change.is_deletion else "seen" if change.known is None else "back" if change.is_revival else "changed"
    )
    organization_id, details = unit.describe_change(change)
    return NewAuditEntry(
        actor=actor,
        action=f"{key.kind}.{action or derived}",
        target=key.id,
        organization_id=organization_id,
        cause=cause,
        details=details,
    )


def build_superseded_entries(unit: UnitOfWork) -> list[NewAuditEntry]:
    """Return the entries of memberships that a newer one replaced."""
    return [build_change_entry(each, unit, actor="system", cause="superseded") for each in unit.superseded]


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
