"""Reading everything in Clerk, page by page, so that what is made or deleted meanwhile skips and doubles nobody.

Users are walked by cursor, oldest first, in windows of the time in which they were made; the other lists by offset, see
clerk.offsets.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

from instep.clerk.absent import find_absent
from instep.clerk.call import Params
from instep.clerk.offsets import Fetch, Ties, by_offset, made_at
from instep.clerk.pages import PAGE, Listed, Pages
from instep.identity.events import Seen
from instep.identity.model import Key, Kind
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.identity.rules import AskAgain
from instep.identity.whole import Cursor, Page, Window

WINDOWS = 32
LEAST_WINDOW = 4 * PAGE
HALVINGS = 20
TEN_YEARS = 3_650 * 86_400_000


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

        Users in up to about 32 windows of the same size, found by Clerk's counts; everything else in one.
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


def _is_within(news: Seen, window: Window) -> bool:
    if not made_at(news):
        return True
    return made_at(news) >= window.since and (window.until is None or made_at(news) < window.until)


def _is_counted(news: Seen, floor: int, window: Window) -> bool:
    """Whether Clerk's own count of the window has it too: perhaps with the very moments of its bounds."""
    if not made_at(news):
        return True
    if floor > window.since:  # going on by time: what came before was counted
        return made_at(news) >= floor
    return made_at(news) >= window.since - 1 and (window.until is None or made_at(news) <= window.until)


def _bounds(since: int, until: int | None) -> Params:
    """The parameters of a window. Clerk leaves open whether they take the moment itself in: we sort it out."""
    params: Params = [("created_at_after", since - 1)] if since > 0 else []
    return params if until is None else [*params, ("created_at_before", until)]
