"""The clock: the only place that asks what time it is. Times are Unix milliseconds (as Clerk's are), or aware UTC."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
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
    if at is None:
        return None
    day, rest = divmod(at, DAY)
    return f"{_date(day)}T{rest // HOUR:02}:{rest // MINUTE % 60:02}:{rest // SECOND % 60:02}.{rest % SECOND:03}Z"


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    """A page names fifty times, of few days: a third of the price of making each anew."""
    return to_datetime(day * DAY).date().isoformat()
