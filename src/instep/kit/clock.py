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
LATEST = 7_258_118_400_000
"""The year 2200. A time from then on, or from before 1970, is a mistake of whoever sent it: shown as unknown."""


def now() -> Millis:
    """The present, in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


def is_time(at: float | None) -> bool:
    """Return whether Unix milliseconds are a time between 1970 and 2200. 0 stands for a time that is not known."""
    return at is not None and 0 < at < LATEST


def to_datetime(at: int) -> datetime:
    """Unix milliseconds as an aware UTC datetime. Raises ValueError or OverflowError for what is no time."""
    return datetime.fromtimestamp(at / 1000, UTC)


def to_iso(at: int | None) -> str | None:
    """Unix milliseconds as RFC 3339 in UTC with milliseconds; None for what is not known, or is no time."""
    if at is None or not 0 < at < LATEST:
        return None
    day, rest = divmod(at, DAY)
    return f"{_date(day)}T{rest // HOUR:02}:{rest // MINUTE % 60:02}:{rest // SECOND % 60:02}.{rest % SECOND:03}Z"


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    """A page names fifty times, of few days: a third of the price of making each anew."""
    return to_datetime(day * DAY).date().isoformat()
