"""SUPPORTED.md section: which Frontend API operations are emulated."""

from clerk_emulator.frontend_api.operations import OPERATIONS, FrontendOperation
from clerk_emulator.frontend_api.route_table import ROUTES

PAGE_OPERATIONS = {
    "getJWKS",
    "handshakeClient",
    "acceptTicket",
}  # which are no part of the table, but of the hosted pages
SIGN_IN_LIMITS = (
    "By password, e-mail code and ticket, and a code by telephone as the second factor. Not by other means."
)
SIGN_UP_LIMITS = "By e-mail address, password and ticket. Not by other means."
REVERIFICATION_LIMITS = "By password and e-mail code, and a code by telephone as the second factor. Not by other means."
VERIFICATION_LIMITS = "By code only, not by link."
SESSION_LIMITS = "Nothing is told of the device."
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
    "getOrganizationCreationDefaults": "Nothing is suggested.",
}
HEADER = """# The Frontend API

What Clerk's own scripts in browsers ask, at `/__clerk/v1` and `/v1`: **{yes}** operations are supported, **{partly}**
partly, and **{no}** are not: they are answered with 400 `emulator_not_implemented` and their operationId, and so is
what is "not" supported of another.
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
