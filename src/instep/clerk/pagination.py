"""Pages of Clerk's lists with retries, and offset pagination that tolerates concurrent deletions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from instep.clerk import lenient_json, parsing
from instep.clerk.http import ClerkHttpClient, QueryParams, decode_response
from instep.clerk.parsing import parse_id
from instep.domain.errors import ClerkUnavailableError
from instep.domain.events import Observation
from instep.domain.listing import ListingCursor, ListingPage

PAGE_SIZE = 500
OVERLAP = 20  # rows that consecutive pages share
PREFETCHED_PAGES = 4
MAX_STEPS_BACK = 5
RETRY_DELAYS = (0.2, 1.0, 3.0, 8.0)  # seconds
MAX_RATE_LIMIT_RETRIES = 60
W = TypeVar("W", bound=Struct)
Sleep = Callable[[float], Awaitable[None]]


class ClerkListPage(Struct, frozen=True):
    """A page: readable items in Clerk's order, number of rows, id of the last row, total count by Clerk."""

    items: Sequence[Observation]
    rows: int
    last_id: str | None
    total: int | None = None
    unreadable: Sequence[str] = ()


FetchPage = Callable[[QueryParams], Awaitable[ClerkListPage]]


class TimestampTieBuffer:
    """Buffer of the items with a page's last timestamp; the next page may have more with the same one."""

    def __init__(self, since: int) -> None:
        self.since = since
        self._pending: list[Observation] = []

    @property
    def pending_count(self) -> int:
        """Number of buffered items."""
        return len(self._pending)

    def discard(self) -> int:
        """Discard the buffered items, because they will be fetched again; return their number."""
        count = self.pending_count
        self._pending = []
        return count

    def take(self, items: Sequence[Observation], *, is_last: bool) -> list[Observation]:
        """Add items and return those whose timestamp is complete; `since` becomes the incomplete timestamp."""
        known = {
            item.key.id: item
            for item in (*self._pending, *items)
            if not get_created_at(item) or get_created_at(item) >= self.since
        }
        found = list(known.values())
        last = max((get_created_at(item) for item in found), default=0)
        if is_last or not last:
            self._pending = []
            return found
        self._pending = [item for item in found if get_created_at(item) == last]
        self.since = last
        return [item for item in found if get_created_at(item) < last]


async def iterate_by_offset(fetch: FetchPage, cursor: ListingCursor | None = None) -> AsyncIterator[ListingPage]:
    """Iterate over a list that has only offset pagination, oldest first.

    A deletion shifts all following rows, so that the next offset would skip one. Each page therefore overlaps the
    previous one and continues after the last row that both contain.
    """
    prefetcher = _PagePrefetcher(fetch)
    ties = TimestampTieBuffer(cursor["since"] if cursor else 0)
    tail: list[str] = list(cursor["tail"]) if cursor else []
    taken, fetched = (cursor["taken"], cursor["fetched"]) if cursor else (0, 0)
    try:
        while True:
            listed, offset, is_contiguous = await _fetch_continuation(prefetcher, taken, tail)
            new_items = _rows_after_tail(listed.items, tail)
            is_last, since = listed.rows < PAGE_SIZE, ties.since
            taken = offset + listed.rows
            fetched += len(new_items) + len(listed.unreadable)
            items = ties.take(new_items, is_last=is_last)
            tail = [*tail, *(item.key.id for item in new_items)][-OVERLAP - ties.pending_count :]
            next_cursor: ListingCursor = {
                "since": ties.since,
                "tail": tail[: len(tail) - ties.pending_count],
                "taken": taken - ties.pending_count,
                "fetched": fetched - ties.pending_count,
            }
            yield ListingPage(
                items=items,
                since=since,
                until=None if is_last else ties.since,
                cursor=None if is_last else next_cursor,
                fetched=fetched,
                total=listed.total,
                unreadable=listed.unreadable,
                is_contiguous=is_contiguous,
            )
            if is_last:
                return
    finally:
        prefetcher.stop()


