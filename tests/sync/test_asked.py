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
def asked(world: World) -> RunQueue:
    world.emulator.seed(seed(4))
    return RunQueue(world.sync)


def runs(world: World) -> list[Run]:
    return world.db.read_sync(repository.list_stored_runs)


async def test_every_kind_of_run_is_carried_out_as_it_was_asked_for(world: World, asked: RunQueue) -> None:
    await asked.ask("first", actor="usr_1")
    assert await asked.run_once() == 1
    await world.call("PATCH", f"/users/user_{1:027d}", {"first_name": "New"})
    await world.call("PATCH", f"/users/user_{2:027d}", {"first_name": "Newer"})
    await asked.ask("check", actor="usr_1")
    await asked.run_once()
    plan = await asked.ask("plan", actor="usr_1")
    await asked.run_once()
    await asked.ask("apply", actor="usr_2", plan_id=plan.id, chosen=[1])
    await asked.run_once()
    found = runs(world)
    assert [(it.kind, it.state, it.actor) for it in found] == [
        ("apply", "done", "usr_2"),
        ("plan", "done", "usr_1"),
        ("check", "done", "usr_1"),
        ("first", "done", "usr_1"),
    ]
    assert found[0].counts == {"applied": 1}
    assert found[1].id == plan.id
    assert await asked.run_once() == 0
    entries = world.db.read_sync(list_entries, AuditFilter(action="sync.apply"))
    assert [(it.actor, it.target) for it in entries] == [("usr_2", plan.id)]


async def test_only_one_waits_or_runs_at_a_time(world: World, asked: RunQueue) -> None:
    await asked.ask("check", actor="usr_1")
    with pytest.raises(SyncRefusedError, match="Only one runs"):
        await asked.ask("plan", actor="usr_1")
    lease = world.db.write_sync(repository.take_lease, "another process", now=world.clock())
    assert lease is not None
    assert await asked.run_once() == 0, "it goes on waiting while another sync is under way"
    assert runs(world)[0].state == "asked"
    world.db.write_sync(repository.release_lease, lease)
    assert await asked.run_once() == 1
    assert runs(world)[0].state == "done"


async def test_of_many_who_ask_at_once_one_is_heard(world: World, asked: RunQueue) -> None:
    ended = await asyncio.gather(*(asked.ask("check", actor=f"usr_{n}") for n in range(8)), return_exceptions=True)
    assert sum(isinstance(it, Run) for it in ended) == 1
    assert sum(isinstance(it, SyncRefusedError) for it in ended) == 7
    assert len(runs(world)) == 1


async def test_of_workers_that_hear_of_it_at_once_one_carries_it_out(world: World, asked: RunQueue) -> None:
    await world.check()
    calls = len(world.between.calls)
    await asked.ask("check", actor="usr_1")
    await asyncio.gather(*(RunQueue(world.sync).run_once() for _ in range(4)))
    assert len(world.between.calls) == 2 * calls
    assert [it.state for it in runs(world)] == ["done", "done"]


async def test_a_run_that_nobody_expects_any_more_is_not_begun(world: World, asked: RunQueue) -> None:
    await asked.ask("first", actor="usr_1")
    world.clock.advance(11 * MINUTE)
    await asked.run_once()
    assert (runs(world)[0].state, runs(world)[0].code) == ("stopped", "not_begun")
    assert world.here()["user"] == set()


async def test_what_ends_before_it_begins_says_why(world: World, asked: RunQueue) -> None:
    await asked.ask("apply", actor="usr_1", plan_id="syn_none")
    await asked.run_once()
    assert (runs(world)[0].state, runs(world)[0].code) == ("refused", "no_plan")


