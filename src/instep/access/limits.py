"""The break-glass key, and how often one may guess at it."""

import hmac
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from instep.kit.clock import MINUTE, Clock, monotonic

TRIES = 5  # wrong keys in a minute from one address: a person who mistypes needs fewer, a guesser gets nowhere
ALL_TRIES = 60  # wrong keys in a minute from all addresses together: a guesser has many addresses
CLIENTS = 10_000  # addresses that are remembered; the one that was quiet the longest is forgotten first

Verdict = Literal["right", "wrong", "limited", "off"]


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
        since = self.clock() - MINUTE
        own = self.by_client.get(client, deque())
        for tries in (own, self.all):
            while tries and tries[0] <= since:
                tries.popleft()
        return len(own) >= TRIES or len(self.all) >= ALL_TRIES

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

    `on_use` is told the client of every use of the right key and every wrong try, for the log and the audit.
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
        if self.tries.is_spent(client):
            return "limited"
        is_right = hmac.compare_digest(_digest(attempt), _digest(self.key))
        if not is_right:
            self.tries.count(client)
        verdict: Verdict = "right" if is_right else "wrong"
        self.on_use(verdict, client)
        return verdict

    def hash_of(self, token: str) -> str:
        """The hash under which a session made with this key is kept: changing the key ends them all."""
        return hmac.new((self.key or "").encode(), token.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
