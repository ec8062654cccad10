"""Run operations and resume those that were interrupted or deferred."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import NoReturn

import structlog
from msgspec.structs import replace

from instep.core.clock import HOUR, MAX_CLOCK_SKEW, MINUTE, SECOND, Clock
from instep.core.db import Conn, Database
from instep.core.errors import InstepError
from instep.core.request_context import get_current_request, get_impersonator
from instep.domain.errors import ChangeRejectedError, ClerkRejectedError, ClerkUnavailableError
from instep.operations import repository
from instep.operations.workflow import (
    ConflictError,
    JsonObject,
    LeaseLostError,
    Operation,
    OperationFailedError,
    OperationPendingError,
    OperationRequest,
    OperationState,
    OutcomeUnknownError,
    Precondition,
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
KEY_REUSED_MESSAGE = "This idempotency key stands for another change already. Nothing was changed."
OUTCOME_UNKNOWN_MESSAGE = "We do not know yet whether Clerk did it. Checking..."


async def _allow_all(_asked: OperationRequest) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class OperationExecutor:
    """Runs operations of every kind in `procedures`.

    `noted` writes the audit, in the same transaction, when an operation is asked for and when it ends; `attention` is
    told when one needs a person, `deferred` when one was put off, to be resumed later. `permit` raises Refused for what
    somebody may not do who acts as the actor. Operations of the kinds in `scheduled` may wait for hours: that was
    planned.
    """

    db: Database
    procedures: Workflows
    record_audit: Callable[[Conn, Operation], None]
    clock: Clock
    attention: Callable[[], None] = lambda: None
    on_deferred: Callable[[], None] = lambda: None
    permit: Callable[[OperationRequest], Awaitable[None]] = _allow_all
    scheduled_kinds: Collection[str] = ()

    async def run(self, asked: OperationRequest, *, opening: Precondition | None = None) -> Operation:
        """Carry out a change that was just asked for.

        1 the intent is committed, unless it is a repetition, in one transaction with `opening`, which checks against
        the present state (what it raises undoes all of it) and writes what the database decides at once; 2 the
        steps; 3 the end.
        Raises Failed (refused: nothing was changed; or it needs attention), Unsettled (the worker goes on),
        Busy (another change of the same thing is under way) and ClerkRejectedError's own words inside Failed.
        """
        await self.require_permitted(asked)
        asked = replace(asked, **get_current_request(), impersonator=get_impersonator(asked.actor))
        operation, is_new = await self._open(asked, opening)
        if not is_new:
            return _result_of_repeated(operation)
        try:
            return await self._carry_out(operation, is_first=True)
        except LeaseLostError as overtaken:
            raise OperationPendingError(OUTCOME_UNKNOWN_MESSAGE, operation) from overtaken

    async def require_permitted(self, asked: OperationRequest) -> None:
        """Check what somebody asks for who acts as the actor. Raises Refused where it is blocked."""
        if get_impersonator(asked.actor) is not None:
            await self.permit(asked)

    async def resume_due(self) -> int:
        """Go on with everything that is due: what was interrupted, put off, or left by a process that died."""
        count = 0
        while operation := await self.db.write(self._claim):
            count += 1
            try:
                await self._carry_out(operation, is_first=False)
            except InstepError as error:
                log.info("operation_goes_on", operation=operation.id, kind=operation.kind, reason=str(error))
        return count

    async def clamp_due_times(self) -> int:
        """Have operations go on soon that a clock which went back has put off; how many there were.

        Not at once: one of them may be under way in this very moment, and has the time of a lease to end.
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

    async def _open(self, asked: OperationRequest, opening: Precondition | None) -> tuple[Operation, bool]:
        """The operation, and whether it is new; waits its turn while another one changes the same thing."""
        for _ in range(MAX_TARGET_WAITS):
            repeated, opened = await self.db.write(self._try_open, asked, opening)
            if repeated is not None:
                return repeated, False
            if opened is not None:
                return opened, True
            await asyncio.sleep(TARGET_WAIT_SECONDS)
        raise ConflictError("Another change of the same thing is still under way. Nothing was changed; try again.")

    def _try_open(
        self, conn: Conn, asked: OperationRequest, opening: Precondition | None
    ) -> tuple[Operation | None, Operation | None]:
        repeated = repository.find_by_idempotency_key(conn, asked)
        if repeated is not None:
            if (repeated.kind, repeated.target) != (asked.kind, asked.target):
                raise ChangeRejectedError(KEY_REUSED_MESSAGE, code="idempotency_key_reused")
            return repeated, None
        if opening is not None:
            repository.lock_target(conn, asked.target)
            if repository.find_open_operation(conn, asked.target) is not None:
                return None, None
            opening(conn)
        now = self.clock()
        operation = repository.insert_operation(conn, asked, now=now, until=now + LEASE_DURATION)
        if operation is not None:
            self.record_audit(conn, operation)
        return None, operation

    async def _carry_out(self, operation: Operation, *, is_first: bool) -> Operation:
        procedure = self.procedures[operation.kind]
        for step in procedure.steps:
            if step.name in operation.done:
                continue
            try:
                operation, value = await self._take(step, operation, is_first=is_first)
            except ClerkRejectedError as refusal:
                await self._refused(operation, procedure, refusal)
            except ClerkUnavailableError as silence:
                await self._put_off(operation, silence)
            except OutcomeUnknownError as unknown:
                await self._unknowable(operation, unknown)
            operation = replace(operation, done={**operation.done, step.name: value})
            if step is not procedure.steps[-1]:
                operation = await self.db.write(self._note, operation)
        return await self.db.write(self._settle, operation, procedure)

    async def _take(self, step: WorkflowStep, operation: Operation, *, is_first: bool) -> tuple[Operation, JsonObject]:
        """One step. One that may have been taken before is looked for first; silence is found out at once if it can."""
        if not is_first:
            found = await step.find(operation)
            if found is not None:
                return operation, found
        operation = await self._hold(operation)
        try:
            return operation, await step.do(operation)
        except ClerkUnavailableError as silence:
            if silence.is_without_effect:
                raise
            return operation, await self._find_out(step, operation, silence)

    async def _hold(self, operation: Operation) -> Operation:
        """Whoever has slept asks for the lease again before calling Clerk: another may have gone on. Raises Overtaken.

        Half of the lease is left for the call itself, which gives up long before. A lease that is longer than any was
        taken before a clock went back, and says nothing.
        """
        left = (operation.due_at or 0) - self.clock()
        if LEASE_DURATION // 2 < left <= LEASE_DURATION + MAX_CLOCK_SKEW:
            return operation
        return await self.db.write(self._note, operation)

    async def _find_out(self, step: WorkflowStep, operation: Operation, silence: ClerkUnavailableError) -> JsonObject:
        found = await step.find(operation)
        if found is not None:
            return found
        if silence.has_response:  # Clerk failed and is done with it: what is not there now was not done
            raise ClerkRejectedError(str(silence), code="clerk_failed", status=silence.status or 500) from silence
        raise silence

    def _note(self, conn: Conn, operation: Operation) -> Operation:
        now = self.clock()
        repository.save_progress(conn, operation, operation.done, now=now, until=now + LEASE_DURATION)
        return replace(operation, due_at=now + LEASE_DURATION)

    def _settle(self, conn: Conn, operation: Operation, procedure: Workflow) -> Operation:
        procedure.settle(conn, operation)
        settled = repository.finish_operation(conn, operation, "settled", now=self.clock(), reason=None, code=None)
        self.record_audit(conn, settled)
        return settled

    async def _refused(self, operation: Operation, procedure: Workflow, refusal: ClerkRejectedError) -> NoReturn:
        """Clerk said no. Before anything was done: refused, nothing changed. After a part was: a person must look."""
        is_partial = any(operation.done.values())
        reason = f"{procedure.lost} {refusal}" if is_partial else str(refusal)
        ended = await self._ended(operation, is_partial, reason, refusal.code)
        raise OperationFailedError(reason, ended, code=refusal.code) from refusal

    async def _unknowable(self, operation: Operation, unknown: OutcomeUnknownError) -> NoReturn:
        ended = await self._ended(operation, True, str(unknown), unknown.code)
        raise OperationFailedError(str(unknown), ended, code=unknown.code) from unknown

    async def _ended(self, operation: Operation, is_partial: bool, reason: str, code: str) -> Operation:
        ended = await self.db.write(self._end, operation, is_partial, reason, code)
        if is_partial:
            self.attention()
        return ended

    def _end(self, conn: Conn, operation: Operation, is_partial: bool, reason: str, code: str) -> Operation:
        state: OperationState = "attention" if is_partial else "refused"
        ended = repository.finish_operation(conn, operation, state, now=self.clock(), reason=reason, code=code)
        self.record_audit(conn, ended)
        return ended

    async def _put_off(self, operation: Operation, silence: ClerkUnavailableError) -> NoReturn:
        """Try again later and later; at last a person is asked."""
        if operation.attempts >= MAX_ATTEMPTS:
            await self._ended(operation, True, str(silence), "unsettled")
            raise silence
        delay = RETRY_DELAYS[min(operation.attempts, len(RETRY_DELAYS)) - 1]
        wait = max(delay, int((silence.retry_after or 0) * SECOND))
        await self.db.write(repository.reschedule_operation, operation, until=self.clock() + wait, reason=str(silence))
        self.on_deferred()
        words = str(silence) if silence.is_without_effect else OUTCOME_UNKNOWN_MESSAGE
        raise OperationPendingError(words, operation, retry_after=wait / SECOND) from silence


def _result_of_repeated(operation: Operation) -> Operation:
    """What a repetition is told: the same as the first time."""
    if operation.state == "open":
        raise OperationPendingError(OUTCOME_UNKNOWN_MESSAGE, operation)
    if operation.state != "settled":
        raise OperationFailedError(
            operation.reason or "This change was not made.", operation, code=operation.code or operation.state
        )
    return operation
