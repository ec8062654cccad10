"""Render the list of members and invitations as CSV or JSON, in chunks."""

from collections.abc import AsyncIterator

import msgspec

from instep.core.clock import to_iso
from instep.core.csv_export import format_csv_line
from instep.members.models import InvitationRow, MemberListPage, MemberRow
from instep.members.schemas import dump_row

EXPORT_COLUMNS = [
    "kind",
    "email",
    "first_name",
    "last_name",
    "username",
    "role",
    "status",
    "joined_at",
    "last_active_at",
    "invited_at",
    "expires_at",
    "user_id",
    "clerk_user_id",
    "id",
]
_BYTE_ORDER_MARK = "\ufeff"  # spreadsheets recognize UTF-8 by it


async def stream_csv(pages: AsyncIterator[MemberListPage]) -> AsyncIterator[str]:
    """Yield the header and then the rows of each page as CSV."""
    yield _BYTE_ORDER_MARK + format_csv_line(EXPORT_COLUMNS)
    async for page in pages:
        yield "".join(format_csv_line(_format_cells(row)) for row in page.rows)


async def stream_json(first_page: MemberListPage, pages: AsyncIterator[MemberListPage]) -> AsyncIterator[str]:
    """Yield one JSON object: the warnings of the first page, and the rows of all `pages` as in the REST API."""
    warnings = [str(warning) for warning in first_page.warnings]
    yield '{"warnings":' + msgspec.json.encode(warnings).decode() + ',"data":['
    separator = ""
    async for page in pages:
        if page.rows:
            yield separator + ",\n".join(map(dump_row, page.rows))
            separator = ",\n"
    yield "]}\n"


def _format_cells(row: MemberRow | InvitationRow) -> list[str | None]:
    """Return the cells of a row in the order of EXPORT_COLUMNS."""
    if isinstance(row, InvitationRow):
        status = "pending" if row.status == "invited" else "expired"
        cells = ["invitation", row.email, None, None, None, row.role, status]
        return [*cells, None, None, to_iso(row.created_at), to_iso(row.expires_at), None, None, row.id]
    cells = ["member", row.email, row.first_name, row.last_name, row.username, row.role, row.status]
    times = [to_iso(row.joined_at), to_iso(row.last_active_at), None, None]
    return [*cells, *times, row.user_id, row.clerk_user_id, row.id]
