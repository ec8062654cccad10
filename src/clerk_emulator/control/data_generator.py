"""Generate users, organizations and memberships in bulk, without events."""

import random
from collections.abc import Iterator
from typing import Any

from clerk_emulator.state import memberships, organizations, users
from clerk_emulator.state.ids import ALPHABET, LENGTH
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import EmailAddress, Membership, Organization, User

FIRST_NAMES = (
    "Ada",
    "Bo",
    "Cyd",
    "Dee",
    "Eli",
    "Fay",
    "Gus",
    "Hal",
    "Ida",
    "Jon",
    "Kay",
    "Leo",
    "Mia",
    "Ned",
    "Ola",
    "Pia",
)
LAST_NAMES = ("North", "South", "Brook", "Field", "Stone", "Wood", "Hill", "Marsh", "Reed", "Lake", "Frost", "Vale")
KINDS = ("users", "organizations", "memberships")
MAX_COUNT = 5_000_000
MAX_AGE_MILLISECONDS = 365 * 24 * 60 * 60 * 1000


def generate(instance: Instance, requested: dict[str, Any]) -> dict[str, int]:
    """Create the requested numbers of users, organizations and memberships; return how many were created."""
    if set(requested) - set(KINDS):
        raise ValueError(f"give {', '.join(KINDS)}")
    counts = {name: requested.get(name, 0) for name in KINDS}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_COUNT:
            raise ValueError(f"{name} must be a whole number up to {MAX_COUNT}")
    if counts["memberships"] and not (counts["users"] and counts["organizations"]):
        raise ValueError("memberships need users and organizations")
    rng = random.Random(len(instance.users))  # noqa: S311 - made-up people
    user_ids = [user.id for user in _users(instance, counts["users"], rng)]
    organization_ids = [row.id for row in _organizations(instance, counts["organizations"], rng, user_ids)]
    created = _memberships(instance, counts["memberships"], rng, user_ids, organization_ids)
    return {**counts, "memberships": created}


def _users(instance: Instance, count: int, rng: random.Random) -> Iterator[User]:
    now, start = instance.now, len(instance.users)
    for position in range(count):
        number = start + position
        created_at = now - MAX_AGE_MILLISECONDS + position * MAX_AGE_MILLISECONDS // max(count, 1)
        user_id, email_id = _random_id("user", rng), _random_id("idn", rng)
        address = f"person{number}@example.com"
        while address in instance.email_owners:
            address = f"person{number}.{rng.randrange(10**9)}@example.com"
        email = EmailAddress(
            id=email_id, user_id=user_id, email_address=address, created_at=created_at, updated_at=created_at
        )
        user = User(
            id=user_id,
            first_name=FIRST_NAMES[number % len(FIRST_NAMES)],
            last_name=LAST_NAMES[number // len(FIRST_NAMES) % len(LAST_NAMES)],
            email_addresses=[email],
            primary_email_address_id=email_id,
            created_at=created_at,
            updated_at=created_at,
        )
        users.insert_record(instance, user)
        yield user


def _organizations(instance: Instance, count: int, rng: random.Random, user_ids: list[str]) -> Iterator[Organization]:
    now, start = instance.now, len(instance.organizations)
    for position in range(count):
        slug = f"firm-{start + position}"
        while slug in instance.slugs:
            slug = f"firm-{start + position}-{rng.randrange(10**9)}"
        created_at = now - MAX_AGE_MILLISECONDS + position * MAX_AGE_MILLISECONDS // max(count, 1)
        organization = Organization(
            id=_random_id("org", rng),
            name=f"Firm {start + position}",
            slug=slug,
            max_allowed_memberships=0,
            created_by=user_ids[position % len(user_ids)] if user_ids else None,
            created_at=created_at,
            updated_at=created_at,
        )
        organizations.insert_record(instance, organization)
        yield organization


def _memberships(
    instance: Instance, count: int, rng: random.Random, user_ids: list[str], organization_ids: list[str]
) -> int:
    """Spread members over the organizations; the first one of each is an administrator."""
    created, now = 0, instance.now
    maximum = min(count, len(user_ids) * len(organization_ids))
    for position in range(maximum):
        organization_id = organization_ids[position % len(organization_ids)]
        user_id = user_ids[
            (
                position
                + position // (len(user_ids) * len(organization_ids) // _gcd(len(user_ids), len(organization_ids)))
            )
            % len(user_ids)
        ]
        if (organization_id, user_id) in instance.membership_of:
            continue
        created_at = now - MAX_AGE_MILLISECONDS + position * MAX_AGE_MILLISECONDS // maximum
        role = instance.settings.creator_role if position < len(organization_ids) else instance.settings.default_role
        row = Membership(
            id=_random_id("orgmem", rng),
            organization_id=organization_id,
            user_id=user_id,
            role=role,
            created_at=created_at,
            updated_at=created_at,
        )
        memberships.insert_record(instance, row)
        created += 1
    return created


def _gcd(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one


def _random_id(prefix: str, rng: random.Random) -> str:
    return f"{prefix}_" + "".join(rng.choices(ALPHABET, k=LENGTH))
