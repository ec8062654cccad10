"""Retry schedule of failed deliveries."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
RETRY_DELAYS = (5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
MAX_ATTEMPTS = len(RETRY_DELAYS) + 1
TIMEOUT_SECONDS = 15.0


def retry_delay(attempts: int, scale: float = 1.0) -> int | None:
    """Return the milliseconds to wait after that many failed attempts; None: no further attempt."""
    return round(RETRY_DELAYS[attempts - 1] * scale) if attempts <= len(RETRY_DELAYS) else None
