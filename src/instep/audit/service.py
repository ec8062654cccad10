"""Read the audit log and export it as CSV."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import StreamingResponse

from instep.audit.entries import AuditEntryRow
from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.core.clock import to_iso
from instep.core.csv_export import format_csv_line
from instep.core.db import Database

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


def make_csv_response(entries: AsyncIterator[AuditEntryRow]) -> StreamingResponse:
    """A file to keep, made while it is read."""
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(_csv_lines(entries), media_type="text/csv; charset=utf-8", headers=headers)


async def _csv_lines(entries: AsyncIterator[AuditEntryRow]) -> AsyncIterator[str]:
    yield format_csv_line(_CSV_COLUMNS)
    async for it in entries:
        yield format_csv_line([to_iso(it.at), *(getattr(it, name) for name in _CSV_COLUMNS[1:])])


EXPORT_PAGE_SIZE = 500
MAX_EXPORTED_ENTRIES = 100_000


@dataclass(frozen=True)
class AuditService:
    """The audit, for reading."""

    db: Database

    async def list(self, wanted: AuditFilter, *, before: str = "", limit: int = 50) -> list[AuditEntryRow]:
        """Entries, newest first."""
        return await self.db.read(list_entries, wanted, before=before, limit=limit)

    async def export(self, wanted: AuditFilter) -> AsyncIterator[AuditEntryRow]:
        """Every entry, newest first, read page by page; 100,000 at the most."""
        before, count = "", 0
        while count < MAX_EXPORTED_ENTRIES:
            page = await self.list(wanted, before=before, limit=EXPORT_PAGE_SIZE)
            for entry in page:
                yield entry
            if len(page) < EXPORT_PAGE_SIZE:
                return
            before, count = page[-1].id, count + len(page)
