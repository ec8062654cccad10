"""Which operations of the Frontend API there are and which not, as a part of the page SUPPORTED.md."""

from clerk_emulator.frontend.operations import OPERATIONS, Operation
from clerk_emulator.frontend.table import ROUTES

PAGES = {"getJWKS", "handshakeClient", "acceptTicket"}  # which are no part of the table, but of the hosted pages
FACTORS = "By password, e-mail code and ticket, and a code by telephone as the second factor. Not by other means."
SIGNING_UP = "By e-mail address, password and ticket. Not by other means."
ONCE_MORE = "By password and e-mail code, and a code by telephone as the second factor. Not by other means."
CODES = "By code only, not by link."
NO_DEVICE = "Nothing is told of the device."
PARTLY = {
    "createSignIn": FACTORS,
    "prepareSignInFactorOne": FACTORS,
    "attemptSignInFactorOne": FACTORS,
    "prepareSignInFactorTwo": FACTORS,
    "attemptSignInFactorTwo": FACTORS,
    "createSignUps": SIGNING_UP,
    "updateSignUps": SIGNING_UP,
    "prepareSessionReverificationFirstFactor": ONCE_MORE,
    "attemptSessionReverificationFirstFactor": ONCE_MORE,
    "attemptSessionReverificationSecondFactor": ONCE_MORE,
    "prepareSignUpsVerification": CODES,
    "sendVerificationEmail": CODES,
    "getSessions": NO_DEVICE,
    "getOrganizationCreationDefaults": "Nothing is suggested.",
}
HEAD = """# The Frontend API

What Clerk's own scripts in browsers ask, at `/__clerk/v1` and `/v1`: **{yes}** operations are supported, **{partly}**
partly, and **{no}** are not: they are answered with 400 `emulator_not_implemented` and their operationId, and so is
what is "not" supported of another.
"""


def text() -> str:
    """Return this part of the page."""
    sections: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        sections.setdefault(operation.section, []).append(operation)
    have = supported()
    numbers = {"yes": len(have) - len(PARTLY), "partly": len(PARTLY), "no": len(OPERATIONS) - len(have)}
    return "\n".join([HEAD.format(**numbers), *(_section(name, rows) for name, rows in sorted(sections.items()))])


def supported() -> set[str]:
    """Return the ids of the operations that are answered."""
    return {route.operation for route in ROUTES} | PAGES


def _section(name: str, rows: list[Operation]) -> str:
    lines = [f"## `{name}`", "", "| Operation | | Supported |", "|---|---|---|"]
    return "\n".join([*lines, *(_row(row) for row in rows), ""])


def _row(operation: Operation) -> str:
    if operation.id not in supported():
        verdict = "no"
    else:
        verdict = f"partly: {PARTLY[operation.id]}" if operation.id in PARTLY else "yes"
    return f"| `{operation.id}` | {operation.method} `{operation.path}` | {verdict} |"
