"""Hostile JSON of the right shape: what Clerk could send by mistake, and what a client of ours could.

One generator with two ways to choose. `Seeded(seed)` draws from plain random numbers and needs no test framework;
`objects()` and `events()` are the same as Hypothesis strategies, whose first option is always the good value, so that a
failure shrinks to the one bad field. Values are JSON texts (bytes), since much of what is hostile is no Python value:
lone surrogates, doubled keys, numbers beyond every range, nesting without end.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
NOW = 1_795_219_200_000  # as tests.support.clocks
INSTANCE = "ins_hostile"
ORGANIZATION = "org_home"


class Choice(Protocol):
    """A way to choose: at random, or as Hypothesis wants."""

    def one_of(self, options: Sequence[T]) -> T: ...


class Seeded:
    """Choose by plain random numbers; the same seed chooses the same."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 (nothing secret is made of it)

    def one_of(self, options: Sequence[T]) -> T:
        return self._random.choice(options)


class Token(str):
    """JSON that is written as it is: a number, or a nesting, that Python would not write."""

    __slots__ = ()


@dataclass(frozen=True)
class Twice:
    """A key that stands twice in its object, with these two values."""

    first: Any
    second: Any


def write(value: Any) -> str:
    """Write JSON in ASCII, with lone surrogates, tokens and doubled keys as they are."""
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(_member(str(key), inner) for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write(inner) for inner in value) + "]"
    return json.dumps(value)


def _member(key: str, value: Any) -> str:
    if isinstance(value, Twice):
        return f"{_member(key, value.first)}, {_member(key, value.second)}"
    return f"{json.dumps(key)}: {write(value)}"


def nested(depth: int, *, as_objects: bool = True) -> Token:
    """A nesting of so many levels."""
    return Token('{"a":' * depth + "1" + "}" * depth if as_objects else "[" * depth + "]" * depth)


WRONG: tuple[Any, ...] = (None, 5, -1.5, True, "text", [], {}, [None], {"a": None}, Token("1" + "0" * 400))
TIMES: tuple[Any, ...] = (
    *[1_764_440_000_000_000] * 4,  # microseconds, the likeliest mistake
    1_764_440_000_000_000_000,  # nanoseconds
    1_764_440_000,  # seconds
    253_402_300_800_000,  # the year 10000
    -1,
    -62_135_596_800_001,
    0,
    2**53,
    2**63,
    Token("1" + "0" * 5_000),
    Token("1764440000000.5"),
    Token("1.76444e12"),
    Token("1e400"),
    "2026-11-29T00:00:00Z",
    *WRONG,
)
TEXTS: tuple[Any, ...] = (
    "\ud800",
    "Maya \ud83d",
    "\udc00\ud800",
    "\0",
    "Ma\0ya",
    "\x1b[31mred\x07\x08",
    "\u202egnp.exe\u2066\u200b",
    "\ufeff\ufffe\U0010ffff",
    "x" * 5_000,
    "\u0390" * 1_500,
    "\U0001f600" * 1_000,
    "x" * 200_000,
    "=cmd|' /C calc'!A1",
    "\r\nSet-Cookie: a=b",
    "<script>alert(1)</script>",
    "%(name)s {0} {{ x }}",
    "",
    " \t ",
    *WRONG,
)
IDS: tuple[Any, ...] = ("", "a/b", "../..", "\0", "\ud800", "id_\u202e", " ", "x" * 5_000, "?a=b#c", *WRONG)
METADATA: tuple[Any, ...] = (
    [],
    ["a"],
    "text",
    5,
    True,
    None,
    [{"a": 1}],
    {"a": "\0"},
    {"\ud800": "\ud83d"},
    {"a": Token("1e400")},
    {"a": 10**40},
    {"a": Token("1" + "0" * 5_000)},
    {"a": Token("1e200000")},
    {"a": Twice(1, "2")},
    {"role": 5, "": {"": None}},
    {"a": "x" * 300_000},
    {str(n): n for n in range(3_000)},
    nested(120),
    nested(900),
    nested(50_000),
    {"a": nested(900, as_objects=False)},
)


