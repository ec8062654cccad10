"""In-memory limits of failed key attempts per client and of requests per principal."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from instep.core.clock import MINUTE, SECOND, Clock, monotonic_now
from instep.core.errors import PermanentError

MAX_ATTEMPTS_PER_CLIENT = 5  # wrong keys per minute from one address; more than a mistyping person needs
MAX_ATTEMPTS_TOTAL = 60  # wrong keys per minute from all addresses: an attacker has many
MAX_TRACKED_CLIENTS = 10_000  # the least recently active one is dropped first


class TooManyAttemptsError(PermanentError):
    """Too many wrong keys from this client or from all clients. `retry_after` is in seconds."""

    status = 429

    def __init__(self, wait: int) -> None:
        super().__init__("Too many wrong keys. Wait a minute, then try again.", code="too_many_tries")
        self.retry_after = max(1, -(-wait // SECOND))


@dataclass
class FailedAttemptCounter:
    """Counter of wrong keys within the last minute, in memory.

    Not in the database, because the key is for times when other systems fail, and because each replica adds only
    MAX_ATTEMPTS_TOTAL attempts a minute: negligible against a key of 20 characters.
    """

    clock: Clock = monotonic_now
    attempts_by_client: OrderedDict[str, deque[int]] = field(default_factory=OrderedDict)
    all_attempts: deque[int] = field(default_factory=deque)

    def is_exhausted(self, client: str) -> bool:
        """Return whether this client, or all clients together, reached the limit."""
        return self.get_wait(client) > 0

    def get_wait(self, client: str) -> int:
        """Return the milliseconds until this client may try again; 0: now."""
        now = self.clock()
        waits = [0]
        for attempts, limit in (
            (self.attempts_by_client.get(client, deque()), MAX_ATTEMPTS_PER_CLIENT),
            (self.all_attempts, MAX_ATTEMPTS_TOTAL),
        ):
            while (
                attempts and not now - MINUTE < attempts[0] <= now
            ):  # a clock that was set back does not extend the wait
                attempts.popleft()
            if len(attempts) >= limit:
                waits.append(attempts[0] + MINUTE - now)
        return max(waits)

    def count(self, client: str) -> None:
        """Count a wrong key."""
        for attempts in (self.attempts_by_client.setdefault(client, deque()), self.all_attempts):
            attempts.append(self.clock())
        self.attempts_by_client.move_to_end(client)
        while len(self.attempts_by_client) > MAX_TRACKED_CLIENTS:
            self.attempts_by_client.popitem(last=False)


@dataclass
class PrincipalRateLimiter:
    """A token bucket per principal, in the memory of this process.

    `rate`: requests per second on average; `burst`: at once. At most MAX_TRACKED_CLIENTS buckets are kept;
    a forgotten one starts full. `clock` returns seconds and is monotonic.
    """

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, principal: str) -> float:
        """Count a request. Return 0.0 if it may pass, else the seconds until the next one may."""
        now = self.clock()
        tokens, at = self.buckets.pop(principal, (self.burst, now))
        tokens = min(self.burst, tokens + (now - at) * self.rate)
        is_allowed = tokens >= 1
        self.buckets[principal] = (tokens - 1 if is_allowed else tokens, now)
        if len(self.buckets) > MAX_TRACKED_CLIENTS:
            self.buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - tokens) / self.rate
