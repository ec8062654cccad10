"""Writing and reading the audit. Entries are written in the transaction of their effect and never changed."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.audit.tables import audit
from instep.kit.db import Conn, put_rows
from instep.kit.ids import new_id
from instep.kit.log import impersonator_of, request_under_way


class Entry(Struct, frozen=True, kw_only=True):
    """One thing that happened.

    `actor`: who (a person's id, `clerk`, `break_glass`, `system`); `action`: what (`member.role`); `target`: to whom or
    what (`user:usr_...`, or Clerk's id); `outcome`: how it stands (`asked`, `done`, `refused`, ...); `cause`: the
    operation or the delivery behind it; `origin`: the address that a request came from; `impersonator`: who acted as
    the actor, where somebody did; `details`: before and after.
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


class Kept(Struct, frozen=True, kw_only=True):
    """An entry as it is kept. `at` is in Unix milliseconds; ids sort by time."""

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


class Filter(Struct, frozen=True, kw_only=True):
    """Which entries: None is any. `since` and `until` are Unix milliseconds; `words` is a part of action or target.

    `is_unclosed`: only what was asked for and has not ended, well or badly.

    `person` is who did it or to whom; `aliases` are other ids under which the records know them (a membership's).
    """

    organization_id: str | None = None
    person: str | None = None
    aliases: tuple[str, ...] = ()
    action: str | None = None
    cause: str | None = None
    since: int | None = None
    until: int | None = None
    words: str = ""
    is_unclosed: bool = False


def record(conn: Conn, entries: Sequence[Entry], *, now: int) -> None:
    """Append entries. `now`: Unix milliseconds.

    One that names no request belongs to the one under way, if there is; so does who acts as its actor.
    """
    request = request_under_way()
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
            "impersonator": it.impersonator or impersonator_of(it.actor),
            "details": dict(it.details),
        }
        for it in entries
    ]
    put_rows(conn, audit, rows, key="id")


c = audit.c
_COLUMNS = tuple(c[name] for name in Kept.__struct_fields__)


def list_entries(conn: Conn, wanted: Filter, *, before: str = "", limit: int = 50) -> list[Kept]:
    """Entries, newest first; `before` is the id where the last page ended."""
    query = sa.select(*_COLUMNS).order_by(c.id.desc()).limit(limit)
    for condition in _conditions(wanted):
        query = query.where(condition)
    if before:
        query = query.where(c.id < before)
    return [Kept(**row._mapping) for row in conn.execute(query)]


def list_unclosed(conn: Conn, *, before: int, limit: int = 50) -> list[Kept]:
    """Operations that were asked for before this time and that no entry has closed since."""
    query = sa.select(*_COLUMNS).where(_is_unclosed(), c.at < before)
    return [Kept(**row._mapping) for row in conn.execute(query.order_by(c.id).limit(limit))]


def _is_unclosed() -> sa.ColumnElement[bool]:
    closing = audit.alias("closing")
    closes = sa.and_(closing.c.cause == c.cause, closing.c.outcome != "asked")
    return sa.and_(c.outcome == "asked", sa.not_(sa.exists(sa.select(closing.c.id).where(closes))))


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
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
        found.append(_is_unclosed())
    for word in wanted.words.split():
        found.append(sa.or_(c.action.contains(word, autoescape=True), c.target.contains(word, autoescape=True)))
    return found
