"""Single pages of Clerk's lists, in our words: one bad row never fails its page, and a limit is waited out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from instep.clerk import bounds, wire
from instep.clerk.call import Backend, Params, decode
from instep.identity.events import Seen
from instep.identity.ports import ProviderDown

PAGE = 500
WAITS = (0.2, 1.0, 3.0, 8.0)
MOST_LIMITED = 60
W = TypeVar("W", bound=Struct)
Pause = Callable[[float], Awaitable[None]]


class Listed(Struct, frozen=True):
    """One page: what could be read, in Clerk's order; how many rows there were; the last row's id; Clerk's total."""

    items: Sequence[Seen]
    rows: int
    last_id: str | None
    total: int | None = None
    unreadable: Sequence[str] = ()


class _Id(Struct):
    id: str


class _Bare(Struct):
    data: list[Raw]
    total_count: int | None = None


class _User(Struct, gc=False):
    """The part of a membership's row that is kept."""

    user_id: str | None = None


class _Organization(Struct, gc=False):
    id: str


class _Membership(Struct, gc=False):
    """A membership without the organization that each row repeats."""

    id: wire.Id
    role: wire.RoleKey
    organization: _Organization
    public_user_data: _User
    updated_at: wire.Version = 0
    created_at: wire.At | None = 0


class Reader(Generic[W]):
    """Reads the pages of one kind: `as_list` says that a page is a bare array, not `{data, total_count}`."""

    def __init__(self, type_: type[W], say: Callable[[W], Seen], *, as_list: bool) -> None:
        page: Any = list[type_] if as_list else _page_of(type_)  # type: ignore[valid-type]
        self._whole = msgspec.json.Decoder(page)
        bare: Any = list[Raw] if as_list else _Bare
        self._bare: msgspec.json.Decoder[Any] = msgspec.json.Decoder(bare)
        self._one = msgspec.json.Decoder(type_)
        self._say = say
        self._as_list = as_list

    def read(self, body: bytes) -> Listed:
        """One page. Raises ProviderDown for what is no page at all."""
        try:
            found = self._whole.decode(body)
            rows, total = (found, None) if self._as_list else (found.data, found.total_count)
            items = [self._say(row) for row in rows]
        except (*bounds.UNREADABLE, wire.Unreadable):
            return self._one_by_one(body)
        return Listed(items, len(items), items[-1].key.id if items else None, total)

    def _one_by_one(self, body: bytes) -> Listed:
        try:
            found = bounds.decode(self._bare.decode, body)
        except bounds.UNREADABLE as error:
            raise ProviderDown(f"Clerk's answer can't be read: {error}") from error
        rows, total = (found, None) if self._as_list else (found.data, found.total_count)
        items: list[Seen] = []
        bad: list[str] = []
        for raw in rows:
            try:
                items.append(self._say(wire.read(self._one.decode, raw)))
            except wire.Unreadable as error:
                bad.append(f"{id_of(raw) or 'A row without an id'}: {error}")
        return Listed(items, len(rows), id_of(rows[-1]) if rows else None, total, bad)


def _page_of(type_: type[W]) -> Any:
    return msgspec.defstruct("_Page", [("data", list[type_]), ("total_count", int | None, None)])  # type: ignore[valid-type]


def id_of(raw: Raw) -> str | None:
    """The id of a row that can't be read; None where not even that can."""
    try:
        return msgspec.json.decode(raw, type=_Id).id
    except bounds.UNREADABLE:
        return None


def _to_membership(row: _Membership) -> Seen:
    return wire.to_membership(row)  # type: ignore[arg-type]  # the part of a MembershipWire that it reads


_USERS = Reader(wire.UserWire, wire.to_user, as_list=True)
_ORGANIZATIONS = Reader(wire.OrganizationWire, wire.to_organization, as_list=False)
_MEMBERSHIPS = Reader(_Membership, _to_membership, as_list=False)


class _Count(Struct):
    total_count: int


class _Instance(Struct):
    id: str


class Pages:
    """Clerk's lists, one page a call. A 429 is waited out, a failure tried again a few times: reading harms nobody.

    `pause` waits for so many seconds; tests hand in one that does not.
    """

    def __init__(self, backend: Backend, *, pause: Pause = asyncio.sleep) -> None:
        self._backend = backend
        self._pause = pause

    async def users(self, params: Params) -> Listed:
        """A page of users."""
        return _USERS.read(await self.get("users", params))

    async def organizations(self, params: Params) -> Listed:
        """A page of organizations."""
        return _ORGANIZATIONS.read(await self.get("organizations", params))

    async def memberships(self, params: Params, *, path: str = "organization_memberships") -> Listed:
        """A page of the memberships of the whole instance, or of those at `path`."""
        return _MEMBERSHIPS.read(await self.get(path, params))

    async def count_users(self, params: Params) -> int:
        """How many users there are."""
        counted: _Count = decode(await self.get("users/count", params), _Count)
        return counted.total_count

    async def find_instance(self) -> str:
        """The instance that the secret key belongs to."""
        instance: _Instance = decode(await self.get("instance", []), _Instance)
        return instance.id

    async def get(self, path: str, params: Params) -> bytes:
        """The body of an answer. Raises ProviderDown when Clerk goes on failing, ProviderRefused at once."""
        failures = limited = 0
        while True:
            try:
                return await self._backend.send("GET", path, params=params)
            except ProviderDown as error:
                if error.status == 429 and limited < MOST_LIMITED:
                    limited += 1
                    await self._pause(error.retry_after or 1.0)
                elif failures < len(WAITS):
                    await self._pause(error.retry_after or WAITS[failures])
                    failures += 1
                else:
                    raise
