"""The break-glass key: comparison, limits on wrong attempts, and strength check."""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Literal

from instep.auth.rate_limits import FailedAttemptCounter, TooManyAttemptsError

MIN_SECRET_LENGTH = 20  # characters; also in README and docs/settings.md
MIN_DISTINCT_CHARACTERS = 8  # different characters in it
MIN_UNCOMMON_CHARACTERS = 8  # characters besides common words
# Common words; longer ones before their prefixes.
COMMON_WORDS = re.compile(
    "password|passwort|passwd|changeme|change|letmein|welcome|default|example|secret|instep|clerk|admin|root|master"
    "|break|glass|token|test|demo|login|access|qwertyuiop|qwerty|asdfghjkl|asdf|zxcvbnm|abc|iloveyou"
    "|key|api|the|my|me|user|guest|dev|prod|local"
)
COMMON_DIGITS = re.compile(r"0?12345(?:6(?:7(?:8(?:90?)?)?)?)?|(\d)\1+|20\d\d|123")


def describe_weakness(secret: str) -> str | None:
    """Return why a secret is easy to guess, with advice; None if it is not."""
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
    """Return whether most characters differ from the previous one by one, as in 0123 or zyx."""
    steps = [abs(ord(next_character) - ord(character)) for character, next_character in pairwise(plain)]
    return steps.count(1) > len(steps) * 0.7


BreakGlassResult = Literal["right", "wrong", "limited", "off"]


@dataclass(frozen=True)
class BreakGlassKey:
    """The key that signs its holder in when Clerk can't. `key` None or empty: disabled.

    `on_use` is called with the client for each use of the right key and each wrong attempt, for log and audit. Only
    wrong attempts are limited: an attacker must not be able to lock the key's holder out.
    """

    key: str | None
    attempts: FailedAttemptCounter = field(default_factory=FailedAttemptCounter)
    on_use: Callable[[BreakGlassResult, str], None] = lambda result, client: None

    @property
    def is_configured(self) -> bool:
        """Return whether a key is configured."""
        return bool(self.key)

    def evaluate(self, attempt: str, client: str) -> BreakGlassResult:
        """Compare an attempt with the key, in constant time."""
        if not self.key:
            return "off"
        result: BreakGlassResult = "right" if hmac.compare_digest(_digest(attempt), _digest(self.key)) else "wrong"
        if result == "wrong":
            if self.attempts.is_exhausted(client):
                return "limited"
            self.attempts.count(client)
        self.on_use(result, client)
        return result

    def check(self, attempt: str, client: str) -> bool:
        """Return whether an attempt is the key. Raises TooManyAttemptsError after too many wrong attempts."""
        result = self.evaluate(attempt, client)
        if result == "limited":
            raise TooManyAttemptsError(self.attempts.get_wait(client))
        return result == "right"

    def hash_token(self, token: str) -> str:
        """Return the hash that identifies a session signed in with this key; changing the key ends all of them."""
        return hmac.new((self.key or "").encode(), token.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
