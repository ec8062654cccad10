"""Lists that have only offsets, walked so that a deletion skips nobody: each page begins before the end of the last."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from instep.clerk.call import Params
from instep.clerk.pages import PAGE, Listed
from instep.identity.events import Seen
from instep.identity.whole import Cursor, Page

OVERLAP = 20
AHEAD = 4
STEPS_BACK = 5
Fetch = Callable[[Params], Awaitable[Listed]]


class Ties:
    """Holds back what was made in the very last moment of a page: the next page may have more of that moment."""

    def __init__(self, since: int) -> None:
        self.since = since
        self._held: list[Seen] = []

    @property
    def held(self) -> int:
        """How many are held back."""
        return len(self._held)

    def forget(self) -> int:
        """They will come again; gives how many."""
        count = self.held
        self._held = []
        return count

    def take(self, items: Sequence[Seen], *, is_last: bool) -> list[Seen]:
        """What is whole now; `since` moves on to the moment that is not."""
        known = {it.key.id: it for it in (*self._held, *items) if not made_at(it) or made_at(it) >= self.since}
        found = list(known.values())
        last = max((made_at(it) for it in found), default=0)
        if is_last or not last:
            self._held = []
            return found
        self._held = [it for it in found if made_at(it) == last]
        self.since = last
        return [it for it in found if made_at(it) < last]


async def by_offset(fetch: Fetch, cursor: Cursor | None = None) -> AsyncIterator[Page]:
    """A list that has only offsets, oldest first.

    A deletion moves everything behind it to the left, so that the next offset would skip someone: each page begins
    before the end of the last one, and goes on behind the last row that both have.
    """
    ahead = _Ahead(fetch)
    ties = Ties(cursor["since"] if cursor else 0)
    tail: list[str] = list(cursor["tail"]) if cursor else []
    taken, fetched = (cursor["taken"], cursor["fetched"]) if cursor else (0, 0)
    try:
        while True:
            listed, offset, is_sure = await _join(ahead, taken, tail)
            fresh = _behind(listed.items, tail)
            is_last, since = listed.rows < PAGE, ties.since
            taken = offset + listed.rows
            fetched += len(fresh) + len(listed.unreadable)
            items = ties.take(fresh, is_last=is_last)
            tail = [*tail, *(it.key.id for it in fresh)][-OVERLAP - ties.held :]
            resting: Cursor = {
                "since": ties.since,
                "tail": tail[: len(tail) - ties.held],
                "taken": taken - ties.held,
                "fetched": fetched - ties.held,
            }
            yield Page(
                items=items,
                since=since,
                until=None if is_last else ties.since,
                cursor=None if is_last else resting,
                fetched=fetched,
                total=listed.total,
                unreadable=listed.unreadable,
                is_sure=is_sure,
            )
            if is_last:
                return
    finally:
        ahead.stop()


class _Ahead:
    """Asks for the next pages while one is worked on."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._asked: dict[int, asyncio.Task[Listed]] = {}
        self._total = PAGE

    async def get(self, offset: int) -> Listed:
        """The page at an offset; the ones behind it are asked for."""
        if offset not in self._asked:
            self.stop()
        for step in range(AHEAD):
            at = offset + step * (PAGE - OVERLAP)
            if at not in self._asked and (step == 0 or at < self._total):
                self._asked[at] = asyncio.create_task(self._ask(at))
        listed = await self._asked.pop(offset)
        self._total = listed.total or 0
        return listed

    async def _ask(self, offset: int) -> Listed:
        return await self._fetch([("limit", PAGE), ("offset", offset), ("order_by", "+created_at")])

    def stop(self) -> None:
        """What was asked for ahead is not needed."""
        for task in self._asked.values():
            task.cancel()
            task.add_done_callback(_let_go)
        self._asked = {}


def _let_go(task: "asyncio.Task[Listed]") -> None:
    """Nobody asks any more how it ended."""
    if not task.cancelled():
        task.exception()


async def _join(ahead: _Ahead, taken: int, tail: Sequence[str]) -> tuple[Listed, int, bool]:
    """The page that goes on behind `tail`, its offset, and whether it does so without a gap."""
    offset = max(0, taken - OVERLAP) if tail else taken
    listed = await ahead.get(offset)
    if not taken:
        return listed, offset, True
    for _ in range(STEPS_BACK):
        if any(it.key.id in tail for it in listed.items):
            return listed, offset, True
        if not offset:
            break
        offset = max(0, min(offset, listed.total or 0) - PAGE + OVERLAP)
        listed = await ahead.get(offset)
    return listed, offset, False


def _behind(items: Sequence[Seen], tail: Sequence[str]) -> Sequence[Seen]:
    known = set(tail)
    common = [place for place, it in enumerate(items) if it.key.id in known]
    return items[common[-1] + 1 :] if common else items


def made_at(news: Seen) -> int:
    """When a thing was made, by the provider's clock; 0 where that is not known: it stands in no order then."""
    return news.entity.joined_at
