"""Scanner of all users, organizations and memberships of a Clerk instance, and checks for absent ones."""

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


async def find_absent_keys(pages: ClerkPageReader, refetches: Sequence[NeedsRefetch]) -> set[EntityKey]:
    """Return the entities that Clerk does not have.

    A user or an organization is absent if Clerk answers 404; a membership if neither its user's nor its organization's
    list has it. A membership whose user and organization are unknown is never absent.
    """
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)

    async def check(refetch: NeedsRefetch) -> bool:
        async with semaphore:
            return await _is_absent(pages, refetch)

    found = await asyncio.gather(*(check(refetch) for refetch in refetches))
    return {refetch.key for refetch, is_absent in zip(refetches, found, strict=True) if is_absent}


async def _is_absent(pages: ClerkPageReader, refetch: NeedsRefetch) -> bool:
    if refetch.key.kind != "membership":
        return not await _exists(pages, f"{refetch.key.kind}s/{refetch.key.id}")
    if not isinstance(refetch.entity, ClerkMembership):
        return False
    organization, user = refetch.entity.organization, refetch.entity.user
    of_user = f"users/{user}/organization_memberships"
    of_organization = f"organizations/{organization}/memberships"
    if await _is_listed(pages, of_organization, refetch.key, user):
        return False
    return not await _is_listed(pages, of_user, refetch.key, None)


async def _exists(pages: ClerkPageReader, path: str) -> bool:
    try:
        await pages.get(path, [])
    except ClerkRejectedError as error:
        if error.status != 404:
            raise
        return False
    return True


async def _is_listed(pages: ClerkPageReader, path: str, key: EntityKey, user: str | None) -> bool:
    """Return whether a list has this membership; the list of a missing owner is empty.

    Only the first page is read: a longer list counts as having it, so that nothing is wrongly called absent.
    """
    try:
        listed = await pages.memberships([("limit", 500), *([("user_id", user)] if user else [])], path=path)
    except ClerkRejectedError as error:
        if error.status != 404:
            raise
        return False
    is_partial = len(listed.items) < (listed.total or 0)
    return is_partial or any(item.key == key for item in listed.items)


TARGET_WINDOWS = 32
MIN_WINDOW_SIZE = 4 * PAGE_SIZE
MAX_HALVINGS = 20
TEN_YEARS_MILLIS = 3_650 * 86_400_000