def address(n: str = "1", **changes: Any) -> dict[str, Any]:
    """A good address of a user."""
    good = {
        "id": f"idn_{n}",
        "object": "email_address",
        "email_address": f"person{n}@example.com",
        "verification": {"object": "verification_otp", "status": "verified", "strategy": "email_code"},
        "linked_to": [],
        "created_at": NOW,
        "updated_at": NOW,
    }
    return {**good, **changes}


def _addresses(n: str) -> tuple[Any, ...]:
    """Lists of addresses that are bad as a whole, or in the primary one."""
    good, other = address(n), address(f"{n}b")
    bad = [[it, other] for it in (None, 5, {}, address(n, email_address="\ud800@example.com"), address(n, id=None))]
    return (*bad, [other], [address(n, verification=None)], [address(n, verification={})], [good] * 400, *WRONG)


def _secondaries(n: str) -> tuple[Any, ...]:
    """Lists of a good primary address and a bad other one."""
    good = address(n)
    secondary: tuple[Any, ...] = (
        None,
        5,
        {},
        address(f"{n}b", id=None),
        address(f"{n}b", email_address=None),
        address(f"{n}b", email_address="b\0@example.com"),
        address(f"{n}b", email_address="\ud800@example.com"),
        address(f"{n}b", email_address="x" * 5_000 + "@example.com"),
        address(f"{n}b", verification=5),
        address(f"{n}b", verification={"status": 5}),
    )
    return (*([good, it] for it in secondary), *([it, good] for it in secondary))


KINDS: dict[str, tuple[Any, ...]] = {"time": TIMES, "text": TEXTS, "id": IDS, "metadata": METADATA, "any": WRONG}
_USER = {
    "time": "created_at updated_at last_sign_in_at last_active_at",
    "text": "first_name last_name username image_url external_id",
    "id": "id primary_email_address_id",
    "metadata": "public_metadata private_metadata unsafe_metadata",
    "addresses": "email_addresses",
    "secondary": " ".join(["email_addresses"] * 6),
    "any": "banned locked phone_numbers external_accounts password_enabled",
}
_ORGANIZATION = {
    "time": "created_at updated_at max_allowed_memberships",
    "text": "name slug image_url",
    "id": "id created_by",
    "metadata": "public_metadata private_metadata",
    "any": "members_count admin_delete_enabled",
}
_MEMBERSHIP = {
    "time": "created_at updated_at",
    "text": "role role_name public_user_data.first_name organization.name organization.slug",
    "id": "id organization.id public_user_data.user_id",
    "metadata": "public_metadata private_metadata organization.public_metadata",
    "any": "organization public_user_data permissions",
}
_INVITATION = {
    "time": "created_at updated_at expires_at",
    "text": "email_address role role_name status url public_inviter_data.first_name public_inviter_data.identifier",
    "id": "id organization_id inviter_id user_id public_inviter_data.user_id",
    "metadata": "public_metadata private_metadata",
    "any": "public_inviter_data",
}
_SESSION = {
    "time": "created_at updated_at last_active_at expire_at abandon_at",
    "text": "status latest_activity.browser_name latest_activity.city latest_activity.ip_address",
    "id": "id user_id client_id last_active_organization_id",
    "any": "latest_activity actor",
}
_ROLE = {
    "time": "created_at updated_at",
    "text": "name key description",
    "id": "id",
    "any": "permissions is_creator_eligible",
}


