"""In-memory limits: failed key attempts per client, and requests per principal."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from instep.core.clock import MINUTE, SECOND, Clock, monotonic_now
from instep.core.errors import PermanentError

MAX_ATTEMPTS_PER_CLIENT = (
    5  # wrong keys in a minute from one address: a person who mistypes needs fewer, a guesser gets nowhere
)
MAX_ATTEMPTS_TOTAL = 60  # wrong keys in a minute from all addresses together: a guesser has many addresses
MAX_TRACKED_CLIENTS = 10_000  # addresses that are remembered; the one that was quiet the longest is forgotten first


class TooManyAttemptsError(PermanentError):
    """Too many wrong keys came from this client, or from all of them. `retry_after` is in seconds."""

    status = 429

    def __init__(self, wait: int) -> None:
        super().__init__("Too many wrong keys. Wait a minute, then try again.", code="too_many_tries")
        self.retry_after = max(1, -(-wait // SECOND))


@dataclass
class FailedAttemptCounter:
    """Counts wrong tries of the last minute, in memory.

    In memory and not in the database because the key is for the day on which other things fail, and because each
    replica that a guesser reaches gives only `ALL_TRIES` more a minute: nothing against a key of 20 characters.
    """

    clock: Clock = monotonic_now
    attempts_by_client: OrderedDict[str, deque[int]] = field(default_factory=OrderedDict)
    all: deque[int] = field(default_factory=deque)

    def is_spent(self, client: str) -> bool:
        """Whether this client, or all of them, have tried too often."""
        return self.get_wait(client) > 0

    def get_wait(self, client: str) -> int:
        """Return the milliseconds until this client may try again; 0: at once."""
        now = self.clock()
        waits = [0]
        for tries, most in (
            (self.attempts_by_client.get(client, deque()), MAX_ATTEMPTS_PER_CLIENT),
            (self.all, MAX_ATTEMPTS_TOTAL),
        ):
            while tries and not now - MINUTE < tries[0] <= now:  # a clock that went back lets nobody wait longer
                tries.popleft()
            if len(tries) >= most:
                waits.append(tries[0] + MINUTE - now)
        return max(waits)

    def count(self, client: str) -> None:
        """Count a wrong try."""
        for tries in (self.attempts_by_client.setdefault(client, deque()), self.all):
            tries.append(self.clock())
        self.attempts_by_client.move_to_end(client)
        while len(self.attempts_by_client) > MAX_TRACKED_CLIENTS:
            self.attempts_by_client.popitem(last=False)


@dataclass
class PrincipalRateLimiter:
    """A token bucket for each principal, in the memory of this process.

    `rate` requests a second in the long run, `burst` at once. Of at most `CLIENTS` principals the buckets are kept; one
    that is forgotten begins with a full bucket. `clock` gives seconds and never goes back.
    """

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, principal: str) -> float:
        """Count one request. Return 0.0 if it may pass, else the seconds until the next one may."""
        now = self.clock()
        tokens, at = self.buckets.pop(principal, (self.burst, now))
        tokens = min(self.burst, tokens + (now - at) * self.rate)
        is_free = tokens >= 1
        self.buckets[principal] = (tokens - 1 if is_free else tokens, now)
        if len(self.buckets) > MAX_TRACKED_CLIENTS:
            self.buckets.popitem(last=False)
        return 0.0 if is_free else (1 - tokens) / self.rate
