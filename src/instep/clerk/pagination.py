"""Single pages of Clerk's lists with retries, and offset pagination that tolerates concurrent deletions."""

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

OVERLAP = 20
PREFETCHED_PAGES = 4
MAX_STEPS_BACK = 5


class ClerkListPage(Struct, frozen=True):
    """One page: what could be read, in Clerk's order; how many rows there were; the last row's id; Clerk's total."""

    items: Sequence[Observation]
    rows: int
    last_id: str | None
    total: int | None = None
    unreadable: Sequence[str] = ()


FetchPage = Callable[[QueryParams], Awaitable[ClerkListPage]]


class TimestampTieBuffer:
    """Holds back what was made in the very last moment of a page: the next page may have more of that moment."""

    def __init__(self, since: int) -> None:
        self.since = since
        self._held: list[Observation] = []

    @property
    def held(self) -> int:
        """How many are held back."""
        return len(self._held)

    def forget(self) -> int:
        """They will come again; gives how many."""
        count = self.held
        self._held = []
        return count

    def take(self, items: Sequence[Observation], *, is_last: bool) -> list[Observation]:
        """What is whole now; `since` moves on to the moment that is not."""
        known = {
            it.key.id: it for it in (*self._held, *items) if not get_created_at(it) or get_created_at(it) >= self.since
        }
        found = list(known.values())
        last = max((get_created_at(it) for it in found), default=0)
        if is_last or not last:
            self._held = []
            return found
        self._held = [it for it in found if get_created_at(it) == last]
        self.since = last
        return [it for it in found if get_created_at(it) < last]


async def iterate_by_offset(fetch: FetchPage, cursor: ListingCursor | None = None) -> AsyncIterator[ListingPage]:
    """A list that has only offsets, oldest first.

    A deletion moves everything behind it to the left, so that the next offset would skip someone: each page begins
    before the end of the last one, and goes on behind the last row that both have.
    """
    ahead = _PagePrefetcher(fetch)
    ties = TimestampTieBuffer(cursor["since"] if cursor else 0)
    tail: list[str] = list(cursor["tail"]) if cursor else []
    taken, fetched = (cursor["taken"], cursor["fetched"]) if cursor else (0, 0)
    try:
        while True:
            listed, offset, is_sure = await _fetch_continuation(ahead, taken, tail)
            fresh = _rows_after_tail(listed.items, tail)
            is_last, since = listed.rows < PAGE_SIZE, ties.since
            taken = offset + listed.rows
            fetched += len(fresh) + len(listed.unreadable)
            items = ties.take(fresh, is_last=is_last)
            tail = [*tail, *(it.key.id for it in fresh)][-OVERLAP - ties.held :]
            resting: ListingCursor = {
                "since": ties.since,
                "tail": tail[: len(tail) - ties.held],
                "taken": taken - ties.held,
                "fetched": fetched - ties.held,
            }
            yield ListingPage(
                items=items,
                since=since,
                until=None if is_last else ties.since,
                cursor=None if is_last else resting,
                fetched=fetched,
                total=listed.total,
                unreadable=listed.unreadable,
                is_contiguous=is_sure,
            )
            if is_last:
                return
    finally:
        ahead.stop()


class _PagePrefetcher:
    """Asks for the next pages while one is worked on."""

    def __init__(self, fetch: FetchPage) -> None:
        self._fetch = fetch
        self._asked: dict[int, asyncio.Task[ClerkListPage]] = {}
        self._total = PAGE_SIZE

    async def get(self, offset: int) -> ClerkListPage:
        """The page at an offset; the ones behind it are asked for."""
        if offset not in self._asked:
            self.stop()
        for step in range(PREFETCHED_PAGES):
            at = offset + step * (PAGE_SIZE - OVERLAP)
            if at not in self._asked and (step == 0 or at < self._total):
                self._asked[at] = asyncio.create_task(self._ask(at))
        listed = await self._asked.pop(offset)
        self._total = listed.total or 0
        return listed

    async def _ask(self, offset: int) -> ClerkListPage:
        return await self._fetch([("limit", PAGE_SIZE), ("offset", offset), ("order_by", "+created_at")])

    def stop(self) -> None:
        """What was asked for ahead is not needed."""
        for task in self._asked.values():
            task.cancel()
            task.add_done_callback(_discard_result)
        self._asked = {}


def _discard_result(task: "asyncio.Task[ClerkListPage]") -> None:
    """Nobody asks any more how it ended."""
    if not task.cancelled():
        task.exception()


async def _fetch_continuation(
    ahead: _PagePrefetcher, taken: int, tail: Sequence[str]
) -> tuple[ClerkListPage, int, bool]:
    """The page that goes on behind `tail`, its offset, and whether it does so without a gap."""
    offset = max(0, taken - OVERLAP) if tail else taken
    listed = await ahead.get(offset)
    if not taken:
        return listed, offset, True
    for _ in range(MAX_STEPS_BACK):
        if any(it.key.id in tail for it in listed.items):
            return listed, offset, True
        if not offset:
            break
        offset = max(0, min(offset, listed.total or 0) - PAGE_SIZE + OVERLAP)
        listed = await ahead.get(offset)
    return listed, offset, False


