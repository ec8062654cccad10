"""Pages are kept by transactions side by side, and a window's place never passes a page that is not kept."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from instep.core.db import Database
from instep.domain.listing import CreationWindow, ListingCursor, ListingPage
from instep.domain.models import EntityKind
from instep.sync import backfill
from instep.sync.backfill import BackfillWriter, WindowProgress, advance_windows
from instep.sync.models import SyncLease

pytestmark = pytest.mark.anyio


class Slow:
    """A database of which each transaction ends when the test says so; `kept` is where it has the windows."""

    is_sqlite = False

    def __init__(self) -> None:
        self.under_way: list[tuple[Any, asyncio.Future[Any]]] = []
        self.kept: dict[str, Any] = {}

    async def write_bulk(self, _: Callable[..., Any], *given: Any) -> Any:
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.under_way.append((given[-1], ended))
        return await ended

    def end(self, number: int) -> None:
        so_far, ended = self.under_way[number]
        self.kept = advance_windows(self.kept, so_far.places, so_far.steps)
        ended.set_result(([], Counter(new=1)))

    def cursor(self) -> Any:
        return self.kept["membership"][0]["cursor"]


def page(at: int | None) -> ListingPage:
    """A page behind which the walk goes on `at` (None: it was the last)."""
    cursor: ListingCursor | None = None if at is None else {"after": at}
    return ListingPage(items=[], since=0, until=None, cursor=cursor, fetched=at or 9)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def keeper(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> BackfillWriter:
    """One window, and a transaction for each page."""
    monkeypatch.setattr(backfill, "MAX_PAGES_PER_TRANSACTION", 1)
    db = cast(Database, slow)
    places: dict[EntityKind, list[WindowProgress]] = {"membership": [WindowProgress(CreationWindow(kind="membership"))]}
    lease = SyncLease("holder", 1)
    return BackfillWriter(
        db=db, writes=cast(Any, None), clock=lambda: 1, run_id="syn_1", lease=lease, actor="test", places=places
    )


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_two_transactions_are_under_way_at_a_time(keeper: BackfillWriter, slow: Slow) -> None:
    place = keeper.places["membership"][0]
    for at in (1, 2, 3):
        keeper.put(place, page(at))
        await settle()
    assert len(slow.under_way) == 2
    slow.end(0)
    await settle()
    assert len(slow.under_way) == 3


async def test_a_place_does_not_pass_an_earlier_page_that_is_not_kept(keeper: BackfillWriter, slow: Slow) -> None:
    place = keeper.places["membership"][0]
    for at in (1, 2):
        keeper.put(place, page(at))
        await settle()
    slow.end(1)
    await settle()
    assert slow.cursor() is None, "the second was faster"
    assert place.cursor is None
    slow.end(0)
    await settle()
    assert slow.cursor() == {"after": 1}, "the first does not know of the second"
    assert place.cursor == {"after": 2}
    keeper.put(place, page(3))
    await settle()
    slow.end(2)
    await settle()
    assert slow.cursor() == {"after": 3}, "whoever comes after them knows of both"
    assert keeper.counts["new"] == 3


async def test_the_slower_of_two_does_not_take_back_where_the_faster_one_is(keeper: BackfillWriter, slow: Slow) -> None:
    place = keeper.places["membership"][0]
    for at in (1, 2):
        keeper.put(place, page(at))
        await settle()
    slow.end(0)
    slow.end(1)
    await settle()
    assert slow.cursor() == {"after": 2}


async def test_after_a_failure_nothing_more_is_kept(keeper: BackfillWriter, slow: Slow) -> None:
    place = keeper.places["membership"][0]
    first, second = keeper.put(place, page(1)), keeper.put(place, page(None))
    await settle()
    slow.under_way[0][1].set_exception(OSError("gone"))
    await settle()
    later = keeper.put(place, page(None))
    assert isinstance(first.exception(), OSError)
    assert isinstance(later.exception(), OSError)
    slow.end(1)
    await settle()
    assert not place.is_done
    assert second.done()


async def test_a_page_that_comes_as_the_writer_ends_is_kept(keeper: BackfillWriter, slow: Slow) -> None:
    place = keeper.places["membership"][0]
    first = keeper.put(place, page(1))
    await settle()
    later: list[asyncio.Future[None]] = []
    first.add_done_callback(lambda _: later.append(keeper.put(place, page(None))))
    slow.end(0)
    await settle()
    slow.end(1)
    await settle()
    assert later[0].done()
    assert place.is_done


async def test_once_it_is_closed_nothing_more_is_written(keeper: BackfillWriter, slow: Slow) -> None:
    place = keeper.places["membership"][0]
    waiting = [keeper.put(place, page(at)) for at in (1, 2, 3, 4)]
    await settle()
    closing = asyncio.create_task(keeper.close())
    await settle()
    assert not closing.done(), "what is under way ends first"
    for number in range(len(slow.under_way)):
        slow.end(number)
    await closing
    assert len(slow.under_way) == 2
    assert all(it.done() for it in waiting)
