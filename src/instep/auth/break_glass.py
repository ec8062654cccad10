"""The break-glass key: comparison, limits on wrong attempts, and strength check."""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Literal

from instep.auth.rate_limits import FailedAttemptCounter, TooManyAttemptsError

MIN_SECRET_LENGTH = 20  # characters; README and docs/settings.md say so
MIN_DISTINCT_CHARACTERS = 8  # different characters in it
MIN_UNCOMMON_CHARACTERS = 8  # characters beside words that everybody tries first
# What everybody tries first; longer ones before those that they begin with.
COMMON_WORDS = re.compile(
    "password|passwort|passwd|changeme|change|letmein|welcome|default|example|secret|instep|clerk|admin|root|master"
    "|break|glass|token|test|demo|login|access|qwertyuiop|qwerty|asdfghjkl|asdf|zxcvbnm|abc|iloveyou"
    "|key|api|the|my|me|user|guest|dev|prod|local"
)
COMMON_DIGITS = re.compile(r"0?12345(?:6(?:7(?:8(?:90?)?)?)?)?|(\d)\1+|20\d\d|123")


def describe_weakness(secret: str) -> str | None:
    """Return what makes a secret easy to guess, as the end of a sentence; None for one that is not."""
    if len(secret) < MIN_SECRET_LENGTH:
        return f"too short: use {MIN_SECRET_LENGTH} characters or more"
    plain = re.sub(r"[\W_]+", "", secret.lower())
    is_repeated = plain in (plain + plain)[1:-1]
    rest = COMMON_DIGITS.sub("", COMMON_WORDS.sub("", plain))
    if (
        is_repeated
        or len(set(plain)) < MIN_DISTINCT_CHARACTERS
        or _is_sequence(plain)
        or len(rest) < MIN_UNCOMMON_CHARACTERS
    ):
        return "easy to guess: use a random one, such as `openssl rand -base64 24` makes"
    return None


def _is_sequence(plain: str) -> bool:
    """Return whether most characters are the one before plus or minus one, as in 0123 or zyx."""
    steps = [abs(ord(after) - ord(before)) for before, after in pairwise(plain)]
    return steps.count(1) > len(steps) * 0.7


BreakGlassResult = Literal["right", "wrong", "limited", "off"]


@dataclass(frozen=True)
class BreakGlassKey:
    """The key that lets its holder in when Clerk can't. `key` None or empty: there is none.

    `on_use` is told the client of every use of the right key and every wrong try, for the log and the audit. Only wrong
    tries are limited: whoever guesses must not be able to keep the holder of the key out.
    """

    key: str | None
    tries: FailedAttemptCounter = field(default_factory=FailedAttemptCounter)
    on_use: Callable[[BreakGlassResult, str], None] = lambda verdict, client: None

    @property
    def is_on(self) -> bool:
        """Whether there is a key."""
        return bool(self.key)

    def judge(self, attempt: str, client: str) -> BreakGlassResult:
        """Whether `attempt` is the key. The time this takes says nothing of how much of it is right."""
        if not self.key:
            return "off"
        verdict: BreakGlassResult = "right" if hmac.compare_digest(_digest(attempt), _digest(self.key)) else "wrong"
        if verdict == "wrong":
            if self.tries.is_spent(client):
                return "limited"
            self.tries.count(client)
        self.on_use(verdict, client)
        return verdict

    def check(self, attempt: str, client: str) -> bool:
        """Return whether `attempt` is the key. Raises TooManyAttemptsError for a wrong one after too many wrong ones."""
        verdict = self.judge(attempt, client)
        if verdict == "limited":
            raise TooManyAttemptsError(self.tries.get_wait(client))
        return verdict == "right"

    def hash_of(self, token: str) -> str:
        """The hash under which a session made with this key is kept: changing the key ends them all."""
        return hmac.new((self.key or "").encode(), token.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
