"""Made-up people, organizations and memberships, as Clerk would tell of them."""

from typing import Any

from instep.domain.events import Observation, make_observation
from instep.domain.models import ClerkId, ClerkMembership, ClerkOrganization, ClerkUser


def user(n: int = 1, *, version: int = 1, **changes: Any) -> Observation:
    """User number `n` at `version`."""
    fields: dict[str, Any] = {
        "clerk_id": ClerkId(f"user_{n}"),
        "email": f"person{n}@example.com",
        "is_email_verified": True,
        "first_name": f"First{n}",
        "last_name": f"Last{n}",
        "joined_at": 1_000 + n,
    }
    return make_observation(ClerkUser(**(fields | changes)), version)


def organization(n: int = 1, *, version: int = 1, **changes: Any) -> Observation:
    """Organization number `n` at `version`."""
    fields: dict[str, Any] = {"clerk_id": ClerkId(f"org_{n}"), "name": f"Firm {n}", "slug": f"firm-{n}"}
    return make_observation(ClerkOrganization(**(fields | changes)), version)


def membership(n: int = 1, *, of: int = 1, in_: int = 1, version: int = 1, role: str = "org:member") -> Observation:
    """Membership number `n`: user `of` in organization `in_`."""
    entity = ClerkMembership(
        clerk_id=ClerkId(f"orgmem_{n}"),
        organization=ClerkId(f"org_{in_}"),
        user=ClerkId(f"user_{of}"),
        role=role,
        joined_at=2_000 + n,
    )
    return make_observation(entity, version)
