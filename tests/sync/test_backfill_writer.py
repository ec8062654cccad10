"""Pages are kept by transactions side by side, and a window's progress never passes a page that is not stored."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from instep.core.clock import Millis
from instep.core.db import Database
from instep.domain.listing import CreationWindow, ListingCursor, ListingPage
from instep.domain.models import EntityKind
from instep.sync import backfill
from instep.sync.backfill import BackfillWriter, WindowProgress, advance_windows
from instep.sync.models import SyncLease

pytestmark = pytest.mark.anyio


class SlowDatabase:
    """A database of which each transaction ends when the test says so; `kept` is where it has the windows."""

    is_sqlite = False

    def __init__(self) -> None:
        self.pending: list[tuple[Any, asyncio.Future[Any]]] = []
        self.stored: dict[str, Any] = {}

    async def write_bulk(self, _: Callable[..., Any], *given: Any) -> Any:
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.pending.append((given[-1], ended))
        return await ended

    def end(self, number: int) -> None:
        state, ended = self.pending[number]
        self.stored = advance_windows(self.stored, state.windows, state.steps)
        ended.set_result(([], Counter(new=1)))

    def cursor(self) -> Any:
        return self.stored["membership"][0]["cursor"]


def page(at: int | None) -> ListingPage:
    """A page behind which the walk goes on `at` (None: it was the last)."""
    cursor: ListingCursor | None = None if at is None else {"after": at}
    return ListingPage(items=[], since=0, until=None, cursor=cursor, fetched=at or 9)


@pytest.fixture
def database() -> SlowDatabase:
    return SlowDatabase()


@pytest.fixture
def writer(database: SlowDatabase, monkeypatch: pytest.MonkeyPatch) -> BackfillWriter:
    """One window, and a transaction for each page."""
    monkeypatch.setattr(backfill, "MAX_PAGES_PER_TRANSACTION", 1)
    db = cast(Database, database)
    windows: dict[EntityKind, list[WindowProgress]] = {
        "membership": [WindowProgress(CreationWindow(kind="membership"))]
    }
    lease = SyncLease("holder", 1)
    return BackfillWriter(
        db=db,
        clerk=cast(Any, None),
        clock=lambda: Millis(1),
        run_id="syn_1",
        lease=lease,
        actor="test",
        windows=windows,
    )


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_two_transactions_run_at_a_time(writer: BackfillWriter, database: SlowDatabase) -> None:
    progress = writer.windows["membership"][0]
    for at in (1, 2, 3):
        writer.submit(progress, page(at))
        await settle()
    assert len(database.pending) == 2
    database.end(0)
    await settle()
    assert len(database.pending) == 3


async def test_a_window_does_not_advance_past_an_unstored_page(writer: BackfillWriter, database: SlowDatabase) -> None:
    progress = writer.windows["membership"][0]
    for at in (1, 2):
        writer.submit(progress, page(at))
        await settle()
    database.end(1)
    await settle()
    assert database.cursor() is None, "the second was faster"
    assert progress.cursor is None
    database.end(0)
    await settle()
    assert database.cursor() == {"after": 1}, "the first does not know of the second"
    assert progress.cursor == {"after": 2}
    writer.submit(progress, page(3))
    await settle()
    database.end(2)
    await settle()
    assert database.cursor() == {"after": 3}, "whoever comes after them knows of both"
    assert writer.counts["new"] == 3


async def test_a_slower_transaction_does_not_move_a_window_back(writer: BackfillWriter, database: SlowDatabase) -> None:
    progress = writer.windows["membership"][0]
    for at in (1, 2):
        writer.submit(progress, page(at))
        await settle()
    database.end(0)
    database.end(1)
    await settle()
    assert database.cursor() == {"after": 2}


async def test_after_a_failure_nothing_more_is_stored(writer: BackfillWriter, database: SlowDatabase) -> None:
    progress = writer.windows["membership"][0]
    first, second = writer.submit(progress, page(1)), writer.submit(progress, page(None))
    await settle()
    database.pending[0][1].set_exception(OSError("gone"))
    await settle()
    later = writer.submit(progress, page(None))
    assert isinstance(first.exception(), OSError)
    assert isinstance(later.exception(), OSError)
    database.end(1)
    await settle()
    assert not progress.is_done
    assert second.done()


async def test_a_page_submitted_as_the_writer_ends_is_stored(writer: BackfillWriter, database: SlowDatabase) -> None:
    progress = writer.windows["membership"][0]
    first = writer.submit(progress, page(1))
    await settle()
    later: list[asyncio.Future[None]] = []
    first.add_done_callback(lambda _: later.append(writer.submit(progress, page(None))))
    database.end(0)
    await settle()
    database.end(1)
    await settle()
    assert later[0].done()
    assert progress.is_done


async def test_once_it_is_closed_nothing_more_is_written(writer: BackfillWriter, database: SlowDatabase) -> None:
    progress = writer.windows["membership"][0]
    waiting = [writer.submit(progress, page(at)) for at in (1, 2, 3, 4)]
    await settle()
    closing = asyncio.create_task(writer.close())
    await settle()
    assert not closing.done(), "what is under way ends first"
    for number in range(len(database.pending)):
        database.end(number)
    await closing
    assert len(database.pending) == 2
    assert all(it.done() for it in waiting)
