"""Password hashing, verification and strength rules."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable

from clerk_emulator.state.errors import ApiError, NotEmulatedError, parameter_detail

ROUNDS = 2_000
MIN_LENGTH = 8
MAX_BYTES = 72
COMMON_PASSWORDS = (  # eight or more characters, lower case
    "00000000 000000000 0987654321 11111111 111111111 1111111111 11223344 12121212 123123123 1234554321 12345678 "
    "123456789 1234567890 12341234 1234qwer 123qweasd 147258369 1q2w3e4r 1q2w3e4r5t 1qaz2wsx 1qazxsw2 55555555 "
    "66666666 77777777 87654321 88888888 987654321 99999999 a1234567 a12345678 aa123456 "
    "aaaaaaaa abc12345 abcd1234 abcdefgh admin123 administrator asdf1234 asdfasdf asdfghjk asdfghjkl baseball "
    "basketball changeme charlie1 chocolate "
    "computer corvette danielle dragon123 football football1 garfield hello123 iloveyou iloveyou1 internet jennifer "
    "jordan23 letmein1 liverpool loveyou1 manchester maverick mercedes michelle midnight monkey123 mustang1 nicholas "
    "p@ssw0rd p@ssword pa$$word pa55word passw0rd password password! password1 password1! password12 password123 "
    "password1234 password2 pokemon1 princess princess1 q1w2e3r4 q1w2e3r4t5 qazwsxedc qwer1234 qwerty12 qwerty123 "
    "qwerty1234 qwertyui qwertyuiop samantha shadow12 sunshine sunshine1 superman superman1 test1234 testtest trustno1 "
    "victoria welcome1 welcome123 whatever william1 zaq12wsx zxcvbnm1 zxcvbnm123"
)
BREACHED_PASSWORDS = frozenset(COMMON_PASSWORDS.split())


def hash_password(password: str) -> str:
    """Return the stored form of a password."""
    salt = secrets.token_hex(8)
    return f"pbkdf2${salt}${_hash(password, salt)}"


def import_digest(digest: str, hasher: str) -> str:
    """Return the stored form of an imported digest."""
    return f"{hasher}${digest}"


def verify_password(stored: str, password: str) -> bool:
    """Return whether the password is right; imported digests can't be checked."""
    kind, _, rest = stored.partition("$")
    if kind != "pbkdf2":
        raise NotEmulatedError(f"verifying a password against an imported {kind} digest")
    salt, _, wanted = rest.partition("$")
    return hmac.compare_digest(_hash(password, salt), wanted)


def require_strength(password: str, identifiers: Iterable[str] = ()) -> None:
    """Reject a password that Clerk would: too short, too long, breached, or equal to an identifier of the user.

    Clerk asks an online list of hundreds of millions; this list has only the most common ones.
    """
    if len(password) < MIN_LENGTH:
        message = f"must have {MIN_LENGTH} characters or more"
        raise ApiError(422, parameter_detail("form_password_length_too_short", "password", message))
    if len(password) > MAX_BYTES:
        message = f"must have {MAX_BYTES} characters or fewer"
        raise ApiError(422, parameter_detail("form_password_length_too_long", "password", message))
    if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        message = f"must have {MAX_BYTES} bytes or fewer"
        raise ApiError(422, parameter_detail("form_password_size_in_bytes_exceeded", "password", message))
    if password.lower() in BREACHED_PASSWORDS:
        message = "has been found in an online data breach"
        raise ApiError(422, parameter_detail("form_password_pwned", "password", message))
    if password.lower() in (identifier.lower() for identifier in identifiers):
        message = "must differ from the email address, the phone number and the username"
        raise ApiError(422, parameter_detail("form_password_matches_identifier", "password", message))


def _hash(password: str, salt: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), ROUNDS).hex()
