"""SQL of operations: insert, claim, save progress, finish; each write checks its lease. Stored form of intents."""

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa

from instep.core.clock import MINUTE
from instep.core.db import Conn
from instep.core.i18n import lazy_gettext
from instep.core.ids import new_id
from instep.operations.tables import IS_UNFINISHED, operations
from instep.operations.workflow import (
    IntentT,
    JsonObject,
    LeaseLostError,
    Operation,
    OperationIntent,
    OperationRequest,
    OperationState,
    UnreadableIntentError,
    Workflow,
)

c = operations.c
VERSION_KEY = "version"
_COLUMNS = tuple(c[name] for name in Operation.__struct_fields__)
NEXT_DUE_AT_QUERY = sa.select(sa.func.min(c.due_at)).where(c.state == "open", c.due_at.is_not(None))


def encode_intent(intent: OperationIntent) -> JsonObject:
    """Encode an intent as the JSON to store; fields that are UNSET are left out, and so is version 1."""
    encoded: JsonObject = msgspec.to_builtins(intent)
    return encoded if intent.version == 1 else {VERSION_KEY: intent.version, **encoded}


def decode_intent(workflow: Workflow[IntentT], stored: JsonObject) -> IntentT:
    """Decode the stored JSON of any known version. Raises UnreadableIntentError."""
    try:
        version = stored.get(VERSION_KEY, 1)
        if version == workflow.intent_type.version:
            return msgspec.convert(stored, workflow.intent_type)
        upgrade = workflow.upgrades.get(version)
        intent = upgrade(stored) if upgrade is not None else None
    except (msgspec.ValidationError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnreadableIntentError(
            lazy_gettext("The stored intent of this operation cannot be read: %(error)s", error=error)
        ) from error
    if intent is None:
        raise UnreadableIntentError(
            lazy_gettext(
                "The intent of this operation was stored in version %(version)s, which is not known here. "
                "Update instep, then retry the operation.",
                version=version,
            )
        )
    return intent


def count_operations_needing_attention(conn: Conn, organization_id: str | None) -> int:
    """Return the number of operations that need attention, in one organization or in all."""
    query = sa.select(sa.func.count()).select_from(operations).where(IS_UNFINISHED, c.state == "attention")
    if organization_id is not None:
        query = query.where(c.organization_id == organization_id)
    return int(conn.execute(query).scalar_one())


def insert_operation(conn: Conn, request: OperationRequest, *, now: int, until: int) -> Operation | None:
    """Store an intent, leased until `until`. Return None if another operation on the same target is open."""
    operation = Operation(
        id=new_id("op"),
        kind=request.kind,
        target=request.target,
        organization_id=request.organization_id,
        actor=request.actor,
        intent=request.intent,
        done={},
        state="open",
        reason=None,
        code=None,
        attempts=1,
        fence=1,
        asked_at=now,
        changed_at=now,
        due_at=until,
        request_id=request.request_id,
        origin=request.origin,
        impersonator=request.impersonator,
    )
    if find_open_operation(conn, request.target) is not None:
        return None
    values = {name: getattr(operation, name) for name in Operation.__struct_fields__}
    conn.execute(sa.insert(operations).values(**values, idempotency_key=request.idempotency_key))
    return operation


def lock_target(conn: Conn, target: str) -> None:
    """Block other transactions from opening operations on the target (PostgreSQL; SQLite has one writer)."""
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(target, 0))))


def find_open_operation(conn: Conn, target: str) -> Operation | None:
    """Return the open operation on a target."""
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(c.target == target, c.state == "open"))


def find_by_idempotency_key(conn: Conn, request: OperationRequest) -> Operation | None:
    """Return the earlier operation of this actor with the same idempotency key."""
    if request.idempotency_key is None:
        return None
    is_same = sa.and_(c.actor == request.actor, c.idempotency_key == request.idempotency_key)
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(is_same))


def find_operation(conn: Conn, operation_id: str) -> Operation | None:
    """Return an operation by its id."""
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(c.id == operation_id))


