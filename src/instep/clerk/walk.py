"""Reading everything in Clerk, page by page, so that what is made or deleted meanwhile skips and doubles nobody.

Users are walked by cursor, oldest first, in windows of the time in which they were made. The other lists have only
offsets: each page repeats the end of the one before, and where that can't be found again the page is asked for
further back.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise

from instep.clerk.absent import find_absent
from instep.clerk.call import Params
from instep.clerk.pages import PAGE, Listed, Pages
from instep.identity.events import Seen
from instep.identity.model import Key, Kind
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.identity.rules import AskAgain
from instep.identity.whole import Cursor, Page, Window

WINDOWS = 16
LEAST_WINDOW = 4 * PAGE
HALVINGS = 20
OVERLAP = 20
AHEAD = 4
STEPS_BACK = 5
TEN_YEARS = 3_650 * 86_400_000

Fetch = Callable[[Params], Awaitable[Listed]]


class Walk:
    """Everything of one Clerk instance; see sync.ports.Everything."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def find_instance(self) -> str | None:
        """The id of the instance, None where this key or stand-in does not tell it."""
        try:
            return await self._pages.find_instance()
        except ProviderRefused as error:
            if error.status in (403, 404):
                return None
            raise

    async def count(self, kind: Kind) -> int:
        """How many there are now, by Clerk's own count."""
        if kind == "user":
            return await self._pages.count_users([])
        return (await self._lister(kind)([("limit", 1)])).total or 0

    async def count_within(self, window: Window) -> int | None:
        """How many a window has now; None where Clerk does not count by windows."""
        if window.kind != "user":
            return None
        return await self._pages.count_users(_bounds(window.since, window.until))

    async def windows(self, kind: Kind) -> list[Window]:
        """The windows of a kind: those that nothing is made in any more, and the open one at the end.

        Users in up to about 16 windows of the same size, found by Clerk's counts; everything else in one.
        """
        if kind != "user":
            return [Window(kind=kind)]
        newest = await self._pages.users([("limit", 1), ("order_by", "-created_at")])
        if not newest.items:
            return [Window(kind=kind)]
        end = made_at(newest.items[0]) + 1
        closed = [Window(kind=kind, since=since, until=until) for since, until in pairwise(await self._split(end))]
        return [*closed, Window(kind=kind, since=end, is_open=True)]

    async def list_changed(self, *, offset: int) -> Sequence[Seen]:
        """A page of users, the last changed first."""
        listed = await self._pages.users([("limit", PAGE), ("offset", offset), ("order_by", "-updated_at")])
        return listed.items

    async def find_absent(self, asks: Sequence[AskAgain]) -> set[Key]:
        """Those that Clerk certainly does not have; see clerk.absent."""
        return await find_absent(self._pages, asks)

    def pages(self, window: Window, cursor: Cursor | None = None) -> AsyncIterator[Page]:
        """The pages of a window, from the beginning or from where a walk stopped."""
        if window.kind == "user":
            return self._by_cursor(window, cursor)
        return by_offset(self._lister(window.kind), cursor)

    def _lister(self, kind: Kind) -> Fetch:
        listers: dict[Kind, Fetch] = {
            "user": self._pages.users,
            "organization": self._pages.organizations,
            "membership": self._pages.memberships,
        }
        return listers[kind]

    async def _split(self, end: int) -> list[int]:
        """Bounds of windows in which about as many users were made."""
        total = await self._pages.count_users(_bounds(0, end))
        if total <= LEAST_WINDOW:
            return [0, end]
        oldest = await self._pages.users([("limit", 1), ("order_by", "+created_at")])
        start = made_at(oldest.items[0]) if oldest.items else 0
        if await self._pages.count_users(_bounds(end + TEN_YEARS, None)):  # counts that do not heed the bounds
            step = max((end - start) // WINDOWS, 1)
            return [0, *range(start + step, end - step + 1, step), end]
        most = max(total // WINDOWS, LEAST_WINDOW)
        spans = [(start, end, total)]
        for _ in range(HALVINGS):
            if all(count <= most or until - since < 2 for since, until, count in spans):
                break
            halves = await asyncio.gather(*(self._halve(span, most) for span in spans))
            spans = [half for pair in halves for half in pair]
        return [0, *(since for since, _, _ in spans[1:]), end]

    async def _halve(self, span: tuple[int, int, int], most: int) -> list[tuple[int, int, int]]:
        since, until, count = span
        if count <= most or until - since < 2:
            return [span]
        middle = (since + until) // 2
        before = await self._pages.count_users(_bounds(since, middle))
        return [(since, middle, before), (middle, until, max(count - before, 0))]

    async def _by_cursor(self, window: Window, cursor: Cursor | None) -> AsyncIterator[Page]:
        ties = Ties(cursor["since"] if cursor else window.since)
        after, fetched = (cursor["after"], cursor["fetched"]) if cursor else (None, 0)
        safe, floor = after, window.since
        while True:
            listed = await self._after(after, floor, window.until)
            if listed is None:  # whom the cursor named is deleted: go on by time
                fetched -= ties.forget()
                floor, after = ties.since, None
                continue
            fetched += sum(_is_counted(it, floor, window) for it in listed.items) + len(listed.unreadable)
            is_last, since = listed.rows < PAGE, ties.since
            after = listed.last_id or after
            items = ties.take([it for it in listed.items if _is_within(it, window)], is_last=is_last)
            safe = items[-1].key.id if items else safe
            resting: Cursor = {"after": safe, "since": ties.since, "fetched": fetched - ties.held}
            yield Page(
                items=items,
                since=since,
                until=window.until if is_last else ties.since,
                cursor=None if is_last else resting,
                fetched=fetched,
                unreadable=listed.unreadable,
            )
            if is_last:
                return

    async def _after(self, after: str | None, since: int, until: int | None) -> Listed | None:
        """The users made after this one; None where Clerk does not know this one (any more)."""
        params: Params = [("limit", PAGE), ("order_by", "+created_at"), *_bounds(since, until)]
        try:
            listed = await self._pages.users([*params, ("starting_after", after)] if after else params)
        except ProviderRefused as error:
            if after is None or error.status not in (400, 404, 422):
                raise
            return None
        if listed.rows == PAGE and listed.last_id in (None, after):
            raise ProviderDown("Clerk's pages of users do not go on.")
        return listed


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
        known = {it.key.id: it for it in (*self._held, *items) if made_at(it) >= self.since}
        found = list(known.values())
        if is_last or not found:
            self._held = []
            return found
        last = max(made_at(it) for it in found)
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
    """When a thing was made, by the provider's clock."""
    return news.entity.joined_at


def _is_within(news: Seen, window: Window) -> bool:
    return made_at(news) >= window.since and (window.until is None or made_at(news) < window.until)


def _is_counted(news: Seen, floor: int, window: Window) -> bool:
    """Whether Clerk's own count of the window has it too: perhaps with the very moments of its bounds."""
    if floor > window.since:  # going on by time: what came before was counted
        return made_at(news) >= floor
    return made_at(news) >= window.since - 1 and (window.until is None or made_at(news) <= window.until)


def _bounds(since: int, until: int | None) -> Params:
    """The parameters of a window. Clerk leaves open whether they take the moment itself in: we sort it out."""
    params: Params = [("created_at_after", since - 1)] if since > 0 else []
    return params if until is None else [*params, ("created_at_before", until)]
