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


"""The year 2200. A time from then on, or from before 1970, is a mistake of whoever sent it: shown as unknown."""


MAX_CLOCK_SKEW = 5 * SECOND  # the difference of two replicas' clocks that does no harm


def now() -> Millis:
    """The present, in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


def is_valid_time(at: float | None) -> bool:
    """Return whether Unix milliseconds are a time between 1970 and 2200. 0 stands for a time that is not known."""
    return at is not None and 0 < at < MAX_TIME


def is_recent(at: int, now: int, span: int) -> bool:
    """Return whether `at` lies less than `span` milliseconds before `now`.

    A time of the future says that a clock went back, and then nobody knows how long ago it was: too long. Only as
    much as the clocks of two replicas may differ (`SKEW`) is let pass.
    """
    return -MAX_CLOCK_SKEW <= now - at < span


def is_in_future(at: int, now: int, most: int) -> bool:
    """Return whether `at`, which was set at most `most` milliseconds ahead, is still to come.

    One that is further ahead than it can have been set comes from before a clock went back: it counts as over. A
    minute more is let pass, since another replica's clock may have set it.
    """
    return now < at <= now + most + MINUTE


def monotonic_now() -> Millis:
    """Return milliseconds of a clock that never goes back: for spans inside this process alone."""
    return Millis(time.monotonic_ns() // 1_000_000)


class ClockRollbackDetector:
    """Notices that a clock went back while the process ran, by comparing it with one that never does."""

    def __init__(self, clock: Clock, steady: Clock = monotonic_now) -> None:
        self._clock, self._steady = clock, steady
        self._ahead_by = clock() - steady()

    def has_gone_back(self) -> bool:
        """Return whether the clock went back by more than `SKEW` since the last time this was asked."""
        before, self._ahead_by = self._ahead_by, self._clock() - self._steady()
        return self._ahead_by < before - MAX_CLOCK_SKEW


def to_datetime(at: int) -> datetime:
    """Unix milliseconds as an aware UTC datetime. Raises ValueError or OverflowError for what is no time."""
    return datetime.fromtimestamp(at / 1000, UTC)


def to_iso(at: int | None) -> str | None:
    """Unix milliseconds as RFC 3339 in UTC with milliseconds; None for what is not known, or is no time."""
    if at is None or not 0 < at < MAX_TIME:
        return None
    day, rest = divmod(at, DAY)
    return (
        f"{_format_date(day)}T{rest // HOUR:02}:{rest // MINUTE % 60:02}:{rest // SECOND % 60:02}.{rest % SECOND:03}Z"
    )


@lru_cache(maxsize=4096)
def _format_date(day: int) -> str:
    """A page names fifty times, of few days: a third of the price of making each anew."""
    return to_datetime(day * DAY).date().isoformat()