def _good_user(n: str) -> dict[str, Any]:
    return {
        "id": f"user_{n}",
        "object": "user",
        "first_name": f"First{n}",
        "last_name": f"Last{n}",
        "username": None,
        "image_url": "",
        "external_id": None,
        "banned": False,
        "locked": False,
        "phone_numbers": [],
        "external_accounts": [],
        "password_enabled": True,
        "primary_email_address_id": f"idn_{n}",
        "email_addresses": [address(n), address(f"{n}b", verification=None)],
        "public_metadata": {"team": "blue"},
        "private_metadata": {},
        "unsafe_metadata": {},
        "last_sign_in_at": None,
        "last_active_at": NOW,
        "created_at": NOW,
        "updated_at": NOW + 10,
    }


def _good_organization(n: str) -> dict[str, Any]:
    return {
        "id": f"org_{n}",
        "object": "organization",
        "name": f"Firm {n}",
        "slug": f"firm-{n}",
        "image_url": "",
        "created_by": "user_1",
        "max_allowed_memberships": 50,
        "members_count": 1,
        "admin_delete_enabled": True,
        "public_metadata": {},
        "private_metadata": {},
        "created_at": NOW,
        "updated_at": NOW + 10,
    }


def _good_membership(n: str) -> dict[str, Any]:
    person = {"user_id": f"user_{n}", "first_name": f"First{n}", "identifier": f"person{n}@example.com"}
    return {
        "id": f"orgmem_{n}",
        "object": "organization_membership",
        "role": "org:member",
        "role_name": "Member",
        "permissions": [],
        "organization": {**_good_organization("home"), "id": ORGANIZATION},
        "public_user_data": person,
        "public_metadata": {},
        "private_metadata": {},
        "created_at": NOW,
        "updated_at": NOW + 10,
    }


def _good_invitation(n: str) -> dict[str, Any]:
    return {
        "id": f"orginv_{n}",
        "object": "organization_invitation",
        "email_address": f"guest{n}@example.com",
        "role": "org:member",
        "role_name": "Member",
        "status": "pending",
        "organization_id": ORGANIZATION,
        "inviter_id": "user_1",
        "public_inviter_data": {"user_id": "user_1", "first_name": "First1", "identifier": "person1@example.com"},
        "user_id": None,
        "url": None,
        "public_metadata": {},
        "private_metadata": {},
        "created_at": NOW,
        "updated_at": NOW,
        "expires_at": NOW + 86_400_000 * 20,
    }


def _good_session(n: str) -> dict[str, Any]:
    seen = {
        "browser_name": "Firefox",
        "device_type": "Linux",
        "city": "Haifa",
        "country": "IL",
        "ip_address": "10.0.0.1",
    }
    return {
        "id": f"sess_{n}",
        "object": "session",
        "user_id": f"user_{n}",
        "client_id": f"client_{n}",
        "status": "active",
        "last_active_organization_id": None,
        "latest_activity": seen,
        "actor": None,
        "created_at": NOW,
        "updated_at": NOW,
        "last_active_at": NOW,
        "expire_at": NOW + 1,
        "abandon_at": NOW + 2,
    }


def _good_role(n: str) -> dict[str, Any]:
    return {
        "id": f"role_{n}",
        "object": "role",
        "name": "Editor",
        "key": f"org:editor{n}",
        "description": "",
        "is_creator_eligible": False,
        "permissions": [],
        "created_at": NOW,
        "updated_at": NOW,
    }


class Shape:
    """How objects of one kind are made: a good one, and the fields that may be bent."""

    def __init__(self, good: Callable[[str], dict[str, Any]], fields: Mapping[str, str]) -> None:
        self.good = good
        self.fields = [(path, kind) for kind, paths in fields.items() for path in paths.split()]


