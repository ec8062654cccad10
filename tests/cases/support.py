"""A small firm that the tests of several rows begin with."""

from typing import Any

from tests.support.world import Firm

PEOPLE = ("ada@example.com", "ben@example.com", "cleo@example.com")


async def acme(firm: Firm, *, people: tuple[str, ...] = PEOPLE) -> None:
    """Have an organization `acme` with these people, the first an admin, on both sides."""
    firm.emulator.seed(described(people))
    await firm.settle()


def described(people: tuple[str, ...] = PEOPLE, *, events: bool = True) -> dict[str, Any]:
    """Return the emulator's description of that firm; `events`: whether its webhooks tell of it."""
    members = [{"user": email, "role": "org:member" if n else "org:admin"} for n, email in enumerate(people)]
    return {
        "users": [{"email_address": email} for email in people],
        "organizations": [{"name": "Acme", "slug": "acme", "members": members}],
        "events": events,
    }
