"""Operation types: requests, intents, workflows with steps, and their errors."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

from msgspec import Struct

from instep.core.db import Conn
from instep.core.errors import PermanentError, TemporaryError

OperationState = Literal["open", "settled", "refused", "attention", "given_up"]
JsonObject = dict[str, Any]


class OperationIntent(Struct, frozen=True, kw_only=True):
    """The instructions of one kind of operation: a struct per kind and version, stored as JSON.

    Field names are stored, so a change of them is a new `version`: raise it, and give the workflow an upgrade from the
    stored JSON of the version before. JSON without a version is version 1. Unknown fields are ignored.
    """

    version: ClassVar[int] = 1


IntentT = TypeVar("IntentT", bound=OperationIntent)
IntentT_co = TypeVar("IntentT_co", covariant=True)
IntentT_contra = TypeVar("IntentT_contra", bound=OperationIntent, contravariant=True)


class OperationRequest(Struct, frozen=True, kw_only=True):
    """A requested change.

    `target` is the entity that it changes (`membership:mbr_...`): two open operations never share one. `actor` is the
    id of the requester; the same `idempotency_key` of the same actor is the same operation. `intent` is everything
    that is needed to finish the operation later, from `encode_intent`; it is stored, so it holds no secret.
    `request_id`, `origin` and `impersonator` (the id of the person who acts as the actor) are taken from the current
    request.
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


class TypedOperation(Struct, Generic[IntentT_co], frozen=True, kw_only=True):
    """An operation with its intent. `done` has the result of each finished step, by the step's name. Times: Unix ms."""

    id: str
    kind: str
    target: str
    organization_id: str | None
    actor: str
    intent: IntentT_co
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


class Operation(TypedOperation[JsonObject], frozen=True, kw_only=True):
    """A stored operation; its intent is the stored JSON."""


@dataclass(frozen=True)
class WorkflowStep(Generic[IntentT_contra]):
    """One call that changes Clerk.

    `execute` makes the call and returns the result to store; an empty result means that there was nothing to do.
    `verify` reads Clerk and returns the same result if the call took effect already, None if it did not: an unknown
    outcome is resolved this way. Both raise ClerkUnavailableError, ClerkRejectedError and OutcomeUnknownError.
    """

    name: str
    execute: Callable[[TypedOperation[IntentT_contra]], Awaitable[JsonObject]]
    verify: Callable[[TypedOperation[IntentT_contra]], Awaitable[JsonObject | None]]


@dataclass(frozen=True)
class Workflow(Generic[IntentT]):
    """Execution plan of one kind of operation: its steps in order, then `finalize` in one transaction.

    `intent_type` is the present version of the kind's intent; `upgrades` build it from the stored JSON of an earlier
    version, by the number of that version. `finalize` writes the mirror. `partial_failure_message` describes what was
    changed and what was not, for a step that Clerk rejects after an earlier one took effect.
    """

    intent_type: type[IntentT]
    steps: Sequence[WorkflowStep[IntentT]]
    finalize: Callable[[Conn, TypedOperation[IntentT]], None]
    partial_failure_message: str = "Clerk refused after a part was done."
    upgrades: Mapping[int, Callable[[JsonObject], IntentT]] = field(default_factory=dict)


Workflows = Mapping[str, Workflow[Any]]
# Checks, and writes of what the database alone decides, in the transaction that stores the intent.
Precondition = Callable[[Conn], None]


class OperationPendingError(TemporaryError):
    """The outcome in Clerk is not known yet, or the change is not complete; the worker continues `operation`."""

    def __init__(self, message: str, operation: Operation, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.operation = operation


class ConflictError(TemporaryError):
    """Another operation on the same target is open."""


class OperationFailedError(PermanentError):
    """The operation ended without the requested change, or with a part of it; see `operation`."""

    def __init__(self, message: str, operation: Operation, *, code: str) -> None:
        super().__init__(message, code=code)
        self.operation = operation


class OutcomeUnknownError(PermanentError):
    """Clerk does not show if a step took effect, and the step must not be repeated: an admin has to decide."""


class UnreadableIntentError(PermanentError):
    """The stored intent of an operation cannot be decoded, or its kind is not known: an admin has to decide."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="intent_unreadable")


class LeaseLostError(TemporaryError):
    """Another worker claimed the operation meanwhile, so this write was rejected."""
