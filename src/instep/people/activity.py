"""Where somebody comes from and when they were last active, as the list is narrowed by it. Pure."""

from msgspec import Struct

from instep.kit.clock import DAY

SOURCES = ("clerk", "local")
ACTIVITIES = ("7d", "30d", "idle", "never")


class Activity(Struct, frozen=True, kw_only=True):
    """When somebody was last active: `since` or after it, before `until` (Unix milliseconds), or never at all."""

    since: int | None = None
    until: int | None = None
    is_never: bool = False


def activity_of(name: str, now: int) -> Activity | None:
    """What one of ACTIVITIES means at `now`; nothing else narrows the list."""
    known = {
        "7d": Activity(since=now - 7 * DAY),
        "30d": Activity(since=now - 30 * DAY),
        "idle": Activity(until=now - 30 * DAY),
        "never": Activity(is_never=True),
    }
    return known.get(name)
