"""Virtual clock: runs with the wall clock; can be set, advanced and stopped."""

import time
from collections.abc import Callable
from datetime import timedelta

MILLISECOND = timedelta(milliseconds=1)
LATEST = 253_370_764_800_000  # the year 9999


def wall_milliseconds() -> int:
    """Return the time of this machine in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Clock:
    """Clerk's time, in milliseconds.

    `now()` is the virtual time: expiry, `created_at` and retries use it. `wall()` is the real time: values that
    another program checks against its own clock (token times, webhook signatures) use it, so that advancing the
    virtual clock by a week doesn't make every signature stale.
    """

    def __init__(self, wall: Callable[[], int] = wall_milliseconds) -> None:
        self._wall = wall
        self._offset = 0
        self._stopped_at: int | None = None

    def wall(self) -> int:
        """Return the real time."""
        return self._wall()

    def now(self) -> int:
        """Return the virtual time."""
        return self._wall() + self._offset if self._stopped_at is None else self._stopped_at

    def set(self, milliseconds: int) -> None:
        """Set the virtual time."""
        if not 0 <= milliseconds < LATEST:
            raise ValueError("the time must be between the years 1970 and 9998")
        if self._stopped_at is None:
            self._offset = milliseconds - self._wall()
        else:
            self._stopped_at = milliseconds

    def advance(self, milliseconds: int = 0, /, **units: float) -> None:
        """Advance by milliseconds, or by the units of a timedelta: `advance(days=8)`."""
        self.set(self.now() + milliseconds + timedelta(**units) // MILLISECOND)

    def stop(self) -> None:
        """Stop the virtual time until `run()`."""
        self._stopped_at = self.now()

    def run(self) -> None:
        """Restart the virtual time from its current value."""
        if self._stopped_at is not None:
            self._offset = self._stopped_at - self._wall()
            self._stopped_at = None

    @property
    def is_stopped(self) -> bool:
        """Return whether the virtual time is stopped."""
        return self._stopped_at is not None

    def dump(self) -> dict[str, int | None]:
        """Return the state to continue from after a restart."""
        return {"offset": self._offset, "stopped_at": self._stopped_at}

    def load(self, data: dict[str, int | None]) -> None:
        """Load the result of `dump()`."""
        self._offset = data.get("offset") or 0
        self._stopped_at = data.get("stopped_at")
