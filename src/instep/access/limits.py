"""The break-glass key and how often one may guess at it; how often a principal may ask the API."""

import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from instep.kit.clock import MINUTE, SECOND, Clock, monotonic
from instep.kit.errors import PermanentError

TRIES = 5  # wrong keys in a minute from one address: a person who mistypes needs fewer, a guesser gets nowhere
ALL_TRIES = 60  # wrong keys in a minute from all addresses together: a guesser has many addresses
CLIENTS = 10_000  # addresses that are remembered; the one that was quiet the longest is forgotten first
Verdict = Literal["right", "wrong", "limited", "off"]


class TooManyTriesError(PermanentError):
    """Too many wrong keys came from this client, or from all of them. `retry_after` is in seconds."""

    status = 429

    def __init__(self, wait: int) -> None:
        super().__init__("Too many wrong keys. Wait a minute, then try again.", code="too_many_tries")
        self.retry_after = max(1, -(-wait // SECOND))


@dataclass
class Tries:
    """Counts wrong tries of the last minute, in memory.

    In memory and not in the database because the key is for the day on which other things fail, and because each
    replica that a guesser reaches gives only `ALL_TRIES` more a minute: nothing against a key of 20 characters.
    """

    clock: Clock = monotonic
    by_client: OrderedDict[str, deque[int]] = field(default_factory=OrderedDict)
    all: deque[int] = field(default_factory=deque)

    def is_spent(self, client: str) -> bool:
        """Whether this client, or all of them, have tried too often."""
        return self.wait_of(client) > 0

    def wait_of(self, client: str) -> int:
        """Return the milliseconds until this client may try again; 0: at once."""
        now = self.clock()
        waits = [0]
        for tries, most in ((self.by_client.get(client, deque()), TRIES), (self.all, ALL_TRIES)):
            while tries and not now - MINUTE < tries[0] <= now:  # a clock that went back lets nobody wait longer
                tries.popleft()
            if len(tries) >= most:
                waits.append(tries[0] + MINUTE - now)
        return max(waits)

    def count(self, client: str) -> None:
        """Count a wrong try."""
        for tries in (self.by_client.setdefault(client, deque()), self.all):
            tries.append(self.clock())
        self.by_client.move_to_end(client)
        while len(self.by_client) > CLIENTS:
            self.by_client.popitem(last=False)


@dataclass(frozen=True)
class BreakGlass:
    """The key that lets its holder in when Clerk can't. `key` None or empty: there is none.

    `on_use` is told the client of every use of the right key and every wrong try, for the log and the audit. Only wrong
    tries are limited: whoever guesses must not be able to keep the holder of the key out.
    """

    key: str | None
    tries: Tries = field(default_factory=Tries)
    on_use: Callable[[Verdict, str], None] = lambda verdict, client: None

    @property
    def is_on(self) -> bool:
        """Whether there is a key."""
        return bool(self.key)

    def judge(self, attempt: str, client: str) -> Verdict:
        """Whether `attempt` is the key. The time this takes says nothing of how much of it is right."""
        if not self.key:
            return "off"
        verdict: Verdict = "right" if hmac.compare_digest(_digest(attempt), _digest(self.key)) else "wrong"
        if verdict == "wrong":
            if self.tries.is_spent(client):
                return "limited"
            self.tries.count(client)
        self.on_use(verdict, client)
        return verdict

    def check(self, attempt: str, client: str) -> bool:
        """Return whether `attempt` is the key. Raises TooManyTriesError for a wrong one after too many wrong ones."""
        verdict = self.judge(attempt, client)
        if verdict == "limited":
            raise TooManyTriesError(self.tries.wait_of(client))
        return verdict == "right"

    def hash_of(self, token: str) -> str:
        """The hash under which a session made with this key is kept: changing the key ends them all."""
        return hmac.new((self.key or "").encode(), token.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass
class RateLimiter:
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
        if len(self.buckets) > CLIENTS:
            self.buckets.popitem(last=False)
        return 0.0 if is_free else (1 - tokens) / self.rate
