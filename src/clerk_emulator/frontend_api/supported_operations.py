"""SUPPORTED.md section: which Frontend API operations are emulated."""

from clerk_emulator.frontend_api.operations import OPERATIONS, FrontendOperation
from clerk_emulator.frontend_api.route_table import ROUTES

PAGE_OPERATIONS = {
    "getJWKS",
    "handshakeClient",
    "acceptTicket",
}  # served by the hosted pages, not in the route table
SIGN_IN_LIMITS = "Password, email code and ticket as the first factor, phone code as the second. No other strategies."
SIGN_UP_LIMITS = "Email address, password and ticket. No other strategies."
REVERIFICATION_LIMITS = "Password and email code as the first factor, phone code as the second. No other strategies."
VERIFICATION_LIMITS = "Only by code, not by link."
SESSION_LIMITS = "Without data about the device."
PARTIAL_SUPPORT = {
    "createSignIn": SIGN_IN_LIMITS,
    "prepareSignInFactorOne": SIGN_IN_LIMITS,
    "attemptSignInFactorOne": SIGN_IN_LIMITS,
    "prepareSignInFactorTwo": SIGN_IN_LIMITS,
    "attemptSignInFactorTwo": SIGN_IN_LIMITS,
    "createSignUps": SIGN_UP_LIMITS,
    "updateSignUps": SIGN_UP_LIMITS,
    "prepareSessionReverificationFirstFactor": REVERIFICATION_LIMITS,
    "attemptSessionReverificationFirstFactor": REVERIFICATION_LIMITS,
    "attemptSessionReverificationSecondFactor": REVERIFICATION_LIMITS,
    "prepareSignUpsVerification": VERIFICATION_LIMITS,
    "sendVerificationEmail": VERIFICATION_LIMITS,
    "getSessions": SESSION_LIMITS,
    "getOrganizationCreationDefaults": "Always empty.",
}
HEADER = """# The Frontend API

The API of Clerk's browser scripts, at `/__clerk/v1` and `/v1`: **{yes}** operations are supported, **{partly}** partly
and **{no}** not. Unsupported operations, and unsupported features of the others, return 400
`emulator_not_implemented` with their operationId.
"""


def render_section() -> str:
    """Return the Markdown section."""
    sections: dict[str, list[FrontendOperation]] = {}
    for operation in OPERATIONS:
        sections.setdefault(operation.section, []).append(operation)
    have = list_supported()
    numbers = {
        "yes": len(have) - len(PARTIAL_SUPPORT),
        "partly": len(PARTIAL_SUPPORT),
        "no": len(OPERATIONS) - len(have),
    }
    return "\n".join(
        [HEADER.format(**numbers), *(_render_group(name, rows) for name, rows in sorted(sections.items()))]
    )


def list_supported() -> set[str]:
    """Return the ids of the supported operations."""
    return {route.operation for route in ROUTES} | PAGE_OPERATIONS


def _render_group(name: str, rows: list[FrontendOperation]) -> str:
    lines = [f"## `{name}`", "", "| Operation | | Supported |", "|---|---|---|"]
    return "\n".join([*lines, *(_render_row(row) for row in rows), ""])


def _render_row(operation: FrontendOperation) -> str:
    if operation.id not in list_supported():
        support = "no"
    else:
        support = f"partly: {PARTIAL_SUPPORT[operation.id]}" if operation.id in PARTIAL_SUPPORT else "yes"
    return f"| `{operation.id}` | {operation.method} `{operation.path}` | {support} |"
