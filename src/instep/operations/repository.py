"""SQL of operations: insert, claim, save progress, finish; each write checks its lease."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from instep.core.clock import MINUTE
from instep.core.db import Conn
from instep.core.ids import new_id
from instep.operations.tables import IS_UNFINISHED, operations
from instep.operations.workflow import JsonObject, LeaseLostError, Operation, OperationRequest, OperationState


def count_operations_needing_attention(conn: Conn, organization_id: str | None) -> int:
    """How many operations need a person; in one organization, or in all."""
    c = operations.c
    query = sa.select(sa.func.count()).select_from(operations).where(IS_UNFINISHED, c.state == "attention")
    if organization_id is not None:
        query = query.where(c.organization_id == organization_id)
    return int(conn.execute(query).scalar_one())


c = operations.c
_COLUMNS = tuple(c[name] for name in Operation.__struct_fields__)


def insert_operation(conn: Conn, asked: OperationRequest, *, now: int, until: int) -> Operation | None:
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
    if find_open_operation(conn, asked.target) is not None:
        return None
    values = {name: getattr(operation, name) for name in Operation.__struct_fields__}
    conn.execute(sa.insert(operations).values(**values, idempotency_key=asked.idempotency_key))
    return operation


def lock_target(conn: Conn, target: str) -> None:
    """Until this transaction ends nobody else opens anything on the target (PostgreSQL; SQLite has one writer)."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(target, 0))))


def find_open_operation(conn: Conn, target: str) -> Operation | None:
    """The open operation on a target."""
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(c.target == target, c.state == "open"))


def find_by_idempotency_key(conn: Conn, asked: OperationRequest) -> Operation | None:
    """The operation that this actor asked for before with the same idempotency key."""
    if asked.idempotency_key is None:
        return None
    is_same = sa.and_(c.actor == asked.actor, c.idempotency_key == asked.idempotency_key)
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(is_same))


def find_operation(conn: Conn, id: str) -> Operation | None:
    """An operation by its id."""
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(c.id == id))


NEXT_DUE_AT_QUERY = sa.select(sa.func.min(c.due_at)).where(c.state == "open", c.due_at.is_not(None))


def claim_due_operation(conn: Conn, *, now: int, until: int) -> Operation | None:
    """Take on the operation that is due the longest; whoever had it before can no longer write."""
    query = sa.select(*_COLUMNS).where(c.due_at <= now, c.state == "open").order_by(c.due_at, c.id).limit(1)
    found = _fetch_operation(conn, query.with_for_update(skip_locked=True))
    if found is None:
        return None
    taken: JsonObject = {"fence": found.fence + 1, "attempts": found.attempts + 1, "due_at": until}
    conn.execute(sa.update(operations).where(c.id == found.id).values(**taken))
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(c.id == found.id))


def clamp_due_times(conn: Conn, *, now: int, due_at: int, longest: int, kinds: Collection[str] = ()) -> int:
    """Make operations due at `due_at` that wait for longer than `longest` from `now`; how many there were.

    Nothing waits that long unless a clock went back, except for operations of the given kinds, which are left.
    """
    is_late = sa.and_(c.due_at > now + longest + MINUTE, c.state == "open", c.kind.not_in(list(kinds)))
    return conn.execute(sa.update(operations).where(is_late).values(due_at=due_at)).rowcount


def save_progress(conn: Conn, operation: Operation, done: JsonObject, *, now: int, until: int) -> None:
    """Keep what the steps so far gave. Raises Overtaken."""
    _update_leased(conn, operation, {"done": done, "changed_at": now, "due_at": until})


def reschedule_operation(conn: Conn, operation: Operation, *, until: int, reason: str) -> None:
    """Still open: look again at `until`. Raises Overtaken."""
    _update_leased(conn, operation, {"due_at": until, "reason": reason})


def finish_operation(
    conn: Conn, operation: Operation, state: OperationState, *, now: int, reason: str | None, code: str | None
) -> Operation:
    """The end, good or not; gives the operation as it is now. Raises Overtaken."""
    values: JsonObject = {"state": state, "reason": reason, "code": code, "due_at": None, "changed_at": now}
    _update_leased(conn, operation, {**values, "done": operation.done})
    found = find_operation(conn, operation.id)
    assert found is not None  # noqa: S101 (written just now)
    return found


def reopen_operation(conn: Conn, id: str, *, now: int) -> Operation | None:
    """Try one that needs attention again; None where it does not, or its target is taken meanwhile."""
    found = find_operation(conn, id)
    if found is None or found.state != "attention" or find_open_operation(conn, found.target) is not None:
        return None
    again = {"state": "open", "due_at": now, "attempts": 0, "fence": found.fence + 1, "changed_at": now}
    conn.execute(sa.update(operations).where(c.id == id).values(**again))
    return find_operation(conn, id)


def give_up_operation(conn: Conn, id: str, *, now: int) -> Operation | None:
    """A person ends one that is open or needs attention; None where it has ended already."""
    found = find_operation(conn, id)
    if found is None or found.state not in ("open", "attention"):
        return None
    over = {"state": "given_up", "due_at": None, "fence": found.fence + 1, "changed_at": now}
    conn.execute(sa.update(operations).where(c.id == id).values(**over))
    return find_operation(conn, id)


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


def list_open_intents(conn: Conn) -> list[JsonObject]:
    """What every open operation was asked for."""
    return list(conn.execute(sa.select(c.intent).where(c.state == "open")).scalars())


def _update_leased(conn: Conn, operation: Operation, values: JsonObject) -> None:
    is_ours = sa.and_(c.id == operation.id, c.fence == operation.fence, c.state == "open")
    if conn.execute(sa.update(operations).where(is_ours).values(**values)).rowcount != 1:
        raise LeaseLostError("This operation was taken over by another worker.")


def _fetch_operation(conn: Conn, query: sa.Select[Any]) -> Operation | None:
    row = conn.execute(query).first()
    return Operation(**row._mapping) if row else None
