"""The journal's SQL: keep an intent, take it on, note a step, end it; every write names its fence."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from instep.journal.model import Asked, Json, Operation, Overtaken, State
from instep.journal.tables import operations
from instep.kit.clock import MINUTE
from instep.kit.db import Conn
from instep.kit.ids import new_id

c = operations.c
_COLUMNS = tuple(c[name] for name in Operation.__struct_fields__)


def open_(conn: Conn, asked: Asked, *, now: int, until: int) -> Operation | None:
    """Keep an intent, ours to carry out until `until`; None where another operation on the same target is open."""
    operation = Operation(
        id=new_id("op"),
        kind=asked.kind,
        target=asked.target,
        organization_id=asked.organization_id,
        actor=asked.actor,
        intent=asked.intent,
        done={},
        state="open",
        reason=None,
        code=None,
        attempts=1,
        fence=1,
        asked_at=now,
        changed_at=now,
        due_at=until,
        request_id=asked.request_id,
        origin=asked.origin,
        impersonator=asked.impersonator,
    )
    if find_open(conn, asked.target) is not None:
        return None
    values = {name: getattr(operation, name) for name in Operation.__struct_fields__}
    conn.execute(sa.insert(operations).values(**values, idempotency_key=asked.idempotency_key))
    return operation


def take_turn(conn: Conn, target: str) -> None:
    """Until this transaction ends nobody else opens anything on the target (PostgreSQL; SQLite has one writer)."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(target, 0))))


def find_open(conn: Conn, target: str) -> Operation | None:
    """The open operation on a target."""
    return _one(conn, sa.select(*_COLUMNS).where(c.target == target, c.state == "open"))


def find_repeated(conn: Conn, asked: Asked) -> Operation | None:
    """The operation that this actor asked for before with the same idempotency key."""
    if asked.idempotency_key is None:
        return None
    is_same = sa.and_(c.actor == asked.actor, c.idempotency_key == asked.idempotency_key)
    return _one(conn, sa.select(*_COLUMNS).where(is_same))


def find(conn: Conn, id: str) -> Operation | None:
    """An operation by its id."""
    return _one(conn, sa.select(*_COLUMNS).where(c.id == id))


NEXT_DUE = sa.select(sa.func.min(c.due_at)).where(c.state == "open", c.due_at.is_not(None))


def claim_due(conn: Conn, *, now: int, until: int) -> Operation | None:
    """Take on the operation that is due the longest; whoever had it before can no longer write."""
    query = sa.select(*_COLUMNS).where(c.due_at <= now, c.state == "open").order_by(c.due_at, c.id).limit(1)
    found = _one(conn, query.with_for_update(skip_locked=True))
    if found is None:
        return None
    taken: Json = {"fence": found.fence + 1, "attempts": found.attempts + 1, "due_at": until}
    conn.execute(sa.update(operations).where(c.id == found.id).values(**taken))
    return _one(conn, sa.select(*_COLUMNS).where(c.id == found.id))


def pull_in(conn: Conn, *, now: int, due_at: int, longest: int, kinds: Collection[str] = ()) -> int:
    """Make operations due at `due_at` that wait for longer than `longest` from `now`; how many there were.

    Nothing waits that long unless a clock went back, except for operations of the given kinds, which are left.
    """
    is_late = sa.and_(c.due_at > now + longest + MINUTE, c.state == "open", c.kind.not_in(list(kinds)))
    return conn.execute(sa.update(operations).where(is_late).values(due_at=due_at)).rowcount


def note(conn: Conn, operation: Operation, done: Json, *, now: int, until: int) -> None:
    """Keep what the steps so far gave. Raises Overtaken."""
    _write(conn, operation, {"done": done, "changed_at": now, "due_at": until})


def put_off(conn: Conn, operation: Operation, *, until: int, reason: str) -> None:
    """Still open: look again at `until`. Raises Overtaken."""
    _write(conn, operation, {"due_at": until, "reason": reason})


def end(conn: Conn, operation: Operation, state: State, *, now: int, reason: str | None, code: str | None) -> Operation:
    """The end, good or not; gives the operation as it is now. Raises Overtaken."""
    values: Json = {"state": state, "reason": reason, "code": code, "due_at": None, "changed_at": now}
    _write(conn, operation, {**values, "done": operation.done})
    found = find(conn, operation.id)
    assert found is not None  # noqa: S101 (written just now)
    return found


def reopen(conn: Conn, id: str, *, now: int) -> Operation | None:
    """Try one that needs attention again; None where it does not, or its target is taken meanwhile."""
    found = find(conn, id)
    if found is None or found.state != "attention" or find_open(conn, found.target) is not None:
        return None
    again = {"state": "open", "due_at": now, "attempts": 0, "fence": found.fence + 1, "changed_at": now}
    conn.execute(sa.update(operations).where(c.id == id).values(**again))
    return find(conn, id)


def give_up(conn: Conn, id: str, *, now: int) -> Operation | None:
    """A person ends one that is open or needs attention; None where it has ended already."""
    found = find(conn, id)
    if found is None or found.state not in ("open", "attention"):
        return None
    over = {"state": "given_up", "due_at": None, "fence": found.fence + 1, "changed_at": now}
    conn.execute(sa.update(operations).where(c.id == id).values(**over))
    return find(conn, id)


def list_operations(
    conn: Conn, *, states: tuple[str, ...] = (), organization_id: str | None = None, before: str = "", limit: int = 50
) -> list[Operation]:
    """Operations, newest first; `before` is the id where the last page ended."""
    query = sa.select(*_COLUMNS).order_by(c.id.desc()).limit(limit)
    if states:
        query = query.where(c.state.in_(states))
    if organization_id is not None:
        query = query.where(c.organization_id == organization_id)
    if before:
        query = query.where(c.id < before)
    return [Operation(**row._mapping) for row in conn.execute(query)]


def list_intents(conn: Conn) -> list[Json]:
    """What every open operation was asked for."""
    return list(conn.execute(sa.select(c.intent).where(c.state == "open")).scalars())


def _write(conn: Conn, operation: Operation, values: Json) -> None:
    is_ours = sa.and_(c.id == operation.id, c.fence == operation.fence, c.state == "open")
    if conn.execute(sa.update(operations).where(is_ours).values(**values)).rowcount != 1:
        raise Overtaken("This operation was taken over by another worker.")


def _one(conn: Conn, query: sa.Select[Any]) -> Operation | None:
    row = conn.execute(query).first()
    return Operation(**row._mapping) if row else None
