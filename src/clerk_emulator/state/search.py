"""Find users and memberships by filters, with indexes where possible."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Membership, User

UserPredicate = Callable[[User], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFilter:
    """Filters of users. None: no filter. Lists of ids may carry `+` and `-`."""

    email_address: list[str] | None = None
    external_id: list[str] | None = None
    phone_number: list[str] | None = None
    username: list[str] | None = None
    user_id: list[str] | None = None
    organization_id: list[str] | None = None
    matches_no_user: bool = False  # wallets and providers, which no user of the emulator has
    query: str | None = None
    email_address_query: str | None = None
    phone_number_query: str | None = None
    username_query: str | None = None
    name_query: str | None = None
    banned: bool | None = None
    ranges: tuple[tuple[str, int | None, int | None], ...] = ()  # field, after, before

    @property
    def is_open(self) -> bool:
        """Return whether every user matches."""
        return self == UserFilter()


def iter_users(instance: Instance, criteria: UserFilter) -> Iterator[User]:
    """Iterate over the matching users, newest first."""
    tests = list(_predicates(instance, criteria))
    named = _indexed_user_ids(instance, criteria)
    if named is not None:
        keys = sorted((instance.users.key(user_id) or (0, 0, ""), user_id) for user_id in named)
        users: Iterable[User | None] = (instance.users.find(user_id) for _, user_id in reversed(keys))
    else:
        users = instance.users.newest_first()
    return (user for user in users if user is not None and all(test(user) for test in tests))


def build_predicate(instance: Instance, criteria: UserFilter) -> UserPredicate:
    """Return a predicate that tests a user."""
    tests = list(_predicates(instance, criteria))
    named = _indexed_user_ids(instance, criteria)
    return lambda user: (named is None or user.id in named) and all(test(user) for test in tests)


def split_inclusions(values: list[str]) -> tuple[set[str], set[str]]:
    """Return the ids to include and those to exclude."""
    wanted = {value.removeprefix("+") for value in values if not value.startswith("-")}
    return wanted, {value[1:] for value in values if value.startswith("-")}


def user_sort_key(user: User, name: str) -> Any:
    """Return the sort key of a user; empty values come first."""
    primary = user.primary_email
    if name == "email_address":
        value = primary.email_address if primary else None
    elif name == "phone_number":
        value = next((one.phone_number for one in user.phone_numbers if one.id == user.primary_phone_number_id), None)
    else:
        value = getattr(user, name, None)
    return (value is not None, value if not isinstance(value, str) else value.lower())


def iter_memberships(
    instance: Instance, memberships: Iterable[Membership], criteria: UserFilter
) -> Iterator[Membership]:
    """Iterate over the memberships of matching users."""
    test = build_predicate(instance, criteria)
    for membership in memberships:
        user = instance.users.find(membership.user_id)
        if user is not None and test(user):
            yield membership


def _indexed_user_ids(instance: Instance, criteria: UserFilter) -> set[str] | None:
    """Return the ids of the users that the indexed filters match; None: no such filter."""
    found: set[str] | None = None
    lookups = (
        (criteria.email_address, lambda value: instance.email_owners.get(value.strip().lower())),
        (criteria.phone_number, lambda value: instance.phone_owners.get("+" + "".join(filter(str.isdigit, value)))),
        (criteria.username, lambda value: instance.usernames.get(value.lower())),
    )
    for values, lookup in lookups:
        if values is not None:
            found = _intersect(found, {user_id for user_id in map(lookup, values) if user_id})
    for values, lookup in (
        (criteria.external_id, instance.external_ids.get),
        (criteria.user_id, lambda value: value if value in instance.users else None),
    ):
        wanted, _ = split_inclusions(values or [])
        if wanted:
            found = _intersect(found, {user_id for user_id in map(lookup, wanted) if user_id})
    wanted, _ = split_inclusions(criteria.organization_id or [])
    if wanted:
        found = _intersect(found, {user_id for owner in wanted for user_id in _member_ids(instance, owner)})
    return set() if criteria.matches_no_user else found


def _intersect(found: set[str] | None, more: set[str]) -> set[str]:
    return more if found is None else found & more


def _member_ids(instance: Instance, organization_id: str) -> Iterator[str]:
    for membership_id in instance.organization_members.of(organization_id).ids():
        membership = instance.memberships.find(membership_id)
        if membership is not None:
            yield membership.user_id


def _predicates(instance: Instance, criteria: UserFilter) -> Iterator[UserPredicate]:
    yield from _exclusions(instance, criteria)
    for text, parts in (
        (criteria.query, _all_texts),
        (criteria.email_address_query, _addresses),
        (criteria.phone_number_query, _numbers),
        (criteria.username_query, lambda user: [user.username or ""]),
        (criteria.name_query, _names),
    ):
        if text:
            yield _contains_text(text.lower(), parts)
    if criteria.banned is not None:
        yield lambda user: user.banned is criteria.banned
    for name, after, before in criteria.ranges:
        yield _in_range(name, after, before)


def _exclusions(instance: Instance, criteria: UserFilter) -> Iterator[UserPredicate]:
    _, not_ids = split_inclusions(criteria.user_id or [])
    if not_ids:
        yield lambda user: user.id not in not_ids
    _, not_external = split_inclusions(criteria.external_id or [])
    if not_external:
        yield lambda user: user.external_id not in not_external
    _, not_in = split_inclusions(criteria.organization_id or [])
    if not_in:
        yield lambda user: not any((owner, user.id) in instance.membership_of for owner in not_in)


def _contains_text(text: str, parts: Callable[[User], list[str]]) -> UserPredicate:
    return lambda user: any(text in part.lower() for part in parts(user))


def _in_range(name: str, after: int | None, before: int | None) -> UserPredicate:
    def test(user: User) -> bool:
        value = getattr(user, name)
        if value is None:
            return False
        return (after is None or value > after) and (before is None or value < before)

    return test


def _addresses(user: User) -> list[str]:
    return [email.email_address for email in user.email_addresses]


def _numbers(user: User) -> list[str]:
    return [phone.phone_number for phone in user.phone_numbers]


def _names(user: User) -> list[str]:
    return [" ".join(part for part in (user.first_name, user.last_name) if part)]


def _all_texts(user: User) -> list[str]:
    return [user.id, user.username or "", *_names(user), *_addresses(user), *_numbers(user)]
