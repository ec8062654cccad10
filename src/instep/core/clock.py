"""The current time, and checks and formats of times in Unix milliseconds."""

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
MAX_TIME = 7_258_118_400_000
"""The year 2200. A later time, or one before 1970, is an error of its source and shown as unknown."""

MAX_CLOCK_SKEW = 5 * SECOND  # tolerated difference between the clocks of two replicas


def now() -> Millis:
    """Return the current time in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


def is_valid_time(at: float | None) -> bool:
    """Return whether Unix milliseconds are a time between 1970 and 2200. 0 is an unknown time."""
    return at is not None and 0 < at < MAX_TIME


def is_recent(at: int, now: int, max_age: int) -> bool:
    """Return whether `at` lies less than `max_age` milliseconds before `now`.

    A time in the future means that a clock went back, so its age is unknown and counts as too old. A difference of up
    to `MAX_CLOCK_SKEW`, as between the clocks of two replicas, is tolerated.
    """
    return -MAX_CLOCK_SKEW <= now - at < max_age


def is_in_future(at: int, now: int, max_ahead: int) -> bool:
    """Return whether `at`, set at most `max_ahead` milliseconds ahead, is still in the future.

    A time further ahead was set before a clock went back, and counts as past. One minute more is tolerated because
    another replica's clock may have set it.
    """
    return now < at <= now + max_ahead + MINUTE


def monotonic_now() -> Millis:
    """Return milliseconds of a clock that never goes back; for durations within this process only."""
    return Millis(time.monotonic_ns() // 1_000_000)


class ClockRollbackDetector:
    """Detects that the clock went back while the process ran, by comparing it with a monotonic one."""

    def __init__(self, clock: Clock, monotonic: Clock = monotonic_now) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._offset = clock() - monotonic()

    def has_gone_back(self) -> bool:
        """Return whether the clock went back by more than `MAX_CLOCK_SKEW` since the last call."""
        before, self._offset = self._offset, self._clock() - self._monotonic()
        return self._offset < before - MAX_CLOCK_SKEW


def to_datetime(at: int) -> datetime:
    """Return Unix milliseconds as an aware UTC datetime. Raises ValueError or OverflowError if out of range."""
    return datetime.fromtimestamp(at / 1000, UTC)


def to_iso(at: int | None) -> str | None:
    """Return Unix milliseconds as RFC 3339 in UTC with milliseconds; None for an unknown or invalid time."""
    if at is None or not 0 < at < MAX_TIME:
        return None
    day, rest = divmod(at, DAY)
    return (
        f"{_format_date(day)}T{rest // HOUR:02}:{rest // MINUTE % 60:02}:{rest // SECOND % 60:02}.{rest % SECOND:03}Z"
    )


@lru_cache(maxsize=4096)
def _format_date(day: int) -> str:
    """Return a date in ISO format. Cached: a page shows about fifty times of few days, at a third of the cost."""
    return to_datetime(day * DAY).date().isoformat()
