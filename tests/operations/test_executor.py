"""An operation is stored before it runs, always comes to an end, and takes effect once."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.clock import Millis
from instep.core.db import Conn, Database
from instep.domain.errors import ChangeRejectedError, ClerkRejectedError, ClerkUnavailableError
from instep.mirror.tables import facts
from instep.operations import repository, workflow
from instep.operations.executor import LEASE_DURATION, OperationExecutor
from instep.operations.workflow import (
    ConflictError,
    JsonObject,
    Operation,
    OperationFailedError,
    OperationIntent,
    OperationPendingError,
    OperationRequest,
    OutcomeUnknownError,
    TypedOperation,
    Workflow,
    WorkflowStep,
)
from tests.support.crash import CrashPoints

pytestmark = pytest.mark.anyio


class Clerk:
    """Another side with two switches; every call can fail before or after its effect."""

    def __init__(self, points: CrashPoints | None = None) -> None:
        self.points = points or CrashPoints()
        self.effects: list[str] = []
        self.failures: list[Exception] = []
        self.is_late = False

    async def call(self, name: str) -> JsonObject:
        self.points.reach(f"before {name}")
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None and not self.is_late:
            raise failure
        self.effects.append(name)
        self.points.reach(f"after {name}")
        if failure is not None:
            raise failure
        return {"name": name}

    async def find(self, name: str) -> JsonObject | None:
        self.points.reach(f"before looking for {name}")
        return {"name": name} if name in self.effects else None


class SwitchIntent(OperationIntent, frozen=True):
    """Switch both switches."""


class World:
    """An executor with one kind of operation of two steps, and a fake Clerk."""

    def __init__(self, db: Database) -> None:
        self.db, self.now, self.audited = db, 1_000_000, list[tuple[str, str]]()
        self.points = CrashPoints()
        self.clerk = Clerk(self.points)
        self.executor = self.replica()

    def replica(self, db: Database | None = None) -> OperationExecutor:
        steps = [self._step("first"), self._step("second")]
        workflows = {"switch": Workflow(SwitchIntent, steps=steps, finalize=_finalize)}
        return OperationExecutor(
            db=db or self.db, workflows=workflows, record_audit=self._record_audit, clock=lambda: Millis(self.now)
        )

    def _step(self, name: str) -> WorkflowStep[SwitchIntent]:
        async def execute(_operation: TypedOperation[SwitchIntent]) -> JsonObject:
            return await self.clerk.call(name)

        async def verify(_operation: TypedOperation[SwitchIntent]) -> JsonObject | None:
            return await self.clerk.find(name)

        return WorkflowStep(name, execute, verify)

    def _record_audit(self, _conn: Conn, operation: Operation) -> None:
        self.audited.append((operation.id, operation.state))

    async def recover(self) -> None:
        """Time goes on, and a worker comes by until nothing is open."""
        for _ in range(20):
            self.now += LEASE_DURATION + 1
            await self.executor.resume_due()

    def settled(self) -> list[str]:
        ours = sa.select(facts.c.name).where(facts.c.name != "schema_series")
        return self.db.read_sync(lambda conn: list(conn.execute(ours).scalars()))


def _finalize(conn: Conn, operation: TypedOperation[SwitchIntent]) -> None:
    conn.execute(sa.insert(facts).values(name=operation.id, value="done"))


def make_request(**changes: Any) -> OperationRequest:
    return OperationRequest(**({"kind": "switch", "target": "lamp:1", "actor": "usr_1", "intent": {}} | changes))


@pytest.fixture
def world(db: Database) -> World:
    world = World(db)
    world.points.watch(db)
    return world


async def test_every_step_runs_once_and_the_result_is_stored(world: World) -> None:
    operation = await world.executor.run(make_request())
    assert operation.state == "settled"
    assert world.clerk.effects == ["first", "second"]
    assert world.settled() == [operation.id]
    assert [state for _, state in world.audited] == ["open", "settled"]


async def test_an_operation_interrupted_anywhere_is_completed_once(world: World) -> None:
    """Also when the recovery is stopped at any place: pairs of places, on a sample of the second."""
    at = 0
    while True:
        at += 1
        target = f"lamp:{at}"
        world.clerk.effects.clear()
        before = len(world.settled())
        with world.points.armed(at):
            await world.executor.run(make_request(target=target))
        if not world.points.where:
            break
        with world.points.armed(1 + at % 7):
            world.now += LEASE_DURATION + 1
            await world.executor.resume_due()
        await world.recover()
        operations = await world.db.read(repository.list_operations, limit=100)
        ours = [it for it in operations if it.target == target]
        if not ours:  # stopped before the intent was kept: nothing happened at all
            assert world.clerk.effects == []
            continue
        assert [it.state for it in ours] == ["settled"], world.points.where
        assert world.clerk.effects == ["first", "second"], world.points.where
        assert len(world.settled()) == before + 1, world.points.where
    assert at > 12, "the places are really there"


async def test_a_refusal_before_any_effect_changes_nothing(world: World) -> None:
    world.clerk.failures = [ClerkRejectedError("No.", code="no", status=422)]
    with pytest.raises(OperationFailedError) as caught:
        await world.executor.run(make_request())
    assert (caught.value.operation.state, caught.value.code) == ("refused", "no")
    assert world.settled() == []


async def test_a_refusal_after_a_partial_effect_needs_attention_and_can_be_retried(world: World) -> None:
    original = world.clerk.call

    async def second_refused(name: str) -> JsonObject:
        if name == "second" and "second" not in world.clerk.effects and not hasattr(world, "is_fixed"):
            raise ClerkRejectedError("No.", code="no", status=422)
        return await original(name)

    world.clerk.call = second_refused  # type: ignore[method-assign]
    with pytest.raises(OperationFailedError) as caught:
        await world.executor.run(make_request())
    assert caught.value.operation.state == "attention"
    world.is_fixed = True  # type: ignore[attr-defined]
    assert await world.db.write(repository.reopen_operation, caught.value.operation.id, now=world.now) is not None
    await world.recover()
    assert world.clerk.effects == ["first", "second"]
    assert world.settled() == [caught.value.operation.id]


async def test_a_lost_response_is_verified_and_the_step_does_not_run_twice(world: World) -> None:
    world.clerk.failures, world.clerk.is_late = [ClerkUnavailableError("timeout")], True
    operation = await world.executor.run(make_request())
    assert operation.state == "settled"
    assert world.clerk.effects == ["first", "second"]


async def test_without_a_response_the_operation_stays_open_and_the_worker_completes_it(world: World) -> None:
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError):
        await world.executor.run(make_request())
    await world.recover()
    assert world.clerk.effects == ["first", "second"]
    assert len(world.settled()) == 1


async def test_a_failure_response_without_effect_is_a_refusal(world: World) -> None:
    world.clerk.failures = [ClerkUnavailableError("Clerk failed with status 500.", status=500)]
    with pytest.raises(OperationFailedError) as caught:
        await world.executor.run(make_request())
    assert caught.value.operation.state == "refused"
    await world.recover()
    assert world.clerk.effects == []


async def test_a_rate_limited_operation_is_retried_after_the_delay_that_clerk_gave(world: World) -> None:
    world.clerk.failures = [ClerkUnavailableError("limited", retry_after=40, is_without_effect=True, status=429)]
    with pytest.raises(OperationPendingError) as caught:
        await world.executor.run(make_request())
    assert caught.value.retry_after == 40
    world.now += 39_000
    assert await world.executor.resume_due() == 0
    world.now += 1_001
    assert await world.executor.resume_due() == 1
    assert world.clerk.effects == ["first", "second"]


async def test_a_double_click_is_one_operation(world: World) -> None:
    first = await world.executor.run(make_request(idempotency_key="form-1"))
    again = await world.executor.run(make_request(idempotency_key="form-1"))
    assert first.id == again.id
    assert world.clerk.effects == ["first", "second"]


async def test_the_same_idempotency_key_of_another_actor_is_another_operation(world: World) -> None:
    first = await world.executor.run(make_request(idempotency_key="form-1"))
    other = await world.executor.run(make_request(idempotency_key="form-1", actor="usr_2"))
    assert first.id != other.id


async def test_operations_on_the_same_target_wait_for_each_other(world: World) -> None:
    both = await asyncio.gather(world.executor.run(make_request()), world.replica().run(make_request()))
    assert {it.state for it in both} == {"settled"}
    assert world.clerk.effects == ["first", "second", "first", "second"]


async def test_an_open_operation_blocks_others_on_its_target(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instep.operations.executor.MAX_TARGET_WAITS", 2)
    monkeypatch.setattr("instep.operations.executor.TARGET_WAIT_SECONDS", 0)
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError):
        await world.executor.run(make_request())
    with pytest.raises(ConflictError):
        await world.executor.run(make_request())


async def test_a_write_after_the_lease_was_lost_is_rejected(world: World) -> None:
    """Two workers on one operation: the one that was overtaken can no longer write anything."""
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError) as caught:
        await world.executor.run(make_request())
    sleeper = caught.value.operation
    await world.recover()
    with pytest.raises(workflow.LeaseLostError):
        await world.db.write(repository.finish_operation, sleeper, "refused", now=world.now, reason=None, code=None)
    found = await world.db.read(repository.find_operation, sleeper.id)
    assert found is not None
    assert found.state == "settled"


async def test_a_write_while_another_worker_has_the_lease_is_rejected(world: World) -> None:
    """The operation is still open, so only the fence tells the two workers apart."""
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError) as caught:
        await world.executor.run(make_request())
    sleeper = caught.value.operation
    world.now += LEASE_DURATION + 1
    times = {"now": world.now, "until": world.now + LEASE_DURATION}
    claimed = await world.db.write(repository.claim_due_operation, **times)
    assert claimed is not None
    with pytest.raises(workflow.LeaseLostError):
        await world.db.write(repository.save_progress, sleeper, {}, **times)
    await world.db.write(repository.save_progress, claimed, {}, **times)


async def test_a_worker_that_verified_before_it_lost_its_lease_does_not_execute_again(world: World) -> None:
    """It reads that nothing was done, sleeps past its lease, and wakes when another worker has done everything."""
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError):
        await world.executor.run(make_request())
    look = world.clerk.find

    async def look_and_sleep(name: str) -> JsonObject | None:
        found = await look(name)
        world.clerk.find = look  # type: ignore[method-assign]
        world.now += LEASE_DURATION + 1
        assert await world.replica().resume_due() == 1
        return found

    world.clerk.find = look_and_sleep  # type: ignore[method-assign]
    world.now += LEASE_DURATION + 1
    await world.executor.resume_due()
    assert world.clerk.effects == ["first", "second"]
    assert len(world.settled()) == 1


async def test_a_worker_with_an_expired_but_unclaimed_lease_continues(world: World) -> None:
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError):
        await world.executor.run(make_request())
    look = world.clerk.find

    async def look_and_sleep(name: str) -> JsonObject | None:
        world.now += LEASE_DURATION + 1
        return await look(name)

    world.clerk.find = look_and_sleep  # type: ignore[method-assign]
    world.now += LEASE_DURATION + 1
    await world.executor.resume_due()
    assert world.clerk.effects == ["first", "second"]
    assert len(world.settled()) == 1


async def test_a_claimed_operation_is_leased_and_not_claimed_by_another_worker(world: World) -> None:
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError):
        await world.executor.run(make_request())
    look, others = world.clerk.find, []

    async def look_slowly(name: str) -> JsonObject | None:
        others.append(await world.replica().resume_due())
        return await look(name)

    world.clerk.find = look_slowly  # type: ignore[method-assign]
    world.now += LEASE_DURATION + 1
    assert await world.executor.resume_due() == 1
    assert set(others) == {0}
    assert world.clerk.effects == ["first", "second"]


async def test_a_request_that_lost_its_lease_returns_the_pending_operation(world: World) -> None:
    do = world.clerk.call

    async def do_and_sleep(name: str) -> JsonObject:
        done = await do(name)
        world.clerk.call = do  # type: ignore[method-assign]
        world.now += LEASE_DURATION + 1
        assert await world.replica().resume_due() == 1
        return done

    world.clerk.call = do_and_sleep  # type: ignore[method-assign]
    with pytest.raises(OperationPendingError) as caught:
        await world.executor.run(make_request())
    assert world.clerk.effects == ["first", "second"]
    assert world.settled() == [caught.value.operation.id]


async def test_giving_up_ends_an_operation_and_frees_its_target(world: World) -> None:
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationPendingError) as caught:
        await world.executor.run(make_request())
    await world.db.write(repository.give_up_operation, caught.value.operation.id, now=world.now)
    await world.recover()
    assert world.clerk.effects == []
    assert (await world.executor.run(make_request())).state == "settled"


async def test_an_unknown_outcome_needs_attention_immediately(world: World) -> None:
    async def find(_name: str) -> JsonObject | None:
        raise OutcomeUnknownError("We do not know whether it was switched.", code="switch_unknown")

    world.clerk.find = find  # type: ignore[assignment,method-assign]
    world.clerk.failures = [ClerkUnavailableError("timeout")]
    with pytest.raises(OperationFailedError) as caught:
        await world.executor.run(make_request())
    assert (caught.value.operation.state, caught.value.code) == ("attention", "switch_unknown")
    await world.recover()
    assert world.clerk.effects == []


async def test_a_step_with_nothing_to_do_is_no_partial_effect(world: World) -> None:
    async def nothing_then_refused(name: str) -> JsonObject:
        if name == "first":
            return {}
        raise ClerkRejectedError("No.", code="no", status=422)

    world.clerk.call = nothing_then_refused  # type: ignore[method-assign]
    with pytest.raises(OperationFailedError) as caught:
        await world.executor.run(make_request())
    assert caught.value.operation.state == "refused"


async def test_a_precondition_commits_with_the_intent_or_not_at_all(world: World) -> None:
    opened: list[str] = []

    def refuse(conn: Conn) -> None:
        conn.execute(sa.insert(facts).values(name="written", value=""))
        raise ChangeRejectedError("Not now.", code="not_now")

    def write(conn: Conn) -> None:
        opened.append("once")
        conn.execute(sa.insert(facts).values(name="decided", value=""))

    with pytest.raises(ChangeRejectedError):
        await world.executor.run(make_request(), precondition=refuse)
    assert (world.settled(), world.clerk.effects, world.audited) == ([], [], [])
    first = await world.executor.run(make_request(idempotency_key="form-1"), precondition=write)
    again = await world.executor.run(make_request(idempotency_key="form-1"), precondition=write)
    assert (first.id, opened) == (again.id, ["once"]), "a repetition is answered, not checked again"
    assert sorted(world.settled()) == sorted(["decided", first.id])


async def test_a_precondition_runs_after_the_open_operation_on_its_target_has_ended(world: World) -> None:
    order: list[str] = []

    def precondition(conn: Conn) -> None:
        order.append(f"{len(repository.list_open_intents(conn))} open, {len(world.clerk.effects)} done")

    request = make_request()
    await asyncio.gather(
        world.executor.run(request, precondition=precondition), world.executor.run(request, precondition=precondition)
    )
    assert list(dict.fromkeys(order)) == ["0 open, 0 done", "0 open, 2 done"], "of two at one moment one begins anew"