async def test_a_fault_of_ours_ends_the_run_and_is_not_tried_for_ever(
    world: World, asked: RunQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise ZeroDivisionError

    await asked.ask("apply", actor="usr_1", plan_id="syn_x")
    monkeypatch.setattr("instep.sync.service.SyncService._require_applicable_plan", breaks)
    with pytest.raises(ZeroDivisionError):
        await asked.run_once()
    assert runs(world)[0].state == "failed"
    assert await asked.run_once() == 0


async def test_a_first_sync_whose_worker_is_gone_goes_on_by_itself(world: World, asked: RunQueue) -> None:
    await asked.ask("first", actor="usr_1")

    def dies(_: Any) -> None:
        raise KeyboardInterrupt

    world.between.before = dies
    with pytest.raises(KeyboardInterrupt):
        await asked.run_once()
    assert runs(world)[0].state == "running"
    world.between.before = lambda _: None
    assert await asked.run_once() == 1
    assert [it.state for it in runs(world)] == ["done", "stopped"]
    assert world.here() == world.in_clerk()


async def deaths_of(world: World, asked: RunQueue) -> int:
    """How many workers a first sync has until it ends, whatever end; each that dies leaves its lease to run out."""
    deaths = 0
    for _ in range(1_000):
        try:
            await asked.run_once()
        except Crash:
            deaths += 1
        if runs(world)[0].state in ("done", "failed"):
            return deaths
        world.clock.advance(2 * MINUTE)
    raise AssertionError("it goes on for ever")


async def test_a_first_sync_that_kills_its_worker_each_time_is_given_up(world: World, asked: RunQueue) -> None:
    await asked.ask("first", actor="usr_1")

    def dies(_: Any) -> None:
        raise Crash("killed")

    world.between.before = dies
    assert await deaths_of(world, asked) == 6, "the first one, and five that went on"
    last = runs(world)[0]
    assert (last.state, last.code) == ("failed", "in_vain")
    assert "memory" in (last.reason or "")
    assert await asked.run_once() == 0
    world.between.before = lambda _: None
    await asked.ask("first", actor="usr_2")
    assert await asked.run_once() == 1
    assert runs(world)[0].state == "done", "whoever asks again has it go on"
    assert world.here() == world.in_clerk()


async def test_as_long_as_it_comes_further_it_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch, 5)
    world.emulator.seed(seed(200, organizations=2))
    asked = RunQueue(world.sync)
    await asked.ask("first", actor="usr_1")
    begun_with: dict[str, Any] = {}

    def dies_once_it_came_further(_: Any) -> None:
        run = runs(world)[0]
        if run.state == "running" and begun_with.setdefault(run.id, run.progress) != run.progress:
            raise Crash("killed")

    world.between.before = dies_once_it_came_further
    assert await deaths_of(world, asked) > 6
    assert runs(world)[0].state == "done"
    assert world.here() == world.in_clerk()


async def test_a_first_sync_that_breaks_has_failed_and_is_not_begun_again_for_ever(
    world: World, asked: RunQueue
) -> None:
    await asked.ask("first", actor="usr_1")

    def breaks(_: Any) -> None:
        raise ZeroDivisionError

    world.between.before = breaks
    with pytest.raises(ZeroDivisionError):
        await asked.run_once()
    assert [(it.state, it.code) for it in runs(world)] == [("failed", "broke")]
    assert await asked.run_once() == 0
    assert len(runs(world)) == 1


async def test_one_that_is_withdrawn_meanwhile_does_not_begin(world: World, asked: RunQueue) -> None:
    run = await asked.ask("check", actor="usr_1")
    lease = world.db.write_sync(repository.take_lease, "test", now=world.clock())
    assert lease is not None
    await asked.withdraw(run.id)
    with pytest.raises(SyncRefusedError, match="withdrawn"):
        world.db.write_sync(repository.start_run, run, lease, is_asked=True)


async def test_rows_that_can_be_mended_are_counted_by_kind_and_side(world: World, asked: RunQueue) -> None:
    plan = await world.plan()
    everything = world.db.read_sync(repository.count_open_findings, plan.id, None)
    assert everything == {("missing_here", "here"): 5, ("membership_only_in_clerk", "here"): 4}
    assert world.db.read_sync(repository.count_open_findings, plan.id, [1, 2, 999]) == {("missing_here", "here"): 2}
    await asked.ask("apply", actor="usr_1", plan_id=plan.id, chosen=[1])
    await asked.run_once()
    assert sum(world.db.read_sync(repository.count_open_findings, plan.id, None).values()) == 8
    mending = world.db.read_sync(repository.find_apply_run, plan.id)
    assert mending is not None
    assert mending.kind == "apply"
    assert [it.number for it in world.db.read_sync(repository.list_processed_findings, plan.id)] == [1]


async def test_the_last_look_at_the_webhook_is_there_for_every_process(world: World) -> None:
    assert world.db.read_sync(repository.find_freshness) is None
    for behind in (0, 3):
        world.db.write_sync(repository.save_freshness, Freshness(10, None, behind))
    assert world.db.read_sync(repository.find_freshness) == Freshness(10, None, 3)
