"""Scan of all users, organizations and memberships of a Clerk instance, and checks for absent ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

from instep.clerk.http import QueryParams
from instep.clerk.pagination import (
    PAGE_SIZE,
    ClerkListPage,
    ClerkPageReader,
    FetchPage,
    TimestampTieBuffer,
    get_created_at,
    iterate_by_offset,
)
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.events import Observation
from instep.domain.listing import CreationWindow, ListingCursor, ListingPage
from instep.domain.models import ClerkMembership, EntityKey, EntityKind
from instep.domain.reconcile import NeedsRefetch

MAX_CONCURRENT_CHECKS = 8


async def find_absent_keys(pages: ClerkPageReader, asks: Sequence[NeedsRefetch]) -> set[EntityKey]:
    """Those that Clerk does not have: a 404 for a user or an organization; for a membership both its sides' lists.

    A membership whose sides we do not know is never called absent.
    """
    lanes = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)

    async def look(ask: NeedsRefetch) -> bool:
        async with lanes:
            return await _is_absent(pages, ask)

    found = await asyncio.gather(*(look(ask) for ask in asks))
    return {ask.key for ask, is_absent in zip(asks, found, strict=True) if is_absent}


async def _is_absent(pages: ClerkPageReader, ask: NeedsRefetch) -> bool:
    if ask.key.kind != "membership":
        return not await _exists(pages, f"{ask.key.kind}s/{ask.key.id}")
    if not isinstance(ask.entity, ClerkMembership):
        return False
    organization, user = ask.entity.organization, ask.entity.user
    of_user = f"users/{user}/organization_memberships"
    of_organization = f"organizations/{organization}/memberships"
    if await _is_listed(pages, of_organization, ask.key, user):
        return False
    return not await _is_listed(pages, of_user, ask.key, None)


async def _exists(pages: ClerkPageReader, path: str) -> bool:
    try:
        await pages.get(path, [])
    except ClerkRejectedError as error:
        if error.status != 404:
            raise
        return False
    return True


async def _is_listed(pages: ClerkPageReader, path: str, key: EntityKey, user: str | None) -> bool:
    """Whether a list shows this membership; a list whose owner Clerk does not have shows none.

    One that is longer than a page is not looked through: then nothing is said to be absent.
    """
    try:
        listed = await pages.memberships([("limit", 500), *([("user_id", user)] if user else [])], path=path)
    except ClerkRejectedError as error:
        if error.status != 404:
            raise
        return False
    is_partial = len(listed.items) < (listed.total or 0)
    return is_partial or any(it.key == key for it in listed.items)


TARGET_WINDOWS = 32
MIN_WINDOW_SIZE = 4 * PAGE_SIZE
MAX_HALVINGS = 20
TEN_YEARS_MILLIS = 3_650 * 86_400_000


class InstanceScanner:
    """Everything of one Clerk instance; see sync.ports.Everything."""

    def __init__(self, pages: ClerkPageReader) -> None:
        self._pages = pages

    async def find_instance(self) -> str | None:
        """The id of the instance, None where this key or stand-in does not tell it."""
        try:
            return await self._pages.find_instance()
        except ClerkRejectedError as error:
            if error.status in (403, 404):
                return None
            raise

    async def count(self, kind: EntityKind) -> int:
        """How many there are now, by Clerk's own count."""
        if kind == "user":
            return await self._pages.count_users([])
        return (await self._get_list_method(kind)([("limit", 1)])).total or 0

    async def count_within(self, window: CreationWindow) -> int | None:
        """How many a window has now; None where Clerk does not count by windows."""
        if window.kind != "user":
            return None
        return await self._pages.count_users(_build_window_params(window.since, window.until))

    async def windows(self, kind: EntityKind) -> list[CreationWindow]:
        """The windows of a kind: those that nothing is made in any more, and the open one at the end.

        Users in up to about 32 windows of the same size, found by Clerk's counts; everything else in one.
        """
        if kind != "user":
            return [CreationWindow(kind=kind)]
        newest = await self._pages.users([("limit", 1), ("order_by", "-created_at")])
        if not newest.items:
            return [CreationWindow(kind=kind)]
        end = get_created_at(newest.items[0]) + 1
        closed = [
            CreationWindow(kind=kind, since=since, until=until) for since, until in pairwise(await self._split(end))
        ]
        return [*closed, CreationWindow(kind=kind, since=end, is_open=True)]

    async def list_changed(self, *, offset: int) -> Sequence[Observation]:
        """A page of users, the last changed first."""
        listed = await self._pages.users([("limit", PAGE_SIZE), ("offset", offset), ("order_by", "-updated_at")])
        return listed.items

    async def find_absent(self, asks: Sequence[NeedsRefetch]) -> set[EntityKey]:
        """Those that Clerk certainly does not have; see clerk.absent."""
        return await find_absent_keys(self._pages, asks)

    def pages(self, window: CreationWindow, cursor: ListingCursor | None = None) -> AsyncIterator[ListingPage]:
        """The pages of a window, from the beginning or from where a walk stopped."""
        if window.kind == "user":
            return self._iterate_by_cursor(window, cursor)
        return iterate_by_offset(self._get_list_method(window.kind), cursor)

    def _get_list_method(self, kind: EntityKind) -> FetchPage:
        listers: dict[EntityKind, FetchPage] = {
            "user": self._pages.users,
            "organization": self._pages.organizations,
            "membership": self._pages.memberships,
        }
        return listers[kind]

    async def _split(self, end: int) -> list[int]:
        """Bounds of windows in which about as many users were made."""
        total = await self._pages.count_users(_build_window_params(0, end))
        if total <= MIN_WINDOW_SIZE:
            return [0, end]
        oldest = await self._pages.users([("limit", 1), ("order_by", "+created_at")])
        start = get_created_at(oldest.items[0]) if oldest.items else 0
        if await self._pages.count_users(
            _build_window_params(end + TEN_YEARS_MILLIS, None)
        ):  # counts that do not heed the bounds
            step = max((end - start) // TARGET_WINDOWS, 1)
            return [0, *range(start + step, end - step + 1, step), end]
        most = max(total // TARGET_WINDOWS, MIN_WINDOW_SIZE)
        spans = [(start, end, total)]
        for _ in range(MAX_HALVINGS):
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
        before = await self._pages.count_users(_build_window_params(since, middle))
        return [(since, middle, before), (middle, until, max(count - before, 0))]

    async def _iterate_by_cursor(
        self, window: CreationWindow, cursor: ListingCursor | None
    ) -> AsyncIterator[ListingPage]:
        ties = TimestampTieBuffer(cursor["since"] if cursor else window.since)
        after, fetched = (cursor["after"], cursor["fetched"]) if cursor else (None, 0)
        safe, floor = after, window.since
        while True:
            listed = await self._after(after, floor, window.until)
            if listed is None:  # whom the cursor named is deleted: go on by time
                fetched -= ties.forget()
                floor, after = ties.since, None
                continue
            fetched += sum(_is_counted(it, floor, window) for it in listed.items) + len(listed.unreadable)
            is_last, since = listed.rows < PAGE_SIZE, ties.since
            after = listed.last_id or after
            items = ties.take([it for it in listed.items if _is_in_window(it, window)], is_last=is_last)
            safe = items[-1].key.id if items else safe
            resting: ListingCursor = {"after": safe, "since": ties.since, "fetched": fetched - ties.held}
            yield ListingPage(
                items=items,
                since=since,
                until=window.until if is_last else ties.since,
                cursor=None if is_last else resting,
                fetched=fetched,
                unreadable=listed.unreadable,
            )
            if is_last:
                return

    async def _after(self, after: str | None, since: int, until: int | None) -> ClerkListPage | None:
        """The users made after this one; None where Clerk does not know this one (any more)."""
        params: QueryParams = [("limit", PAGE_SIZE), ("order_by", "+created_at"), *_build_window_params(since, until)]
        try:
            listed = await self._pages.users([*params, ("starting_after", after)] if after else params)
        except ClerkRejectedError as error:
            if after is None or error.status not in (400, 404, 422):
                raise
            return None
        if listed.rows == PAGE_SIZE and listed.last_id in (None, after):
            raise ClerkUnavailableError("Clerk's pages of users do not go on.")
        return listed


def _is_in_window(news: Observation, window: CreationWindow) -> bool:
    if not get_created_at(news):
        return True
    return get_created_at(news) >= window.since and (window.until is None or get_created_at(news) < window.until)


def _is_counted(news: Observation, floor: int, window: CreationWindow) -> bool:
    """Whether Clerk's own count of the window has it too: perhaps with the very moments of its bounds."""
    if not get_created_at(news):
        return True
    if floor > window.since:  # going on by time: what came before was counted
        return get_created_at(news) >= floor
    return get_created_at(news) >= window.since - 1 and (window.until is None or get_created_at(news) <= window.until)


def _build_window_params(since: int, until: int | None) -> QueryParams:
    """The parameters of a window. Clerk leaves open whether they take the moment itself in: we sort it out."""
    params: QueryParams = [("created_at_after", since - 1)] if since > 0 else []
    return params if until is None else [*params, ("created_at_before", until)]
