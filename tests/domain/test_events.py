"""States are compared by their content, and survive storage unchanged."""

from typing import Any

import msgspec
import pytest

from instep.domain.events import EntityState, Tombstone, compute_digest, decode_entity_state, encode_entity_state
from instep.domain.models import ClerkId, ClerkMembership, ClerkOrganization, ClerkUser
from tests.support.people import membership, organization, user

USER = ClerkUser(clerk_id=ClerkId("user_1"), email="maya@example.com")
ORGANIZATION = ClerkOrganization(clerk_id=ClerkId("org_1"), name="Northwind Law")
MEMBERSHIP = ClerkMembership(
    clerk_id=ClerkId("orgmem_1"), organization=ClerkId("org_1"), user=ClerkId("user_1"), role="org:member"
)


@pytest.mark.parametrize(
    ("entity", "changes"),
    [
        (USER, {"last_active_at": 9, "last_sign_in_at": 9, "image_url": "x", "joined_at": 9}),
        (ORGANIZATION, {"image_url": "x", "joined_at": 9}),
        (MEMBERSHIP, {"joined_at": 9}),
    ],
)
def test_changes_without_an_event_are_ignored(entity: Any, changes: dict[str, Any]) -> None:
    assert compute_digest(msgspec.structs.replace(entity, **changes)) == compute_digest(entity)


@pytest.mark.parametrize(
    ("entity", "change"),
    [
        *[(USER, {name: "other"}) for name in ("email", "first_name", "last_name", "username", "external_id")],
        (USER, {"is_banned": True}),
        (USER, {"is_email_verified": True}),
        (USER, {"public_metadata": msgspec.Raw(b'{"a":1}')}),
        *[(ORGANIZATION, {name: "other"}) for name in ("name", "slug")],
        (ORGANIZATION, {"max_members": 5}),
        (ORGANIZATION, {"public_metadata": msgspec.Raw(b'{"a":1}')}),
        *[(MEMBERSHIP, {name: "other"}) for name in ("organization", "user", "role")],
    ],
)
def test_all_other_changes_change_the_digest(entity: Any, change: dict[str, Any]) -> None:
    assert compute_digest(msgspec.structs.replace(entity, **change)) != compute_digest(entity)


def test_metadata_are_compared_by_value() -> None:
    one, other = msgspec.Raw(b'{"a":1,"b":[2]}'), msgspec.Raw(b'{ "b": [2], "a": 1 }')
    assert compute_digest(msgspec.structs.replace(USER, public_metadata=one)) == compute_digest(
        msgspec.structs.replace(USER, public_metadata=other)
    )


@pytest.mark.parametrize(
    "state",
    [
        user(1, version=7, public_metadata=msgspec.Raw(b'{"a":[1,null]}')),
        organization(1, version=3, max_members=5),
        membership(1, version=2),
        Tombstone(user(1).key),
        Tombstone(membership(1).key, membership(1).entity),
    ],
)
def test_stored_states_decode_to_the_same(state: EntityState) -> None:
    again = decode_entity_state(msgspec.json.decode(msgspec.json.encode(encode_entity_state(state))))
    assert (type(again), again.key) == (type(state), state.key)
    assert again.entity == state.entity
    for name in ("version", "digest"):
        assert getattr(again, name, None) == getattr(state, name, None)
