"""The clock: the only place that asks what time it is. Times are Unix milliseconds (as Clerk's are), or aware UTC."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NewType

Millis = NewType("Millis", int)
Clock = Callable[[], Millis]

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def now() -> Millis:
    """The present, in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


def to_datetime(at: int) -> datetime:
    """Unix milliseconds as an aware UTC datetime."""
    return datetime.fromtimestamp(at / 1000, UTC)


def to_iso(at: int | None) -> str | None:
    """Unix milliseconds as RFC 3339 in UTC with milliseconds, or None."""
    return None if at is None else to_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
