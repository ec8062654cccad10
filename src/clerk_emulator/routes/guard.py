"""Who may call, and by which version of the API."""

from collections.abc import Mapping
from secrets import compare_digest

from clerk_emulator.state.refusals import Problem, Refused

NEWEST = "2026-05-12"
VERSIONS = ("2025-11-10", NEWEST)


def require_key(authorization: str | None, secret_key: str) -> None:
    """Refuse all but the secret key of the instance."""
    scheme, _, key = (authorization or "").partition(" ")
    if authorization and (scheme.lower() != "bearer" or not key):
        words = "The Authorization header has to be Bearer and the secret key."
        raise Refused(401, Problem("authorization_header_format_invalid", "malformed header", words))
    if not compare_digest(key.strip().encode(), secret_key.encode()):
        words = "This is not the secret key of this instance."
        raise Refused(401, Problem("clerk_key_invalid", "wrong secret key", words))


def version_of(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """Return the version that is asked for, by header or by query but not by both; else the newest."""
    by_header, by_query = headers.get("clerk-api-version"), query.get("__clerk_api_version")
    if by_header and by_query:
        raise _invalid("it is given twice, by header and by query")
    wanted = by_header or by_query or NEWEST
    if wanted not in VERSIONS:
        raise _invalid(f"{wanted} is none of {', '.join(VERSIONS)}")
    return wanted


def _invalid(reason: str) -> Refused:
    return Refused(400, Problem("api_version_invalid", "invalid API version", f"API version: {reason}."))
