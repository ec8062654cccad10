"""Runs that a page asks for: kept until a worker takes them on, once, and not when nobody expects them any more."""

import asyncio
from typing import Any

import pytest

from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.core.clock import MINUTE
from instep.sync import repository
from instep.sync.jobs import RunQueue
from instep.sync.models import Freshness, Run, SyncRefusedError
from tests.support.crash import Crash
from tests.sync.world import World, seed, small_pages

pytestmark = pytest.mark.anyio


@pytest.fixture
def queue(world: World) -> RunQueue:
    world.emulator.seed(seed(4))
    return RunQueue(world.sync)


def runs(world: World) -> list[Run]:
    return world.db.read_sync(repository.list_stored_runs)


async def test_every_kind_of_run_is_executed_as_requested(world: World, queue: RunQueue) -> None:
    await queue.request("first", actor="usr_1")
    assert await queue.run_once() == 1
    await world.call("PATCH", f"/users/user_{1:027d}", {"first_name": "New"})
    await world.call("PATCH", f"/users/user_{2:027d}", {"first_name": "Newer"})
    await queue.request("check", actor="usr_1")
    await queue.run_once()
    plan = await queue.request("plan", actor="usr_1")
    await queue.run_once()
    await queue.request("apply", actor="usr_2", plan_id=plan.id, chosen=[1])
    await queue.run_once()
    found = runs(world)
    assert [(it.kind, it.state, it.actor) for it in found] == [
        ("apply", "done", "usr_2"),
        ("plan", "done", "usr_1"),
        ("check", "done", "usr_1"),
        ("first", "done", "usr_1"),
    ]
    assert found[0].counts == {"applied": 1}
    assert found[1].id == plan.id
    assert await queue.run_once() == 0
    entries = world.db.read_sync(list_entries, AuditFilter(action="sync.apply"))
    assert [(it.actor, it.target) for it in entries] == [("usr_2", plan.id)]


async def test_only_one_waits_or_runs_at_a_time(world: World, queue: RunQueue) -> None:
    await queue.request("check", actor="usr_1")
    with pytest.raises(SyncRefusedError, match="Only one runs"):
        await queue.request("plan", actor="usr_1")
    lease = world.db.write_sync(repository.take_lease, "another process", now=world.clock())
    assert lease is not None
    assert await queue.run_once() == 0, "it goes on waiting while another sync is under way"
    assert runs(world)[0].state == "asked"
    world.db.write_sync(repository.release_lease, lease)
    assert await queue.run_once() == 1
    assert runs(world)[0].state == "done"


async def test_one_of_many_concurrent_requests_is_accepted(world: World, queue: RunQueue) -> None:
    ended = await asyncio.gather(*(queue.request("check", actor=f"usr_{n}") for n in range(8)), return_exceptions=True)
    assert sum(isinstance(it, Run) for it in ended) == 1
    assert sum(isinstance(it, SyncRefusedError) for it in ended) == 7
    assert len(runs(world)) == 1


async def test_one_of_many_notified_workers_executes_a_request(world: World, queue: RunQueue) -> None:
    await world.check()
    calls = len(world.transport.calls)
    await queue.request("check", actor="usr_1")
    await asyncio.gather(*(RunQueue(world.sync).run_once() for _ in range(4)))
    assert len(world.transport.calls) == 2 * calls
    assert [it.state for it in runs(world)] == ["done", "done"]


async def test_an_expired_request_is_not_started(world: World, queue: RunQueue) -> None:
    await queue.request("first", actor="usr_1")
    world.clock.advance(11 * MINUTE)
    await queue.run_once()
    assert (runs(world)[0].state, runs(world)[0].code) == ("stopped", "not_begun")
    assert world.ids_in_mirror()["user"] == set()


async def test_a_run_that_ends_before_it_starts_states_the_reason(world: World, queue: RunQueue) -> None:
    await queue.request("apply", actor="usr_1", plan_id="syn_none")
    await queue.run_once()
    assert (runs(world)[0].state, runs(world)[0].code) == ("refused", "no_plan")


