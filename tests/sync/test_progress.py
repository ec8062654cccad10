"""Progress of a run is stored where pages of every process can read it."""

import pytest

from instep.sync import repository
from instep.sync.models import Run, SyncProgress
from instep.sync.service import ProgressRecorder
from tests.sync.world import World

pytestmark = pytest.mark.anyio


async def test_the_latest_progress_is_stored_with_its_start(world: World) -> None:
    lease = world.db.write_sync(repository.take_lease, "test", now=world.clock())
    assert lease is not None
    run = Run(id="syn_1", kind="first", state="running", actor="test", started_at=1, changed_at=1)
    world.db.write_sync(repository.start_run, run, lease)
    reported: list[SyncProgress] = []
    saved: list[int] = []
    recorder = ProgressRecorder(
        db=world.db,
        clock=world.clock,
        run_id="syn_1",
        lease=lease,
        on_progress=reported.append,
        on_saved=lambda: saved.append(1),
    )
    await recorder.save()
    assert saved == [], "no progress was recorded yet"
    for done in (100, 700):
        recorder.record(SyncProgress("user", done, 2_000))
    await recorder.save()
    await recorder.save()
    assert saved == [1], "the same progress is stored once"
    stored = world.db.read_sync(repository.find_stored_run, "syn_1")
    assert stored is not None
    assert {name: stored.stage[name] for name in ("kind", "done", "total", "begun_with")} == {
        "kind": "user",
        "done": 700,
        "total": 2_000,
        "begun_with": 100,
    }
    recorder.record(SyncProgress("membership", 5, None))
    await recorder.save()
    stored = world.db.read_sync(repository.find_stored_run, "syn_1")
    assert stored is not None
    assert (stored.stage["kind"], stored.stage["begun_with"], stored.stage["total"]) == ("membership", 5, None)
    assert [it.done for it in reported] == [100, 700, 5]
