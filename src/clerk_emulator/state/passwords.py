"""Passwords: kept as a salted hash, with few rounds, because everything here is made up."""

import hashlib
import hmac
import secrets

from clerk_emulator.state.refusals import NotEmulated, Refused, bad_parameter

ROUNDS = 2_000
SHORTEST = 8
LONGEST_BYTES = 72


def conceal(password: str) -> str:
    """Return what is kept of a password."""
    salt = secrets.token_hex(8)
    return f"pbkdf2${salt}${_hash(password, salt)}"


def adopt(digest: str, hasher: str) -> str:
    """Return what is kept of a digest that comes from elsewhere."""
    return f"{hasher}${digest}"


def matches(kept: str, password: str) -> bool:
    """Say whether it is the password; digests from elsewhere can't be checked."""
    kind, _, rest = kept.partition("$")
    if kind != "pbkdf2":
        raise NotEmulated(f"checking a password against an imported {kind} digest")
    salt, _, wanted = rest.partition("$")
    return hmac.compare_digest(_hash(password, salt), wanted)


def require_strength(password: str) -> None:
    """Refuse what Clerk would call too short or too long."""
    if len(password) < SHORTEST:
        words = f"must have {SHORTEST} characters or more"
        raise Refused(422, bad_parameter("form_password_length_too_short", "password", words))
    if len(password.encode()) > LONGEST_BYTES:
        words = f"must have {LONGEST_BYTES} bytes or fewer"
        raise Refused(422, bad_parameter("form_password_length_too_long", "password", words))


def _hash(password: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), ROUNDS).hex()
