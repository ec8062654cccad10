"""Read the audit log and export it as CSV."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import StreamingResponse

from instep.audit.filters import AuditFilter
from instep.audit.repository import AuditEntryRow, list_entries
from instep.core.clock import to_iso
from instep.core.csv_export import format_csv_line
from instep.core.db import Database

EXPORT_PAGE_SIZE = 500
MAX_EXPORTED_ENTRIES = 100_000
_CSV_COLUMNS = (
    "at",
    "actor",
    "action",
    "target",
    "outcome",
    "organization_id",
    "cause",
    "request_id",
    "origin",
    "impersonator",
)


@dataclass(frozen=True)
class AuditService:
    """Read the audit log."""

    db: Database

    async def list(self, criteria: AuditFilter, *, before: str = "", limit: int = 50) -> list[AuditEntryRow]:
        """Return entries, newest first; `before` is the last id of the previous page."""
        return await self.db.read(list_entries, criteria, before=before, limit=limit)

    async def export(self, criteria: AuditFilter) -> AsyncIterator[AuditEntryRow]:
        """Yield all matching entries, newest first, read page by page; at most 100,000."""
        before, count = "", 0
        while count < MAX_EXPORTED_ENTRIES:
            page = await self.list(criteria, before=before, limit=EXPORT_PAGE_SIZE)
            for entry in page:
                yield entry
            if len(page) < EXPORT_PAGE_SIZE:
                return
            before, count = page[-1].id, count + len(page)


def make_csv_response(entries: AsyncIterator[AuditEntryRow]) -> StreamingResponse:
    """Return a CSV download that is generated while the entries are read."""
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(_generate_csv_lines(entries), media_type="text/csv; charset=utf-8", headers=headers)


async def _generate_csv_lines(entries: AsyncIterator[AuditEntryRow]) -> AsyncIterator[str]:
    yield format_csv_line(_CSV_COLUMNS)
    async for entry in entries:
        yield format_csv_line([to_iso(entry.at), *(getattr(entry, name) for name in _CSV_COLUMNS[1:])])
