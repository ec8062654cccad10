"""When a delivery that failed is tried again."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
STEPS = (5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
MOST_ATTEMPTS = len(STEPS) + 1
TIMEOUT_SECONDS = 15.0


def wait_after(attempts: int, scale: float = 1.0) -> int | None:
    """Return how many milliseconds to wait after that many failed attempts; None: give up."""
    return round(STEPS[attempts - 1] * scale) if attempts <= len(STEPS) else None
