"""Parse times: milliseconds, RFC 3339, or an offset from now such as `-3d`."""

import re
from datetime import UTC, datetime
from typing import Any

OFFSET = re.compile(r"([+-])(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
UNITS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}


def parse_time(value: Any, now: int) -> int:
    """Return milliseconds; raise a ValueError that lists the accepted forms."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value == "now":
        return now
    if isinstance(value, str):
        offset = OFFSET.fullmatch(value)
        if offset:
            sign, number, unit = offset.groups()
            return now + round(float(number) * UNITS[unit]) * (-1 if sign == "-" else 1)
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            aware = found if found.tzinfo else found.replace(tzinfo=UTC)
            return int(aware.timestamp() * 1000)
    raise ValueError("a time is milliseconds, RFC 3339, now, or an offset such as -3d, +36h, -90s")