class InstanceScanner:
    """Scanner of one Clerk instance. Implements sync's ClerkLister."""

    def __init__(self, pages: ClerkPageReader) -> None:
        self._pages = pages

    async def find_instance(self) -> str | None:
        """Return the instance's id; None if the key or an emulator does not provide it."""
        try:
            return await self._pages.find_instance()
        except ClerkRejectedError as error:
            if error.status in (403, 404):
                return None
            raise

    async def count(self, kind: EntityKind) -> int:
        """Return the current number of entities by Clerk's count."""
        if kind == "user":
            return await self._pages.count_users([])
        return (await self._get_list_method(kind)([("limit", 1)])).total or 0

    async def count_within(self, window: CreationWindow) -> int | None:
        """Return the current number of entities in a window; None if Clerk does not count by window."""
        if window.kind != "user":
            return None
        return await self._pages.count_users(_build_window_params(window.since, window.until))

    async def windows(self, kind: EntityKind) -> list[CreationWindow]:
        """Return the windows of a kind: closed ones, in which nothing is created any more, and an open last one.

        Users are split into up to 32 windows of similar size by Clerk's counts; other kinds have one window.
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
        """Return a page of users, most recently updated first."""
        listed = await self._pages.users([("limit", PAGE_SIZE), ("offset", offset), ("order_by", "-updated_at")])
        return listed.items

    async def find_absent(self, refetches: Sequence[NeedsRefetch]) -> set[EntityKey]:
        """Return the entities that Clerk certainly does not have; see `find_absent_keys`."""
        return await find_absent_keys(self._pages, refetches)

    def pages(self, window: CreationWindow, cursor: ListingCursor | None = None) -> AsyncIterator[ListingPage]:
        """Iterate over the pages of a window, from the start or from the cursor of an earlier scan."""
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
        """Return the bounds of windows in which similar numbers of users were created."""
        total = await self._pages.count_users(_build_window_params(0, end))
        if total <= MIN_WINDOW_SIZE:
            return [0, end]
        oldest = await self._pages.users([("limit", 1), ("order_by", "+created_at")])
        start = get_created_at(oldest.items[0]) if oldest.items else 0
        if await self._pages.count_users(
            _build_window_params(end + TEN_YEARS_MILLIS, None)
        ):  # counts that ignore the bounds
            step = max((end - start) // TARGET_WINDOWS, 1)
            return [0, *range(start + step, end - step + 1, step), end]
        max_size = max(total // TARGET_WINDOWS, MIN_WINDOW_SIZE)
        spans = [(start, end, total)]
        for _ in range(MAX_HALVINGS):
            if all(count <= max_size or until - since < 2 for since, until, count in spans):
                break
            halves = await asyncio.gather(*(self._halve(span, max_size) for span in spans))
            spans = [half for pair in halves for half in pair]
        return [0, *(since for since, _, _ in spans[1:]), end]

    async def _halve(self, span: tuple[int, int, int], max_size: int) -> list[tuple[int, int, int]]:
        since, until, count = span
        if count <= max_size or until - since < 2:
            return [span]
        middle = (since + until) // 2
        before = await self._pages.count_users(_build_window_params(since, middle))
        return [(since, middle, before), (middle, until, max(count - before, 0))]

    async def _iterate_by_cursor(
        self, window: CreationWindow, cursor: ListingCursor | None
    ) -> AsyncIterator[ListingPage]:
        ties = TimestampTieBuffer(cursor["since"] if cursor else window.since)
        after_id, fetched = (cursor["after"], cursor["fetched"]) if cursor else (None, 0)
        safe_id, start = after_id, window.since
        while True:
            listed = await self._fetch_users_after(after_id, start, window.until)
            if listed is None:  # the user at the cursor is deleted: continue by time
                fetched -= ties.discard()
                start, after_id = ties.since, None
                continue
            fetched += sum(_is_counted(item, start, window) for item in listed.items) + len(listed.unreadable)
            is_last, since = listed.rows < PAGE_SIZE, ties.since
            after_id = listed.last_id or after_id
            items = ties.take([item for item in listed.items if _is_in_window(item, window)], is_last=is_last)
            safe_id = items[-1].key.id if items else safe_id
            next_cursor: ListingCursor = {
                "after": safe_id,
                "since": ties.since,
                "fetched": fetched - ties.pending_count,
            }
            yield ListingPage(
                items=items,
                since=since,
                until=window.until if is_last else ties.since,
                cursor=None if is_last else next_cursor,
                fetched=fetched,
                unreadable=listed.unreadable,
            )
            if is_last:
                return

    async def _fetch_users_after(self, after_id: str | None, since: int, until: int | None) -> ClerkListPage | None:
        """Return the page of users after this one; None if Clerk does not have this one any more."""
        params: QueryParams = [("limit", PAGE_SIZE), ("order_by", "+created_at"), *_build_window_params(since, until)]
        try:
            listed = await self._pages.users([*params, ("starting_after", after_id)] if after_id else params)
        except ClerkRejectedError as error:
            if after_id is None or error.status not in (400, 404, 422):
                raise
            return None
        if listed.rows == PAGE_SIZE and listed.last_id in (None, after_id):
            raise ClerkUnavailableError("Clerk's pages of users do not advance.")
        return listed


def _is_in_window(observation: Observation, window: CreationWindow) -> bool:
    if not get_created_at(observation):
        return True
    return get_created_at(observation) >= window.since and (
        window.until is None or get_created_at(observation) < window.until
    )


def _is_counted(observation: Observation, start: int, window: CreationWindow) -> bool:
    """Return whether Clerk's count of the window includes an entity; its bounds may be inclusive."""
    if not get_created_at(observation):
        return True
    if start > window.since:  # continued by time: earlier ones were counted
        return get_created_at(observation) >= start
    return get_created_at(observation) >= window.since - 1 and (
        window.until is None or get_created_at(observation) <= window.until
    )


def _build_window_params(since: int, until: int | None) -> QueryParams:
    """Return the query parameters of a window. Whether Clerk's bounds are inclusive is undocumented: we filter."""
    params: QueryParams = [("created_at_after", since - 1)] if since > 0 else []
    return params if until is None else [*params, ("created_at_before", until)]