def claim_due_operation(conn: Conn, *, now: int, until: int) -> Operation | None:
    """Claim the operation that has been due the longest; its previous worker can no longer write."""
    query = sa.select(*_COLUMNS).where(c.due_at <= now, c.state == "open").order_by(c.due_at, c.id).limit(1)
    found = _fetch_operation(conn, query.with_for_update(skip_locked=True))
    if found is None:
        return None
    claimed: JsonObject = {"fence": found.fence + 1, "attempts": found.attempts + 1, "due_at": until}
    conn.execute(sa.update(operations).where(c.id == found.id).values(**claimed))
    return _fetch_operation(conn, sa.select(*_COLUMNS).where(c.id == found.id))


def clamp_due_times(conn: Conn, *, now: int, due_at: int, longest: int, kinds: Collection[str] = ()) -> int:
    """Make operations that are due more than `longest` after `now` due at `due_at`. Return their number.

    Only a clock that was set back makes an operation wait that long, except for the given kinds, which are skipped.
    """
    is_late = sa.and_(c.due_at > now + longest + MINUTE, c.state == "open", c.kind.not_in(list(kinds)))
    return conn.execute(sa.update(operations).where(is_late).values(due_at=due_at)).rowcount


def save_progress(conn: Conn, operation: Operation, done: JsonObject, *, now: int, until: int) -> None:
    """Save the results of the finished steps and renew the lease. Raises LeaseLostError."""
    _update_leased(conn, operation, {"done": done, "changed_at": now, "due_at": until})


def reschedule_operation(conn: Conn, operation: Operation, *, until: int, reason: str) -> None:
    """Schedule the next attempt of an open operation at `until`. Raises LeaseLostError."""
    _update_leased(conn, operation, {"due_at": until, "reason": reason})


def finish_operation(
    conn: Conn, operation: Operation, state: OperationState, *, now: int, reason: str | None, code: str | None
) -> Operation:
    """End an operation in any final state. Return the stored operation. Raises LeaseLostError."""
    values: JsonObject = {"state": state, "reason": reason, "code": code, "due_at": None, "changed_at": now}
    _update_leased(conn, operation, {**values, "done": operation.done})
    found = find_operation(conn, operation.id)
    assert found is not None  # noqa: S101 (was updated above)
    return found


def reopen_operation(conn: Conn, operation_id: str, *, now: int) -> Operation | None:
    """Reopen an operation that needs attention. Return None if it does not, or if another one is open on its target."""
    found = find_operation(conn, operation_id)
    if found is None or found.state != "attention" or find_open_operation(conn, found.target) is not None:
        return None
    values: JsonObject = {"state": "open", "due_at": now, "attempts": 0, "fence": found.fence + 1, "changed_at": now}
    conn.execute(sa.update(operations).where(c.id == operation_id).values(**values))
    return find_operation(conn, operation_id)


def give_up_operation(conn: Conn, operation_id: str, *, now: int) -> Operation | None:
    """End an operation that is open or needs attention. Return None if it has ended already."""
    found = find_operation(conn, operation_id)
    if found is None or found.state not in ("open", "attention"):
        return None
    values: JsonObject = {"state": "given_up", "due_at": None, "fence": found.fence + 1, "changed_at": now}
    conn.execute(sa.update(operations).where(c.id == operation_id).values(**values))
    return find_operation(conn, operation_id)


def list_operations(
    conn: Conn, *, states: tuple[str, ...] = (), organization_id: str | None = None, before: str = "", limit: int = 50
) -> list[Operation]:
    """Return operations, newest first; `before` is the last id of the previous page."""
    query = sa.select(*_COLUMNS).order_by(c.id.desc()).limit(limit)
    if states:
        query = query.where(c.state.in_(states))
    if organization_id is not None:
        query = query.where(c.organization_id == organization_id)
    if before:
        query = query.where(c.id < before)
    return [Operation(**row._mapping) for row in conn.execute(query)]


def list_open_intents(conn: Conn) -> list[JsonObject]:
    """Return the intents of all open operations."""
    return list(conn.execute(sa.select(c.intent).where(c.state == "open")).scalars())


def _update_leased(conn: Conn, operation: Operation, values: JsonObject) -> None:
    is_leased = sa.and_(c.id == operation.id, c.fence == operation.fence, c.state == "open")
    if conn.execute(sa.update(operations).where(is_leased).values(**values)).rowcount != 1:
        raise LeaseLostError("Another worker has claimed this operation.")


def _fetch_operation(conn: Conn, query: sa.Select[Any]) -> Operation | None:
    row = conn.execute(query).first()
    return Operation(**row._mapping) if row else None
