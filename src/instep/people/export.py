"""The whole of a filtered list as CSV or JSON, page by page, so that a long one needs no memory."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec.structs import replace

from instep.access.principal import Access
from instep.kit.clock import to_iso
from instep.kit.sheet import line
from instep.people.merge import Ask, InvitationRow, MemberRow, People, decode_cursor
from instep.people.shapes import row_as_json

Format = Literal["csv", "json"]
PAGE = 500
COLUMNS = ["kind", "email", "first_name", "last_name", "username", "role", "status", "joined_at", "last_active_at"]


COLUMNS += ["invited_at", "expires_at", "user_id", "clerk_user_id", "id"]


@dataclass(frozen=True)
class Exported:
    """An export under way. `warnings` say what could not be read, and so is missing."""

    warnings: tuple[str, ...]
    parts: AsyncIterator[str]


@dataclass(frozen=True)
class Export:
    """Exports the list."""

    list_people: Callable[[Access, Ask], Awaitable[People]]

    async def __call__(self, access: Access, ask: Ask, *, format: Format) -> Exported:
        """1 the first page is read, so that a failure is told before anything is sent; 2 the rest as it is sent."""
        first = await self.list_people(access, replace(ask, limit=PAGE, cursor=None))
        pages = self._pages(access, ask, first)
        return Exported(first.warnings, _csv(pages) if format == "csv" else _json(first, pages))

    async def _pages(self, access: Access, ask: Ask, first: People) -> AsyncIterator[People]:
        page = first
        yield page
        while page.next_cursor:
            cursor = decode_cursor(page.next_cursor)
            page = await self.list_people(access, replace(ask, limit=PAGE, cursor=cursor))
            yield page


async def _csv(pages: AsyncIterator[People]) -> AsyncIterator[str]:
    yield "\ufeff" + line(COLUMNS)  # by this mark a spreadsheet knows that it is UTF-8
    async for page in pages:
        yield "".join(line(_cells(row)) for row in page.rows)


async def _json(first: People, pages: AsyncIterator[People]) -> AsyncIterator[str]:
    yield '{"warnings":' + msgspec.json.encode([str(it) for it in first.warnings]).decode() + ',"data":['
    comma = ""
    async for page in pages:
        if page.rows:
            yield comma + ",\n".join(map(row_as_json, page.rows))
            comma = ",\n"
    yield "]}\n"


def _cells(row: MemberRow | InvitationRow) -> list[str | None]:
    """One row, in the order of COLUMNS."""
    if isinstance(row, InvitationRow):
        status = "pending" if row.status == "invited" else "expired"
        shown = ["invitation", row.email, None, None, None, row.role, status]
        return [*shown, None, None, to_iso(row.created_at), to_iso(row.expires_at), None, None, row.id]
    shown = ["member", row.email, row.first_name, row.last_name, row.username, row.role, row.status]
    times = [to_iso(row.joined_at), to_iso(row.last_active_at), None, None]
    return [*shown, *times, row.user_id, row.clerk_user_id, row.id]
