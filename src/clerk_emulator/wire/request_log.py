"""Log of the last requests to the Backend and Frontend API."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

MAX_ENTRIES = 10_000


@dataclass(slots=True, kw_only=True)
class RequestLogEntry:
    """A logged request. `status` is None until there is a response."""

    number: int
    at: int
    method: str
    path: str
    query: str
    operation: str | None
    status: int | None = None
    fault: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        result = asdict(self)
        result["operationId"] = result.pop("operation")
        return result


class RequestLog:
    """The most recent requests."""

    def __init__(self) -> None:
        self._entries: deque[RequestLogEntry] = deque(maxlen=MAX_ENTRIES)
        self._number = 0

    def open(self, at: int, method: str, path: str, query: str, operation: str | None) -> RequestLogEntry:
        """Add an entry."""
        self._number += 1
        entry = RequestLogEntry(number=self._number, at=at, method=method, path=path, query=query, operation=operation)
        self._entries.append(entry)
        return entry

    def list(self) -> list[RequestLogEntry]:
        """Return the entries, oldest first."""
        return list(self._entries)

    def clear(self) -> None:
        """Delete the entries."""
        self._entries.clear()
