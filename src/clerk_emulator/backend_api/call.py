"""A Backend API call as its handler sees it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Machine
from clerk_emulator.wire.request_parameters import RequestParameters
from clerk_emulator.wire.site_config import SiteConfig

METADATA_MOVED_VERSION = "2026-05-12"


@dataclass(frozen=True, slots=True)
class StatusResponse:
    """A response with another status than 200; body None: no body."""

    status: int
    body: Any = None


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file uploaded in a form."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendCall:
    """A call as its handler receives it. The handler returns JSON or raises an ApiError."""

    instance: Instance
    site: SiteConfig
    params: Mapping[str, str]
    query: RequestParameters
    body: Any
    version: str
    machine: Machine | None = None  # the calling machine; None: the application

    @property
    def accepts_metadata_on_patch(self) -> bool:
        """Return whether PATCH on a user or an organization still accepts metadata in this version."""
        return self.version < METADATA_MOVED_VERSION

    def listing(self, data: list[dict[str, Any]], total: int) -> Any:
        """Return a bare list, or one with the total if `paginated=true` was sent."""
        return {"data": data, "total_count": total} if self.query.flag("paginated") else data

    def page(self, rows: Iterable[Any], serialize: Callable[[Any], Any]) -> Any:
        """Return a page of all rows as JSON, with the total."""
        found = list(rows)
        return {"data": [serialize(row) for row in self.query.page(found)], "total_count": len(found)}

    def bare_page(self, rows: Iterable[Any], serialize: Callable[[Any], Any]) -> Any:
        """Return a page of all rows as a bare list, or with the total if `paginated=true` was sent."""
        found = list(rows)
        return self.listing([serialize(row) for row in self.query.page(found)], len(found))


BackendHandler = Callable[[BackendCall], Any]
