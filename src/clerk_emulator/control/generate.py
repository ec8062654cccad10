"""People by the thousand: made up quickly, entered without a word to the world."""

import random
from collections.abc import Iterator
from typing import Any

from clerk_emulator.state import memberships, organizations, users
from clerk_emulator.state.ids import ALPHABET, LENGTH
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import EmailAddress, Membership, Organization, User

FIRST = ("Ada", "Bo", "Cyd", "Dee", "Eli", "Fay", "Gus", "Hal", "Ida", "Jon", "Kay", "Leo", "Mia", "Ned", "Ola", "Pia")
LAST = ("North", "South", "Brook", "Field", "Stone", "Wood", "Hill", "Marsh", "Reed", "Lake", "Frost", "Vale")
KINDS = ("users", "organizations", "memberships")
MOST = 5_000_000
AGE = 365 * 24 * 60 * 60 * 1000


def grow(instance: Instance, wish: dict[str, Any]) -> dict[str, int]:
    """Make so many users, organizations and memberships, and return how many."""
    if set(wish) - set(KINDS):
        raise ValueError(f"give {', '.join(KINDS)}")
    counts = {name: wish.get(name, 0) for name in KINDS}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST:
            raise ValueError(f"{name} must be a whole number up to {MOST}")
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
        born = now - AGE + place * AGE // max(count, 1)
        user_id, email_id = _id("user", dice), _id("idn", dice)
        address = f"person{number}@example.com"
        while address in instance.email_owners:
            address = f"person{number}.{dice.randrange(10**9)}@example.com"
        email = EmailAddress(id=email_id, user_id=user_id, email_address=address, created_at=born, updated_at=born)
        user = User(
            id=user_id,
            first_name=FIRST[number % len(FIRST)],
            last_name=LAST[number // len(FIRST) % len(LAST)],
            email_addresses=[email],
            primary_email_address_id=email_id,
            created_at=born,
            updated_at=born,
        )
        users.restore(instance, user)
        yield user


def _organizations(instance: Instance, count: int, dice: random.Random, people: list[str]) -> Iterator[Organization]:
    now, start = instance.now, len(instance.organizations)
    for place in range(count):
        slug = f"firm-{start + place}"
        while slug in instance.slugs:
            slug = f"firm-{start + place}-{dice.randrange(10**9)}"
        born = now - AGE + place * AGE // max(count, 1)
        organization = Organization(
            id=_id("org", dice),
            name=f"Firm {start + place}",
            slug=slug,
            max_allowed_memberships=0,
            created_by=people[place % len(people)] if people else None,
            created_at=born,
            updated_at=born,
        )
        organizations.restore(instance, organization)
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
        born = now - AGE + place * AGE // most
        role = instance.settings.creator_role if place < len(groups) else instance.settings.default_role
        row = Membership(
            id=_id("orgmem", dice), organization_id=group, user_id=person, role=role, created_at=born, updated_at=born
        )
        memberships.restore(instance, row)
        made += 1
    return made


def _gcd(one: int, other: int) -> int:
    while other:
        one, other = other, one % other
    return one


def _id(prefix: str, dice: random.Random) -> str:
    return f"{prefix}_" + "".join(dice.choices(ALPHABET, k=LENGTH))
