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


def generate(instance: Instance, wish: dict[str, Any]) -> dict[str, int]:
    """Make so many users, organizations and memberships, and return how many."""
    if set(wish) - set(KINDS):
        raise ValueError(f"give {', '.join(KINDS)}")
    counts = {name: wish.get(name, 0) for name in KINDS}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_COUNT:
            raise ValueError(f"{name} must be a whole number up to {MAX_COUNT}")
    if counts["memberships"] and not (counts["users"] and counts["organizations"]):
        raise ValueError("memberships need users and organizations")
    dice = random.Random(len(instance.users))  # noqa: S311 - made-up people
    people = [user.id for user in _users(instance, counts["users"], dice)]
    groups = [row.id for row in _organizations(instance, counts["organizations"], dice, people)]
    made = _memberships(instance, counts["memberships"], dice, people, groups)
    return {**counts, "memberships": made}


def _users(instance: Instance, count: int, dice: random.Random) -> Iterator[User]:
    now, start = instance.now, len(instance.users)
    for place in range(count):
        number = start + place
        born = now - MAX_AGE_MILLISECONDS + place * MAX_AGE_MILLISECONDS // max(count, 1)
        user_id, email_id = _random_id("user", dice), _random_id("idn", dice)
        address = f"person{number}@example.com"
        while address in instance.email_owners:
            address = f"person{number}.{dice.randrange(10**9)}@example.com"
        email = EmailAddress(id=email_id, user_id=user_id, email_address=address, created_at=born, updated_at=born)
        user = User(
            id=user_id,
            first_name=FIRST_NAMES[number % len(FIRST_NAMES)],
            last_name=LAST_NAMES[number // len(FIRST_NAMES) % len(LAST_NAMES)],
            email_addresses=[email],
            primary_email_address_id=email_id,
            created_at=born,
            updated_at=born,
        )
        users.insert_record(instance, user)
        yield user


def _organizations(instance: Instance, count: int, dice: random.Random, people: list[str]) -> Iterator[Organization]:
    now, start = instance.now, len(instance.organizations)
    for place in range(count):
        slug = f"firm-{start + place}"
        while slug in instance.slugs:
            slug = f"firm-{start + place}-{dice.randrange(10**9)}"
        born = now - MAX_AGE_MILLISECONDS + place * MAX_AGE_MILLISECONDS // max(count, 1)
        organization = Organization(
            id=_random_id("org", dice),
            name=f"Firm {start + place}",
            slug=slug,
            max_allowed_memberships=0,
            created_by=people[place % len(people)] if people else None,
            created_at=born,
            updated_at=born,
        )
        organizations.insert_record(instance, organization)
        yield organization


def _memberships(instance: Instance, count: int, dice: random.Random, people: list[str], groups: list[str]) -> int:
    """Spread members over the organizations; each one's first is an administrator."""
    made, now = 0, instance.now
    most = min(count, len(people) * len(groups))
    for place in range(most):
        group = groups[place % len(groups)]
        person = people[(place + place // (len(people) * len(groups) // _gcd(len(people), len(groups)))) % len(people)]
        if (group, person) in instance.membership_of:
            continue
        born = now - MAX_AGE_MILLISECONDS + place * MAX_AGE_MILLISECONDS // most
        role = instance.settings.creator_role if place < len(groups) else instance.settings.default_role
        row = Membership(
            id=_random_id("orgmem", dice),
            organization_id=group,
            user_id=person,
            role=role,
            created_at=born,
            updated_at=born,
        )
        memberships.insert_record(instance, row)
        made += 1
    return made


def _gcd(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one


def _random_id(prefix: str, dice: random.Random) -> str:
    return f"{prefix}_" + "".join(dice.choices(ALPHABET, k=LENGTH))