async def test_an_unexpected_error_ends_the_run_without_endless_retries(
    world: World, queue: RunQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise ZeroDivisionError

    await queue.request("apply", actor="usr_1", plan_id="syn_x")
    monkeypatch.setattr("instep.sync.service.SyncService._require_applicable_plan", breaks)
    with pytest.raises(ZeroDivisionError):
        await queue.run_once()
    assert runs(world)[0].state == "failed"
    assert await queue.run_once() == 0


async def test_a_backfill_whose_worker_died_resumes_automatically(world: World, queue: RunQueue) -> None:
    await queue.request("first", actor="usr_1")

    def dies(_: Any) -> None:
        raise KeyboardInterrupt

    world.transport.before = dies
    with pytest.raises(KeyboardInterrupt):
        await queue.run_once()
    assert runs(world)[0].state == "running"
    world.transport.before = lambda _: None
    assert await queue.run_once() == 1
    assert [it.state for it in runs(world)] == ["done", "stopped"]
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def deaths_of(world: World, queue: RunQueue) -> int:
    """How many workers a first sync has until it ends, whatever end; each that dies leaves its lease to run out."""
    deaths = 0
    for _ in range(1_000):
        try:
            await queue.run_once()
        except Crash:
            deaths += 1
        if runs(world)[0].state in ("done", "failed"):
            return deaths
        world.clock.advance(2 * MINUTE)
    raise AssertionError("it goes on for ever")


async def test_a_backfill_that_always_kills_its_worker_is_abandoned(world: World, queue: RunQueue) -> None:
    await queue.request("first", actor="usr_1")

    def dies(_: Any) -> None:
        raise Crash("killed")

    world.transport.before = dies
    assert await deaths_of(world, queue) == 6, "the first one, and five that went on"
    last = runs(world)[0]
    assert (last.state, last.code) == ("failed", "in_vain")
    assert "memory" in (last.reason or "")
    assert await queue.run_once() == 0
    world.transport.before = lambda _: None
    await queue.request("first", actor="usr_2")
    assert await queue.run_once() == 1
    assert runs(world)[0].state == "done", "whoever asks again has it go on"
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_a_backfill_resumes_as_long_as_it_makes_progress(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 5)
    world.emulator.seed(seed(200, organizations=2))
    queue = RunQueue(world.sync)
    await queue.request("first", actor="usr_1")
    begun_with: dict[str, Any] = {}

    def dies_once_it_came_further(_: Any) -> None:
        run = runs(world)[0]
        if run.state == "running" and begun_with.setdefault(run.id, run.progress) != run.progress:
            raise Crash("killed")

    world.transport.before = dies_once_it_came_further
    assert await deaths_of(world, queue) > 6
    assert runs(world)[0].state == "done"
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_a_backfill_that_crashes_fails_without_endless_retries(world: World, queue: RunQueue) -> None:
    await queue.request("first", actor="usr_1")

    def breaks(_: Any) -> None:
        raise ZeroDivisionError

    world.transport.before = breaks
    with pytest.raises(ZeroDivisionError):
        await queue.run_once()
    assert [(it.state, it.code) for it in runs(world)] == [("failed", "broke")]
    assert await queue.run_once() == 0
    assert len(runs(world)) == 1


async def test_a_request_withdrawn_meanwhile_is_not_started(world: World, queue: RunQueue) -> None:
    run = await queue.request("check", actor="usr_1")
    lease = world.db.write_sync(repository.take_lease, "test", now=world.clock())
    assert lease is not None
    await queue.withdraw(run.id)
    with pytest.raises(SyncRefusedError, match="withdrawn"):
        world.db.write_sync(repository.start_run, run, lease, is_requested=True)


async def test_fixable_rows_are_counted_by_kind_and_side(world: World, queue: RunQueue) -> None:
    plan = await world.plan()
    everything = world.db.read_sync(repository.count_open_findings, plan.id, None)
    assert everything == {("missing_here", "here"): 5, ("membership_only_in_clerk", "here"): 4}
    assert world.db.read_sync(repository.count_open_findings, plan.id, [1, 2, 999]) == {("missing_here", "here"): 2}
    await queue.request("apply", actor="usr_1", plan_id=plan.id, chosen=[1])
    await queue.run_once()
    assert sum(world.db.read_sync(repository.count_open_findings, plan.id, None).values()) == 8
    mending = world.db.read_sync(repository.find_apply_run, plan.id)
    assert mending is not None
    assert mending.kind == "apply"
    assert [it.number for it in world.db.read_sync(repository.list_processed_findings, plan.id)] == [1]


async def test_the_last_freshness_check_is_available_to_every_process(world: World) -> None:
    assert world.db.read_sync(repository.find_freshness) is None
    for behind in (0, 3):
        world.db.write_sync(repository.save_freshness, Freshness(10, None, behind))
    assert world.db.read_sync(repository.find_freshness) == Freshness(10, None, 3)
