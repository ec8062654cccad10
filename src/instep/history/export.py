"""The audit as CSV, in which no cell can run."""

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from instep.audit.store import Kept
from instep.kit.clock import to_iso
from instep.kit.sheet import line

_COLUMNS = (
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


def as_csv(entries: AsyncIterator[Kept]) -> StreamingResponse:
    """A file to keep, made while it is read."""
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(_lines(entries), media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(entries: AsyncIterator[Kept]) -> AsyncIterator[str]:
    yield line(_COLUMNS)
    async for it in entries:
        yield line([to_iso(it.at), *(getattr(it, name) for name in _COLUMNS[1:])])