class _PagePrefetcher:
    """Requests the next pages while one is processed."""

    def __init__(self, fetch: FetchPage) -> None:
        self._fetch = fetch
        self._requests: dict[int, asyncio.Task[ClerkListPage]] = {}
        self._total = PAGE_SIZE

    async def get(self, offset: int) -> ClerkListPage:
        """Return the page at an offset; the pages after it are requested."""
        if offset not in self._requests:
            self.stop()
        for step in range(PREFETCHED_PAGES):
            page_offset = offset + step * (PAGE_SIZE - OVERLAP)
            if page_offset not in self._requests and (step == 0 or page_offset < self._total):
                self._requests[page_offset] = asyncio.create_task(self._fetch_page(page_offset))
        listed = await self._requests.pop(offset)
        self._total = listed.total or 0
        return listed

    async def _fetch_page(self, offset: int) -> ClerkListPage:
        return await self._fetch([("limit", PAGE_SIZE), ("offset", offset), ("order_by", "+created_at")])

    def stop(self) -> None:
        """Cancel requests of pages that are no longer needed."""
        for task in self._requests.values():
            task.cancel()
            task.add_done_callback(_discard_result)
        self._requests = {}


def _discard_result(task: "asyncio.Task[ClerkListPage]") -> None:
    """Retrieve the exception of a canceled request, so that it is not reported."""
    if not task.cancelled():
        task.exception()


async def _fetch_continuation(
    prefetcher: _PagePrefetcher, taken: int, tail: Sequence[str]
) -> tuple[ClerkListPage, int, bool]:
    """Return the page that continues after `tail`, its offset, and whether it does so without a gap."""
    offset = max(0, taken - OVERLAP) if tail else taken
    listed = await prefetcher.get(offset)
    if not taken:
        return listed, offset, True
    for _ in range(MAX_STEPS_BACK):
        if any(item.key.id in tail for item in listed.items):
            return listed, offset, True
        if not offset:
            break
        offset = max(0, min(offset, listed.total or 0) - PAGE_SIZE + OVERLAP)
        listed = await prefetcher.get(offset)
    return listed, offset, False


def _rows_after_tail(items: Sequence[Observation], tail: Sequence[str]) -> Sequence[Observation]:
    known = set(tail)
    common = [index for index, item in enumerate(items) if item.key.id in known]
    return items[common[-1] + 1 :] if common else items


def get_created_at(observation: Observation) -> int:
    """Return the creation time by Clerk's clock; 0 if unknown: such an entity has no order."""
    return observation.entity.joined_at


class _RawPage(Struct):
    data: list[Raw]
    total_count: int | None = None


class _MembershipUser(Struct, gc=False):
    """User of a membership row, without fields that are not stored."""

    user_id: str | None = None


class _MembershipOrganization(Struct, gc=False):
    id: str


class _MembershipListRow(Struct, gc=False):
    """Row of a membership list, without the organization's fields that each row repeats."""

    id: parsing.IdString
    role: parsing.RoleKeyString
    organization: _MembershipOrganization
    public_user_data: _MembershipUser
    updated_at: parsing.VersionNumber = 0
    created_at: parsing.UnixMillis | None = 0


