"""Users and organizations that a webhook is about, so that it can be found by them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from instep.clerk.parsing import parse_subject_ids


@pytest.mark.parametrize(
    ("event_type", "data", "expected"),
    [
        ("user.updated", {"id": "user_1"}, ("user_1", None)),
        ("user.deleted", {"id": "user_1", "deleted": True}, ("user_1", None)),
        ("organization.created", {"id": "org_1"}, (None, "org_1")),
        (
            "organizationMembership.created",
            {"id": "orgmem_1", "organization": {"id": "org_1"}, "public_user_data": {"user_id": "user_1"}},
            ("user_1", "org_1"),
        ),
        ("organizationInvitation.created", {"id": "orginv_1", "organization_id": "org_1"}, (None, "org_1")),
        (
            "organizationInvitation.accepted",
            {"id": "orginv_1", "organization_id": "org_1", "user_id": "user_1"},
            ("user_1", "org_1"),
        ),
        ("session.ended", {"id": "sess_1", "user_id": "user_1"}, ("user_1", None)),
        ("event.of.tomorrow", {"id": "x"}, (None, None)),
    ],
)
def test_the_ids_are_found_where_clerk_puts_them(
    event_type: str, data: Any, expected: tuple[str | None, str | None]
) -> None:
    assert parse_subject_ids(event_type, Raw(json.dumps(data).encode())) == expected


@given(st.binary(max_size=200), st.sampled_from(["user.created", "organization.updated", "x"]))
def test_any_data_give_ids_or_none(data: bytes, event_type: str) -> None:
    for found in parse_subject_ids(event_type, Raw(data)):
        assert found is None or found


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda it: (
            st.lists(it) | st.dictionaries(st.sampled_from(["id", "organization", "user_id", "public_user_data"]), it)
        ),
    )
)
def test_unexpected_shapes_give_no_ids(data: Any) -> None:
    user, organization = parse_subject_ids("user.created", Raw(json.dumps(data).encode()))
    assert organization is None or isinstance(organization, str)
    assert user is None or "\0" not in user
