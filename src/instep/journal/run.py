"""Carrying operations out: the intent is committed first, each outcome is known or found out, the end is one write."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import NoReturn

import structlog
from msgspec.structs import replace

from instep.identity.ports import ProviderDown, ProviderRefused
from instep.identity.refusals import Refused
from instep.journal import store
from instep.journal.model import (
    Asked,
    Busy,
    Failed,
    Json,
    Opening,
    Operation,
    Overtaken,
    Procedure,
    Procedures,
    State,
    Step,
    Unknowable,
    Unsettled,
)
from instep.kit.clock import HOUR, MINUTE, SECOND, SKEW, Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError
from instep.kit.log import impersonator_of, request_under_way

log = structlog.get_logger(__name__)
LEASE = MINUTE
DELAYS = (2 * SECOND, 5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR)
MOST_ATTEMPTS = 30
TURNS = 80
TURN = 0.1
REUSED = "This idempotency key stands for another change already. Nothing was changed."
UNKNOWN = "We do not know yet whether Clerk did it. Checking..."


async def _permit_all(_asked: Asked) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class Runner:
    """Runs operations of every kind in `procedures`.

    `noted` writes the audit, in the same transaction, when an operation is asked for and when it ends; `attention` is
    told when one needs a person, `deferred` when one was put off, to be resumed later. `permit` raises Refused for what
    somebody may not do who acts as the actor. Operations of the kinds in `scheduled` may wait for hours: that was
    planned.
    """

    db: Db
    procedures: Procedures
    noted: Callable[[Conn, Operation], None]
    clock: Clock
    attention: Callable[[], None] = lambda: None
    deferred: Callable[[], None] = lambda: None
    permit: Callable[[Asked], Awaitable[None]] = _permit_all
    scheduled: Collection[str] = ()

    async def run(self, asked: Asked, *, opening: Opening | None = None) -> Operation:
        """Carry out a change that was just asked for.

        1 the intent is committed, unless it is a repetition, in one transaction with `opening`, which checks against
        the present state (what it raises undoes all of it) and writes what the database decides at once; 2 the
        steps; 3 the end.
        Raises Failed (refused: nothing was changed; or it needs attention), Unsettled (the worker goes on),
        Busy (another change of the same thing is under way) and ProviderRefused's own words inside Failed.
        """
        await self.require_permitted(asked)
        asked = replace(asked, **request_under_way(), impersonator=impersonator_of(asked.actor))
        operation, is_new = await self._open(asked, opening)
        if not is_new:
            return _as_it_ended(operation)
        try:
            return await self._carry_out(operation, is_first=True)
        except Overtaken as overtaken:
            raise Unsettled(UNKNOWN, operation) from overtaken

    async def require_permitted(self, asked: Asked) -> None:
        """Check what somebody asks for who acts as the actor. Raises Refused where it is blocked."""
        if impersonator_of(asked.actor) is not None:
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

    async def pull_in(self) -> int:
        """Have operations go on soon that a clock which went back has put off; how many there were.

        Not at once: one of them may be under way in this very moment, and has the time of a lease to end.
        """
        now = self.clock()
        return await self.db.write(store.pull_in, now=now, due_at=now + LEASE, longest=DELAYS[-1], kinds=self.scheduled)

    def _claim(self, conn: Conn) -> Operation | None:
        now = self.clock()
        return store.claim_due(conn, now=now, until=now + LEASE)

    async def _open(self, asked: Asked, opening: Opening | None) -> tuple[Operation, bool]:
        """The operation, and whether it is new; waits its turn while another one changes the same thing."""
        for _ in range(TURNS):
            repeated, opened = await self.db.write(self._try_open, asked, opening)
            if repeated is not None:
                return repeated, False
            if opened is not None:
                return opened, True
            await asyncio.sleep(TURN)
        raise Busy("Another change of the same thing is still under way. Nothing was changed; try again.")

    def _try_open(self, conn: Conn, asked: Asked, opening: Opening | None) -> tuple[Operation | None, Operation | None]:
        repeated = store.find_repeated(conn, asked)
        if repeated is not None:
            if (repeated.kind, repeated.target) != (asked.kind, asked.target):
                raise Refused(REUSED, code="idempotency_key_reused")
            return repeated, None
        if opening is not None:
            store.take_turn(conn, asked.target)
            if store.find_open(conn, asked.target) is not None:
                return None, None
            opening(conn)
        now = self.clock()
        operation = store.open_(conn, asked, now=now, until=now + LEASE)
        if operation is not None:
            self.noted(conn, operation)
        return None, operation

    async def _carry_out(self, operation: Operation, *, is_first: bool) -> Operation:
        procedure = self.procedures[operation.kind]
        for step in procedure.steps:
            if step.name in operation.done:
                continue
            try:
                operation, value = await self._take(step, operation, is_first=is_first)
            except ProviderRefused as refusal:
                await self._refused(operation, procedure, refusal)
            except ProviderDown as silence:
                await self._put_off(operation, silence)
            except Unknowable as unknown:
                await self._unknowable(operation, unknown)
            operation = replace(operation, done={**operation.done, step.name: value})
            if step is not procedure.steps[-1]:
                operation = await self.db.write(self._note, operation)
        return await self.db.write(self._settle, operation, procedure)

    async def _take(self, step: Step, operation: Operation, *, is_first: bool) -> tuple[Operation, Json]:
        """One step. One that may have been taken before is looked for first; silence is found out at once if it can."""
        if not is_first:
            found = await step.find(operation)
            if found is not None:
                return operation, found
        operation = await self._hold(operation)
        try:
            return operation, await step.do(operation)
        except ProviderDown as silence:
            if silence.is_harmless:
                raise
            return operation, await self._find_out(step, operation, silence)

    async def _hold(self, operation: Operation) -> Operation:
        """Whoever has slept asks for the lease again before calling Clerk: another may have gone on. Raises Overtaken.

        Half of the lease is left for the call itself, which gives up long before. A lease that is longer than any was
        taken before a clock went back, and says nothing.
        """
        left = (operation.due_at or 0) - self.clock()
        if LEASE // 2 < left <= LEASE + SKEW:
            return operation
        return await self.db.write(self._note, operation)

    async def _find_out(self, step: Step, operation: Operation, silence: ProviderDown) -> Json:
        found = await step.find(operation)
        if found is not None:
            return found
        if silence.is_answered:  # Clerk failed and is done with it: what is not there now was not done
            raise ProviderRefused(str(silence), code="clerk_failed", status=silence.status or 500) from silence
        raise silence

    def _note(self, conn: Conn, operation: Operation) -> Operation:
        now = self.clock()
        store.note(conn, operation, operation.done, now=now, until=now + LEASE)
        return replace(operation, due_at=now + LEASE)

    def _settle(self, conn: Conn, operation: Operation, procedure: Procedure) -> Operation:
        procedure.settle(conn, operation)
        settled = store.end(conn, operation, "settled", now=self.clock(), reason=None, code=None)
        self.noted(conn, settled)
        return settled

    async def _refused(self, operation: Operation, procedure: Procedure, refusal: ProviderRefused) -> NoReturn:
        """Clerk said no. Before anything was done: refused, nothing changed. After a part was: a person must look."""
        is_partial = any(operation.done.values())
        reason = f"{procedure.lost} {refusal}" if is_partial else str(refusal)
        ended = await self._ended(operation, is_partial, reason, refusal.code)
        raise Failed(reason, ended, code=refusal.code) from refusal

    async def _unknowable(self, operation: Operation, unknown: Unknowable) -> NoReturn:
        ended = await self._ended(operation, True, str(unknown), unknown.code)
        raise Failed(str(unknown), ended, code=unknown.code) from unknown

    async def _ended(self, operation: Operation, is_partial: bool, reason: str, code: str) -> Operation:
        ended = await self.db.write(self._end, operation, is_partial, reason, code)
        if is_partial:
            self.attention()
        return ended

    def _end(self, conn: Conn, operation: Operation, is_partial: bool, reason: str, code: str) -> Operation:
        state: State = "attention" if is_partial else "refused"
        ended = store.end(conn, operation, state, now=self.clock(), reason=reason, code=code)
        self.noted(conn, ended)
        return ended

    async def _put_off(self, operation: Operation, silence: ProviderDown) -> NoReturn:
        """Try again later and later; at last a person is asked."""
        if operation.attempts >= MOST_ATTEMPTS:
            await self._ended(operation, True, str(silence), "unsettled")
            raise silence
        delay = DELAYS[min(operation.attempts, len(DELAYS)) - 1]
        wait = max(delay, int((silence.retry_after or 0) * SECOND))
        await self.db.write(store.put_off, operation, until=self.clock() + wait, reason=str(silence))
        self.deferred()
        words = str(silence) if silence.is_harmless else UNKNOWN
        raise Unsettled(words, operation, retry_after=wait / SECOND) from silence


def _as_it_ended(operation: Operation) -> Operation:
    """What a repetition is told: the same as the first time."""
    if operation.state == "open":
        raise Unsettled(UNKNOWN, operation)
    if operation.state != "settled":
        raise Failed(operation.reason or "This change was not made.", operation, code=operation.code or operation.state)
    return operation