class ClerkPageParser(Generic[W]):
    """Parser of pages of one kind. `is_bare_array`: a page is an array, not `{data, total_count}`."""

    def __init__(self, type_: type[W], convert: Callable[[W], Observation], *, is_bare_array: bool) -> None:
        page: Any = list[type_] if is_bare_array else _build_page_type(type_)  # type: ignore[valid-type]
        self._page_decoder = msgspec.json.Decoder(page)
        bare: Any = list[Raw] if is_bare_array else _RawPage
        self._raw_page_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(bare)
        self._row_decoder = msgspec.json.Decoder(type_)
        self._convert = convert
        self._is_bare_array = is_bare_array

    def parse(self, body: bytes) -> ClerkListPage:
        """Parse a page; if it has unreadable rows, row by row. Raises ClerkUnavailableError if it is no page."""
        try:
            found = self._page_decoder.decode(body)
            rows, total = (found, None) if self._is_bare_array else (found.data, found.total_count)
            items = [self._convert(row) for row in rows]
        except (*lenient_json.DECODE_ERRORS, parsing.UnreadableDataError):
            return self._parse_rows(body)
        return ClerkListPage(items, len(items), items[-1].key.id if items else None, total)

    def _parse_rows(self, body: bytes) -> ClerkListPage:
        try:
            found = lenient_json.decode_leniently(self._raw_page_decoder.decode, body)
        except lenient_json.DECODE_ERRORS as error:
            raise ClerkUnavailableError(f"Clerk's response can't be read: {error}") from error
        rows, total = (found, None) if self._is_bare_array else (found.data, found.total_count)
        items: list[Observation] = []
        unreadable: list[str] = []
        for raw in rows:
            try:
                items.append(self._convert(parsing.parse_object(self._row_decoder.decode, raw)))
            except parsing.UnreadableDataError as error:
                unreadable.append(f"{parse_id(raw) or 'A row without an id'}: {error}")
        return ClerkListPage(items, len(rows), parse_id(rows[-1]) if rows else None, total, unreadable)


def _build_page_type(type_: type[W]) -> Any:
    return msgspec.defstruct("_Page", [("data", list[type_]), ("total_count", int | None, None)])  # type: ignore[valid-type]


def _to_membership(row: _MembershipListRow) -> Observation:
    return parsing.to_membership(row)  # type: ignore[arg-type]  # the part of a ClerkMembershipPayload that it reads


_USER_PAGES = ClerkPageParser(parsing.ClerkUserPayload, parsing.to_user, is_bare_array=True)
_ORGANIZATION_PAGES = ClerkPageParser(parsing.ClerkOrganizationPayload, parsing.to_organization, is_bare_array=False)
_MEMBERSHIP_PAGES = ClerkPageParser(_MembershipListRow, _to_membership, is_bare_array=False)


class _CountPayload(Struct):
    total_count: int


class _InstancePayload(Struct):
    id: str


class ClerkPageReader:
    """Reader of Clerk's lists, one page per call. Waits after status 429 and retries failures; reads have no effect.

    `sleep` waits for a number of seconds; tests replace it.
    """

    def __init__(self, backend: ClerkHttpClient, *, sleep: Sleep = asyncio.sleep) -> None:
        self._backend = backend
        self._sleep = sleep

    async def users(self, params: QueryParams) -> ClerkListPage:
        """Return a page of users."""
        return _USER_PAGES.parse(await self.get("users", params))

    async def organizations(self, params: QueryParams) -> ClerkListPage:
        """Return a page of organizations."""
        return _ORGANIZATION_PAGES.parse(await self.get("organizations", params))

    async def memberships(self, params: QueryParams, *, path: str = "organization_memberships") -> ClerkListPage:
        """Return a page of the memberships of the instance, or of the list at `path`."""
        return _MEMBERSHIP_PAGES.parse(await self.get(path, params))

    async def count_users(self, params: QueryParams) -> int:
        """Return the number of users."""
        counted: _CountPayload = decode_response(await self.get("users/count", params), _CountPayload)
        return counted.total_count

    async def find_instance(self) -> str:
        """Return the id of the instance that the secret key belongs to."""
        instance: _InstancePayload = decode_response(await self.get("instance", []), _InstancePayload)
        return instance.id

    async def get(self, path: str, params: QueryParams) -> bytes:
        """Return the body of a response, with retries.

        Raises:
            ClerkUnavailableError: all retries failed.
            ClerkRejectedError: Clerk rejected the request; not retried.
        """
        failures = limited = 0
        while True:
            try:
                return await self._backend.send("GET", path, params=params)
            except ClerkUnavailableError as error:
                if error.status == 429 and limited < MAX_RATE_LIMIT_RETRIES:
                    limited += 1
                    await self._sleep(error.retry_after or 1.0)
                elif failures < len(RETRY_DELAYS):
                    await self._sleep(error.retry_after or RETRY_DELAYS[failures])
                    failures += 1
                else:
                    raise
