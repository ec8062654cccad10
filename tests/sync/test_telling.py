"""How far a run is, where pages of any process can read it."""

import pytest

from instep.sync import repository
from instep.sync.models import Run, SyncProgress
from instep.sync.service import ProgressRecorder
from tests.sync.world import World

pytestmark = pytest.mark.anyio


async def test_the_last_word_is_kept_with_where_and_when_it_began(world: World) -> None:
    lease = world.db.write_sync(repository.take_lease, "test", now=world.clock())
    assert lease is not None
    run = Run(id="syn_1", kind="first", state="running", actor="test", started_at=1, changed_at=1)
    world.db.write_sync(repository.start_run, run, lease)
    heard: list[SyncProgress] = []
    news: list[int] = []
    telling = ProgressRecorder(
        db=world.db,
        clock=world.clock,
        run_id="syn_1",
        lease=lease,
        told=heard.append,
        news=lambda: news.append(1),
    )
    await telling.keep()
    assert news == [], "nothing was said yet"
    for done in (100, 700):
        telling(SyncProgress("user", done, 2_000))
    await telling.keep()
    await telling.keep()
    assert news == [1], "the same is kept once"
    kept = world.db.read_sync(repository.find_stored_run, "syn_1")
    assert kept is not None
    assert {name: kept.stage[name] for name in ("kind", "done", "total", "begun_with")} == {
        "kind": "user",
        "done": 700,
        "total": 2_000,
        "begun_with": 100,
    }
    telling(SyncProgress("membership", 5, None))
    await telling.keep()
    kept = world.db.read_sync(repository.find_stored_run, "syn_1")
    assert kept is not None
    assert (kept.stage["kind"], kept.stage["begun_with"], kept.stage["total"]) == ("membership", 5, None)
    assert [it.done for it in heard] == [100, 700, 5]
