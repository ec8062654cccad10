"""Run operations and resume those that were interrupted or deferred."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog
from msgspec.structs import replace

from instep.core.clock import HOUR, MAX_CLOCK_SKEW, MINUTE, SECOND, Clock
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, PermanentError
from instep.core.i18n import lazy_gettext
from instep.core.request_context import get_current_request, get_impersonator
from instep.domain.errors import ChangeRejectedError, ClerkRejectedError, ClerkUnavailableError
from instep.operations import repository
from instep.operations.workflow import (
    ConflictError,
    IntentT,
    JsonObject,
    LeaseLostError,
    Operation,
    OperationFailedError,
    OperationIntent,
    OperationPendingError,
    OperationRequest,
    OperationState,
    OutcomeUnknownError,
    Precondition,
    TypedOperation,
    UnreadableIntentError,
    Workflow,
    Workflows,
    WorkflowStep,
)

log = structlog.get_logger(__name__)
LEASE_DURATION = MINUTE
RETRY_DELAYS = (2 * SECOND, 5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR)
MAX_ATTEMPTS = 30
MAX_TARGET_WAITS = 80
TARGET_WAIT_SECONDS = 0.1
OUTCOME_UNKNOWN_MESSAGE = lazy_gettext("We do not know yet whether Clerk did it. Checking...")


async def _allow_all(_request: OperationRequest) -> None:
    """Reject no request."""


@dataclass(frozen=True)
class OperationExecutor:
    """Run and resume operations of every kind in `workflows`.

    `record_audit` writes the audit entry in the transaction that opens or ends an operation. `on_attention` is called
    when an operation needs an admin, `on_deferred` when one is rescheduled. `check_impersonation` raises
    ChangeRejectedError for a request that an impersonator may not make. Operations of `scheduled_kinds` may wait for
    hours by design.
    """

    db: Database
    workflows: Workflows
    record_audit: Callable[[Conn, Operation], None]
    clock: Clock
    on_attention: Callable[[], None] = lambda: None
    on_deferred: Callable[[], None] = lambda: None
    check_impersonation: Callable[[OperationRequest], Awaitable[None]] = _allow_all
    scheduled_kinds: Collection[str] = ()

    async def run(self, request: OperationRequest, *, precondition: Precondition | None = None) -> Operation:
        """Run a new operation to its end, or return the result of the one that this request repeats.

        1. Commit the intent. `precondition` runs in the same transaction: it checks the present state and writes what
           the database alone decides; an exception that it raises rolls everything back.
        2. Execute the steps in Clerk.
        3. Finalize both sides in one transaction.

        Raises:
            OperationFailedError: Clerk refused (nothing was changed), or the operation needs attention.
            OperationPendingError: the outcome is not known yet; the worker continues.
            ConflictError: another operation on the same target is open.
            ChangeRejectedError: the impersonator may not do this, or the idempotency key was used for another change.
            UnreadableIntentError: the intent is not one of its kind; nothing was stored.
        """
        await self.require_permitted(request)
        request = replace(request, **get_current_request(), impersonator=get_impersonator(request.actor))
        operation, is_new = await self._open(request, precondition)
        if not is_new:
            return _get_repeated_result(operation)
        try:
            return await self._run_steps(operation, is_first=True)
        except LeaseLostError as error:
            raise OperationPendingError(OUTCOME_UNKNOWN_MESSAGE, operation) from error

    async def require_permitted(self, request: OperationRequest) -> None:
        """Check a request that is made by an impersonator. Raises ChangeRejectedError if it is blocked."""
        if get_impersonator(request.actor) is not None:
            await self.check_impersonation(request)

    async def resume_due(self) -> int:
        """Resume due operations: interrupted, rescheduled, or left by a process that died. Return their number."""
        count = 0
        while operation := await self.db.write(self._claim):
            count += 1
            try:
                await self._run_steps(operation, is_first=False)
            except InstepError as error:
                log.info("operation_resume_failed", operation=operation.id, kind=operation.kind, reason=str(error))
        return count

    async def clamp_due_times(self) -> int:
        """Bring forward operations that were scheduled before the clock was set back. Return their number.

        They become due after one lease, not now: one of them may be running at this moment.
        """
        now = self.clock()
        return await self.db.write(
            repository.clamp_due_times,
            now=now,
            due_at=now + LEASE_DURATION,
            longest=RETRY_DELAYS[-1],
            kinds=self.scheduled_kinds,
        )

    def _claim(self, conn: Conn) -> Operation | None:
        now = self.clock()
        return repository.claim_due_operation(conn, now=now, until=now + LEASE_DURATION)

    async def _open(self, request: OperationRequest, precondition: Precondition | None) -> tuple[Operation, bool]:
        """Return the operation and if it is new. Wait while another operation on the same target is open."""
        for _ in range(MAX_TARGET_WAITS):
            repeated, opened = await self.db.write(self._try_open, request, precondition)
            if repeated is not None:
                return repeated, False
            if opened is not None:
                return opened, True
            await asyncio.sleep(TARGET_WAIT_SECONDS)
        raise ConflictError(lazy_gettext("Another change of the same record is in progress. Try again in a moment."))

    def _try_open(
        self, conn: Conn, request: OperationRequest, precondition: Precondition | None
    ) -> tuple[Operation | None, Operation | None]:
        """Return the repeated operation or the new one; neither while another one on the same target is open."""
        repeated = repository.find_by_idempotency_key(conn, request)
        if repeated is not None:
            if (repeated.kind, repeated.target) != (request.kind, request.target):
                raise ChangeRejectedError(
                    "This idempotency key was already used for another change. Nothing was changed.",
                    code="idempotency_key_reused",
                )
            return repeated, None
        if precondition is not None:
            repository.lock_target(conn, request.target)
            if repository.find_open_operation(conn, request.target) is not None:
                return None, None
            precondition(conn)
        repository.decode_intent(self._find_workflow(request.kind), request.intent)
        now = self.clock()
        operation = repository.insert_operation(conn, request, now=now, until=now + LEASE_DURATION)
        if operation is not None:
            self.record_audit(conn, operation)
        return None, operation

    async def _run_steps(self, operation: Operation, *, is_first: bool) -> Operation:
        """Decode the intent and run the steps that are left. An intent that cannot be decoded needs attention."""
        try:
            workflow = self._find_workflow(operation.kind)
            intent = repository.decode_intent(workflow, operation.intent)
        except UnreadableIntentError as error:
            await self._finish_unknown(operation, error)
        for step in workflow.steps:
            if step.name in operation.done:
                continue
            try:
                operation, result = await self._run_step(step, operation, intent, is_first=is_first)
            except ClerkRejectedError as error:
                await self._finish_rejected(operation, workflow, error)
            except ClerkUnavailableError as error:
                await self._reschedule(operation, error)
            except OutcomeUnknownError as error:
                await self._finish_unknown(operation, error)
            operation = replace(operation, done={**operation.done, step.name: result})
            if step is not workflow.steps[-1]:
                operation = await self.db.write(self._save_progress, operation)
        return await self.db.write(self._finalize, operation, workflow, intent)

    def _find_workflow(self, kind: str) -> Workflow[Any]:
        workflow = self.workflows.get(kind)
        if workflow is None:
            raise UnreadableIntentError(lazy_gettext("Operations of the kind %(kind)s are not known here.", kind=kind))
        return workflow

    async def _run_step(
        self, step: WorkflowStep[Any], operation: Operation, intent: OperationIntent, *, is_first: bool
    ) -> tuple[Operation, JsonObject]:
        """Execute a step. Verify first if it may have run before, and afterwards if Clerk did not answer."""
        if not is_first:
            verified = await step.verify(_with_intent(operation, intent))
            if verified is not None:
                return operation, verified
        operation = await self._renew_lease(operation)
        typed_operation = _with_intent(operation, intent)
        try:
            return operation, await step.execute(typed_operation)
        except ClerkUnavailableError as error:
            if error.is_without_effect:
                raise
            return operation, await self._verify_outcome(step, typed_operation, error)

    async def _renew_lease(self, operation: Operation) -> Operation:
        """Renew a lease that is not fresh, before Clerk is called. Raises LeaseLostError if another worker has it.

        Half of a lease remains for the call itself, which times out long before that. A lease longer than any that can
        be taken stems from before the clock was set back, and proves nothing.
        """
        remaining = (operation.due_at or 0) - self.clock()
        if LEASE_DURATION // 2 < remaining <= LEASE_DURATION + MAX_CLOCK_SKEW:
            return operation
        return await self.db.write(self._save_progress, operation)

    async def _verify_outcome(
        self, step: WorkflowStep[Any], operation: TypedOperation[Any], error: ClerkUnavailableError
    ) -> JsonObject:
        verified = await step.verify(operation)
        if verified is not None:
            return verified
        # Clerk finished the request with a failure, so an effect that is absent now stays absent.
        if error.has_response:
            raise ClerkRejectedError(str(error), code="clerk_failed", status=error.status or 500) from error
        raise error

    def _save_progress(self, conn: Conn, operation: Operation) -> Operation:
        now = self.clock()
        repository.save_progress(conn, operation, operation.done, now=now, until=now + LEASE_DURATION)
        return replace(operation, due_at=now + LEASE_DURATION)

    def _finalize(
        self, conn: Conn, operation: Operation, workflow: Workflow[Any], intent: OperationIntent
    ) -> Operation:
        workflow.finalize(conn, _with_intent(operation, intent))
        finished = repository.finish_operation(conn, operation, "settled", now=self.clock(), reason=None, code=None)
        self.record_audit(conn, finished)
        return finished

    async def _finish_rejected(
        self, operation: Operation, workflow: Workflow[Any], error: ClerkRejectedError
    ) -> NoReturn:
        """End an operation that Clerk rejected: refused if no step took effect before, else it needs attention."""
        is_partial = any(operation.done.values())
        reason = f"{workflow.partial_failure_message} {error}" if is_partial else str(error)
        ended = await self._finish_failed(operation, is_partial, reason, error.code)
        raise OperationFailedError(reason, ended, code=error.code) from error

    async def _finish_unknown(self, operation: Operation, error: PermanentError) -> NoReturn:
        """End an operation whose outcome or intent cannot be read: it needs attention."""
        ended = await self._finish_failed(operation, True, str(error), error.code)
        raise OperationFailedError(str(error), ended, code=error.code) from error

    async def _finish_failed(self, operation: Operation, needs_attention: bool, reason: str, code: str) -> Operation:
        ended = await self.db.write(self._write_failure, operation, needs_attention, reason, code)
        if needs_attention:
            self.on_attention()
        return ended

    def _write_failure(
        self, conn: Conn, operation: Operation, needs_attention: bool, reason: str, code: str
    ) -> Operation:
        state: OperationState = "attention" if needs_attention else "refused"
        ended = repository.finish_operation(conn, operation, state, now=self.clock(), reason=reason, code=code)
        self.record_audit(conn, ended)
        return ended

    async def _reschedule(self, operation: Operation, error: ClerkUnavailableError) -> NoReturn:
        """Schedule the next attempt, with growing delays. After the last attempt the operation needs attention."""
        if operation.attempts >= MAX_ATTEMPTS:
            await self._finish_failed(operation, True, str(error), "unsettled")
            raise error
        delay = RETRY_DELAYS[min(operation.attempts, len(RETRY_DELAYS)) - 1]
        wait = max(delay, int((error.retry_after or 0) * SECOND))
        await self.db.write(repository.reschedule_operation, operation, until=self.clock() + wait, reason=str(error))
        self.on_deferred()
        message = str(error) if error.is_without_effect else OUTCOME_UNKNOWN_MESSAGE
        raise OperationPendingError(message, operation, retry_after=wait / SECOND) from error


def _with_intent(operation: Operation, intent: IntentT) -> TypedOperation[IntentT]:
    """Return the operation with its decoded intent, as steps get it."""
    values = {name: getattr(operation, name) for name in TypedOperation.__struct_fields__}
    return TypedOperation(**values | {"intent": intent})


def _get_repeated_result(operation: Operation) -> Operation:
    """Return the result of an operation that was requested again, or raise the same error as the first time."""
    if operation.state == "open":
        raise OperationPendingError(OUTCOME_UNKNOWN_MESSAGE, operation)
    if operation.state != "settled":
        message = operation.reason or lazy_gettext("This change was not made.")
        raise OperationFailedError(message, operation, code=operation.code or operation.state)
    return operation
