"""Operation types: requests, workflows with steps, and their errors."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from instep.core.db import Conn
from instep.core.errors import PermanentError, TemporaryError

OperationState = Literal["open", "settled", "refused", "attention", "given_up"]
JsonObject = dict[str, Any]


class OperationRequest(Struct, frozen=True, kw_only=True):
    """A change that someone asks for.

    `target` is the thing it changes (`membership:mbr_...`): two open operations never share one. `actor` is who asks;
    the same `idempotency_key` of the same actor is the same operation. `intent` is everything that is needed to finish
    it later; it is kept, so it holds no secret. `request_id`, `origin` and `impersonator` (who acts as the actor) are
    taken from the request under way.
    """

    kind: str
    target: str
    actor: str
    intent: JsonObject
    organization_id: str | None = None
    idempotency_key: str | None = None
    request_id: str | None = None
    origin: str | None = None
    impersonator: str | None = None


class Operation(Struct, frozen=True, kw_only=True):
    """An operation as it is kept. `done` holds what each finished step gave, by the step's name."""

    id: str
    kind: str
    target: str
    organization_id: str | None
    actor: str
    intent: JsonObject
    done: JsonObject
    state: OperationState
    reason: str | None
    code: str | None
    attempts: int
    fence: int
    asked_at: int
    changed_at: int
    due_at: int | None = None
    request_id: str | None = None
    origin: str | None = None
    impersonator: str | None = None


@dataclass(frozen=True)
class WorkflowStep:
    """One call that changes Clerk.

    `do` makes the call and gives what must be remembered of it; nothing at all says that there was nothing to do.
    `find` reads Clerk and gives the same if the call was made already, None if it was not: that is how an unknown
    outcome is found out. Both raise ClerkUnavailableError and ClerkRejectedError, and Unknowable.
    """

    name: str
    do: Callable[[Operation], Awaitable[JsonObject]]
    find: Callable[[Operation], Awaitable[JsonObject | None]]


@dataclass(frozen=True)
class Workflow:
    """How one kind of operation is carried out: its steps in order, then `settle` in one transaction.

    `settle` writes the mirror. `lost` says what was changed and what was not, when a later step was refused after an
    earlier one.
    """

    steps: Sequence[WorkflowStep]
    settle: Callable[[Conn, Operation], None]
    lost: str = "Clerk refused after a part was done."


Workflows = Mapping[str, Workflow]
Precondition = Callable[[Conn], None]


"""Checks, and writes what the database alone decides, in the transaction that keeps the intent."""


class OperationPendingError(TemporaryError):
    """Not known yet whether Clerk did it, or not done yet; the worker goes on. `operation` tells the end."""

    def __init__(self, message: str, operation: Operation, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.operation = operation


class ConflictError(TemporaryError):
    """Another change of the same thing is under way."""


class OperationFailedError(PermanentError):
    """The operation ended otherwise than it was asked. `operation` says how."""

    def __init__(self, message: str, operation: Operation, *, code: str) -> None:
        super().__init__(message, code=code)
        self.operation = operation


class OutcomeUnknownError(PermanentError):
    """Whether a step was taken can't be read in Clerk, and it can't be taken again: a person must look."""


class LeaseLostError(TemporaryError):
    """Someone else took the operation on while this worker slept; its write is refused."""