SHAPES: dict[str, Shape] = {
    "user": Shape(_good_user, _USER),
    "organization": Shape(_good_organization, _ORGANIZATION),
    "membership": Shape(_good_membership, _MEMBERSHIP),
    "invitation": Shape(_good_invitation, _INVITATION),
    "session": Shape(_good_session, _SESSION),
    "role": Shape(_good_role, _ROLE),
}
EVENTS: dict[str, tuple[str, ...]] = {
    "user": ("user.created", "user.updated", "user.deleted"),
    "organization": ("organization.created", "organization.updated", "organization.deleted"),
    "membership": tuple(f"organizationMembership.{it}" for it in ("created", "updated", "deleted")),
    "invitation": tuple(f"organizationInvitation.{it}" for it in ("created", "accepted", "revoked")),
    "session": tuple(f"session.{it}" for it in ("created", "ended", "removed", "revoked")),
    "role": ("role.created", "role.updated", "role.deleted", "permission.created"),
}
_OTHER_EVENTS = ("email.created", "sms.created", "organizationDomain.created", "waitlistEntry.created", "x.y", "x")
_ENVELOPE = {"time": "timestamp", "text": "type object", "id": "instance_id", "any": "data"}


@dataclass(frozen=True)
class Made:
    """One object or event: its kind, its number, its JSON, and what was bent (`created_at=1764440000000000`)."""

    kind: str
    number: str
    body: bytes
    bent: tuple[str, ...]
    type: str = ""


def make_object(choice: Choice, kind: str, number: str, *, bends: Sequence[int] = (0, 1, 1, 1, 2, 3)) -> Made:
    """Make one object of a kind, with as many bent fields as one of `bends`."""
    if choice.one_of((False,) * 24 + (True,)):
        row: Any = choice.one_of((None, 5, [], {}, "text", nested(900)))
        return Made(kind, number, write(row).encode(), (f"the row={write(row)[:20]}",))
    value, bent = _bent_object(choice, kind, number, bends)
    return Made(kind, number, write(value).encode(), bent)


def make_event(choice: Choice, number: str, *, instance: str | None = INSTANCE) -> Made:
    """Make one webhook delivery's body: a hostile object in a good envelope, now and then a bent envelope."""
    kind = choice.one_of(("user", "user", "membership", *EVENTS))
    value, bent = _bent_object(choice, kind, number, (1, 0, 1, 1, 1, 2, 3))
    type_ = choice.one_of(EVENTS[kind])
    envelope: dict[str, Any] = {
        "type": type_,
        "object": "event",
        "data": value,
        "timestamp": NOW,
        "instance_id": instance,
    }
    if choice.one_of((False,) * 11 + (True,)):
        envelope["type"] = choice.one_of(_OTHER_EVENTS)
    if choice.one_of((False,) * 11 + (True,)):
        bent = (*bent, _bend(choice, envelope, *choice.one_of(Shape(_good_role, _ENVELOPE).fields), number))
    return Made(kind, number, write(envelope).encode(), bent, type_)


def make_value(choice: Choice) -> Any:
    """Make one hostile value of any kind, for a field of a request."""
    return choice.one_of(KINDS[choice.one_of(tuple(KINDS))])


def _bent_object(
    choice: Choice, kind: str, number: str, bends: Sequence[int]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    shape = SHAPES[kind]
    value = shape.good(number)
    bent = [_bend(choice, value, *choice.one_of(shape.fields), number) for _ in range(choice.one_of(bends))]
    return value, tuple(bent)


def _bend(choice: Choice, value: dict[str, Any], path: str, kind: str, number: str) -> str:
    """Bend one field, in place: a hostile value, no field at all, or a doubled key."""
    *parents, name = path.split(".")
    for parent in parents:
        if not isinstance(value.get(parent), dict):
            return f"{path} is gone already"
        value = value[parent]
    makers = {"addresses": _addresses, "secondary": _secondaries}
    options = makers[kind](number) if kind in makers else KINDS[kind]
    how = choice.one_of(("value",) * 8 + ("missing", "twice"))
    if how == "missing":
        value.pop(name, None)
        return f"{path} is missing"
    bad = choice.one_of(options)
    value[name] = Twice(value.get(name), bad) if how == "twice" else bad
    said = {"secondary": " (a secondary one)"}.get(kind, "") + (" twice" if how == "twice" else "")
    return f"{path}{said}={write(bad)[:60]}"