def _rows_after_tail(items: Sequence[Observation], tail: Sequence[str]) -> Sequence[Observation]:
    known = set(tail)
    common = [place for place, it in enumerate(items) if it.key.id in known]
    return items[common[-1] + 1 :] if common else items


def get_created_at(news: Observation) -> int:
    """When a thing was made, by the provider's clock; 0 where that is not known: it stands in no order then."""
    return news.entity.joined_at


PAGE_SIZE = 500
RETRY_DELAYS = (0.2, 1.0, 3.0, 8.0)
MAX_RATE_LIMIT_RETRIES = 60
W = TypeVar("W", bound=Struct)
Sleep = Callable[[float], Awaitable[None]]


class _RawPage(Struct):
    data: list[Raw]
    total_count: int | None = None


class _MembershipUser(Struct, gc=False):
    """The part of a membership's row that is kept."""

    user_id: str | None = None


class _MembershipOrganization(Struct, gc=False):
    id: str


class _MembershipListRow(Struct, gc=False):
    """A membership without the organization that each row repeats."""

    id: parsing.IdString
    role: parsing.RoleKeyString
    organization: _MembershipOrganization
    public_user_data: _MembershipUser
    updated_at: parsing.VersionNumber = 0
    created_at: parsing.UnixMillis | None = 0


class ClerkPageParser(Generic[W]):
    """Reads the pages of one kind: `as_list` says that a page is a bare array, not `{data, total_count}`."""

    def __init__(self, type_: type[W], say: Callable[[W], Observation], *, is_bare_array: bool) -> None:
        page: Any = list[type_] if is_bare_array else _build_page_type(type_)  # type: ignore[valid-type]
        self._whole = msgspec.json.Decoder(page)
        bare: Any = list[Raw] if is_bare_array else _RawPage
        self._bare: msgspec.json.Decoder[Any] = msgspec.json.Decoder(bare)
        self._one = msgspec.json.Decoder(type_)
        self._say = say
        self._is_bare_array = is_bare_array

    def read(self, body: bytes) -> ClerkListPage:
        """One page. Raises ClerkUnavailableError for what is no page at all."""
        try:
            found = self._whole.decode(body)
            rows, total = (found, None) if self._is_bare_array else (found.data, found.total_count)
            items = [self._say(row) for row in rows]
        except (*lenient_json.DECODE_ERRORS, parsing.UnreadableDataError):
            return self._one_by_one(body)
        return ClerkListPage(items, len(items), items[-1].key.id if items else None, total)

    def _one_by_one(self, body: bytes) -> ClerkListPage:
        try:
            found = lenient_json.decode_leniently(self._bare.decode, body)
        except lenient_json.DECODE_ERRORS as error:
            raise ClerkUnavailableError(f"Clerk's answer can't be read: {error}") from error
        rows, total = (found, None) if self._is_bare_array else (found.data, found.total_count)
        items: list[Observation] = []
        bad: list[str] = []
        for raw in rows:
            try:
                items.append(self._say(parsing.parse_object(self._one.decode, raw)))
            except parsing.UnreadableDataError as error:
                bad.append(f"{parse_id(raw) or 'A row without an id'}: {error}")
        return ClerkListPage(items, len(rows), parse_id(rows[-1]) if rows else None, total, bad)


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
    """Clerk's lists, one page a call. A 429 is waited out, a failure tried again a few times: reading harms nobody.

    `pause` waits for so many seconds; tests hand in one that does not.
    """

    def __init__(self, backend: ClerkHttpClient, *, pause: Sleep = asyncio.sleep) -> None:
        self._backend = backend
        self._pause = pause

    async def users(self, params: QueryParams) -> ClerkListPage:
        """A page of users."""
        return _USER_PAGES.read(await self.get("users", params))

    async def organizations(self, params: QueryParams) -> ClerkListPage:
        """A page of organizations."""
        return _ORGANIZATION_PAGES.read(await self.get("organizations", params))

    async def memberships(self, params: QueryParams, *, path: str = "organization_memberships") -> ClerkListPage:
        """A page of the memberships of the whole instance, or of those at `path`."""
        return _MEMBERSHIP_PAGES.read(await self.get(path, params))

    async def count_users(self, params: QueryParams) -> int:
        """How many users there are."""
        counted: _CountPayload = decode_response(await self.get("users/count", params), _CountPayload)
        return counted.total_count

    async def find_instance(self) -> str:
        """The instance that the secret key belongs to."""
        instance: _InstancePayload = decode_response(await self.get("instance", []), _InstancePayload)
        return instance.id

    async def get(self, path: str, params: QueryParams) -> bytes:
        """The body of an answer. Raises ClerkUnavailableError when Clerk goes on failing, ClerkRejectedError at once."""
        failures = limited = 0
        while True:
            try:
                return await self._backend.send("GET", path, params=params)
            except ClerkUnavailableError as error:
                if error.status == 429 and limited < MAX_RATE_LIMIT_RETRIES:
                    limited += 1
                    await self._pause(error.retry_after or 1.0)
                elif failures < len(RETRY_DELAYS):
                    await self._pause(error.retry_after or RETRY_DELAYS[failures])
                    failures += 1
                else:
                    raise
