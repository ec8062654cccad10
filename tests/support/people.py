"""Made-up people, organizations and memberships, as Clerk would tell of them."""

from typing import Any

from instep.identity.events import Seen, seen
from instep.identity.model import ClerkId, Membership, Organization, User


def user(n: int = 1, *, version: int = 1, **changes: Any) -> Seen:
    """User number `n` at `version`."""
    fields: dict[str, Any] = {
        "clerk_id": ClerkId(f"user_{n}"),
        "email": f"person{n}@example.com",
        "is_email_verified": True,
        "first_name": f"First{n}",
        "last_name": f"Last{n}",
        "joined_at": 1_000 + n,
    }
    return seen(User(**(fields | changes)), version)


def organization(n: int = 1, *, version: int = 1, **changes: Any) -> Seen:
    """Organization number `n` at `version`."""
    fields: dict[str, Any] = {"clerk_id": ClerkId(f"org_{n}"), "name": f"Firm {n}", "slug": f"firm-{n}"}
    return seen(Organization(**(fields | changes)), version)


def membership(n: int = 1, *, of: int = 1, in_: int = 1, version: int = 1, role: str = "org:member") -> Seen:
    """Membership number `n`: user `of` in organization `in_`."""
    entity = Membership(
        clerk_id=ClerkId(f"orgmem_{n}"),
        organization=ClerkId(f"org_{in_}"),
        user=ClerkId(f"user_{of}"),
        role=role,
        joined_at=2_000 + n,
    )
    return seen(entity, version)
