"""Whether a secret that a person has chosen can be guessed. Pure."""

import re
from itertools import pairwise

SHORTEST = 20  # characters; README and docs/settings.md say so
FEWEST_KINDS = 8  # different characters in it
LEAST_REST = 8  # characters beside words that everybody tries first
# What everybody tries first; longer ones before those that they begin with.
COMMON = re.compile(
    "password|passwort|passwd|changeme|change|letmein|welcome|default|example|secret|instep|clerk|admin|root|master"
    "|break|glass|token|test|demo|login|access|qwertyuiop|qwerty|asdfghjkl|asdf|zxcvbnm|abc|iloveyou"
    "|key|api|the|my|me|user|guest|dev|prod|local"
)
DIGITS = re.compile(r"0?12345(?:6(?:7(?:8(?:90?)?)?)?)?|(\d)\1+|20\d\d|123")


def weakness_of(secret: str) -> str | None:
    """Return what makes a secret easy to guess, as the end of a sentence; None for one that is not."""
    if len(secret) < SHORTEST:
        return f"too short: use {SHORTEST} characters or more"
    plain = re.sub(r"[\W_]+", "", secret.lower())
    is_repeated = plain in (plain + plain)[1:-1]
    rest = DIGITS.sub("", COMMON.sub("", plain))
    if is_repeated or len(set(plain)) < FEWEST_KINDS or _is_run(plain) or len(rest) < LEAST_REST:
        return "easy to guess: use a random one, such as `openssl rand -base64 24` makes"
    return None


def _is_run(plain: str) -> bool:
    """Return whether most characters are the one before plus or minus one, as in 0123 or zyx."""
    steps = [abs(ord(after) - ord(before)) for before, after in pairwise(plain)]
    return steps.count(1) > len(steps) * 0.7
