"""News are compared by what must be equal on both sides, and can be kept and told again."""

from typing import Any

import msgspec
import pytest

from instep.identity.events import Gone, News, digest_of, from_json, to_json
from instep.identity.model import ClerkId, Membership, Organization, User
from tests.support.people import membership, organization, user

USER = User(clerk_id=ClerkId("user_1"), email="maya@example.com")
ORGANIZATION = Organization(clerk_id=ClerkId("org_1"), name="Northwind Law")
MEMBERSHIP = Membership(
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
def test_what_clerk_changes_without_telling_is_no_difference(entity: Any, changes: dict[str, Any]) -> None:
    assert digest_of(msgspec.structs.replace(entity, **changes)) == digest_of(entity)


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
def test_everything_else_is_a_difference(entity: Any, change: dict[str, Any]) -> None:
    assert digest_of(msgspec.structs.replace(entity, **change)) != digest_of(entity)


def test_metadata_are_equal_whatever_the_order_of_their_keys_and_the_spaces_between() -> None:
    one, other = msgspec.Raw(b'{"a":1,"b":[2]}'), msgspec.Raw(b'{ "b": [2], "a": 1 }')
    assert digest_of(msgspec.structs.replace(USER, public_metadata=one)) == digest_of(
        msgspec.structs.replace(USER, public_metadata=other)
    )


@pytest.mark.parametrize(
    "news",
    [
        user(1, version=7, public_metadata=msgspec.Raw(b'{"a":[1,null]}')),
        organization(1, version=3, max_members=5),
        membership(1, version=2),
        Gone(user(1).key),
        Gone(membership(1).key, membership(1).entity),
    ],
)
def test_news_that_were_kept_say_the_same_again(news: News) -> None:
    again = from_json(msgspec.json.decode(msgspec.json.encode(to_json(news))))
    assert (type(again), again.key) == (type(news), news.key)
    assert again.entity == news.entity
    for name in ("version", "digest"):
        assert getattr(again, name, None) == getattr(news, name, None)
