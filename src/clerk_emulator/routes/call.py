"""A call of an operation, as its handler sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.wire.queries import Query
from clerk_emulator.wire.site import Site

METADATA_MOVED = "2026-05-12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Everything a handler needs; it answers with JSON, or raises a refusal."""

    instance: Instance
    site: Site
    params: Mapping[str, str]
    query: Query
    body: Any
    version: str

    @property
    def takes_metadata_on_patch(self) -> bool:
        """Say whether PATCH on a user or an organization still takes metadata."""
        return self.version < METADATA_MOVED

    def listing(self, data: list[dict[str, Any]], total: int) -> Any:
        """Return a bare list, or with the total where `paginated=true` asks for it."""
        return {"data": data, "total_count": total} if self.query.flag("paginated") else data


Handler = Callable[[Call], Any]
