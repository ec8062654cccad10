"""A call of an operation, as its handler sees it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import Machine
from clerk_emulator.wire.queries import Query
from clerk_emulator.wire.site import Site

METADATA_MOVED = "2026-05-12"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with another status than 200; None: without a body."""

    status: int
    body: Any = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came in a form."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Everything a handler needs; it answers with JSON, or raises a refusal."""

    instance: Instance
    site: Site
    params: Mapping[str, str]
    query: Query
    body: Any
    version: str
    machine: Machine | None = None  # who asks, where it is not the application itself

    @property
    def takes_metadata_on_patch(self) -> bool:
        """Say whether PATCH on a user or an organization still takes metadata."""
        return self.version < METADATA_MOVED

    def listing(self, data: list[dict[str, Any]], total: int) -> Any:
        """Return a bare list, or with the total where `paginated=true` asks for it."""
        return {"data": data, "total_count": total} if self.query.flag("paginated") else data

    def page(self, rows: Iterable[Any], shape: Callable[[Any], Any]) -> Any:
        """Return a page of all rows as JSON, with the total."""
        found = list(rows)
        return {"data": [shape(row) for row in self.query.page(found)], "total_count": len(found)}

    def bare_page(self, rows: Iterable[Any], shape: Callable[[Any], Any]) -> Any:
        """Return a page of all rows as a bare list, or with the total where `paginated=true` asks for it."""
        found = list(rows)
        return self.listing([shape(row) for row in self.query.page(found)], len(found))


Handler = Callable[[Call], Any]
