"""Authenticate a call by its secret key and select the API version."""

from collections.abc import Mapping
from secrets import compare_digest

from clerk_emulator.state import machines
from clerk_emulator.state.errors import ApiError, ErrorDetail
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Machine

LATEST_VERSION = "2026-05-12"
EMULATED_VERSIONS = ("2025-11-10", LATEST_VERSION)
EARLIER_VERSIONS = (
    "2021-02-05",
    "2024-10-01",
    "2025-03-12",
    "2025-04-10",
)  # published by Clerk; the emulator treats them as one
MACHINE_OPERATIONS = frozenset({"createM2MToken", "getM2MTokens", "revokeM2MToken", "verifyM2MToken"})


def authenticate(authorization: str | None, secret_key: str, instance: Instance, operation: str) -> Machine | None:
    """Accept only the instance's secret key or, for machine tokens, a machine's; return that machine."""
    scheme, _, key = (authorization or "").partition(" ")
    if authorization and (scheme.lower() != "bearer" or not key):
        message = "The Authorization header must be Bearer and the secret key."
        raise ApiError(401, ErrorDetail("authorization_header_format_invalid", "malformed header", message))
    if not compare_digest(key.strip().encode(), secret_key.encode()):
        message = "This is not the secret key of this instance."
        machine = machines.find_by_secret(instance, key.strip()) if operation in MACHINE_OPERATIONS else None
        if machine is not None:
            return machine
        raise ApiError(401, ErrorDetail("clerk_key_invalid", "wrong secret key", message))
    return None


def select_version(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """Return the API version of a request: the requested one (header or query), or the oldest emulated.

    A request for an earlier version of Clerk's, or for none (as from clients before versions existed), gets the oldest.
    """
    by_header, by_query = headers.get("clerk-api-version"), query.get("__clerk_api_version")
    if by_header and by_query:
        raise _invalid_version_error("it is given twice, in the header and in the query")
    wanted = by_header or by_query or EMULATED_VERSIONS[0]
    if wanted not in (*EARLIER_VERSIONS, *EMULATED_VERSIONS):
        raise _invalid_version_error(f"{wanted} is not one of {', '.join((*EARLIER_VERSIONS, *EMULATED_VERSIONS))}")
    return max(wanted, EMULATED_VERSIONS[0])


def version_warning(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return the `Warning` header of a response that uses another version than the requested one."""
    wanted = headers.get("clerk-api-version") or query.get("__clerk_api_version")
    if wanted is not None and wanted not in EARLIER_VERSIONS:
        return None
    reason = f"API version {wanted} is not emulated" if wanted else "no API version is requested"
    return f'299 clerk-emulator "{reason}: served as {EMULATED_VERSIONS[0]}"'


def _invalid_version_error(reason: str) -> ApiError:
    return ApiError(400, ErrorDetail("api_version_invalid", "invalid API version", f"API version: {reason}."))
