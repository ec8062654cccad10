"""Parsing of Clerk's JSON: lenient with unknown data, and UnreadableDataError at worst."""

import json
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.lenient_json import MAX_NAME_LENGTH
from instep.clerk.parsing import (
    ClerkInvitationPayload,
    ClerkOrganizationPayload,
    ClerkUserPayload,
    UnreadableDataError,
    parse_envelope,
    parse_rows,
    parse_webhook,
    to_invitation,
    to_organization,
    to_user,
)
from instep.core.input_limits import MAX_NESTING
from instep.domain.events import (
    IrrelevantEvent,
    Observation,
    OrganizationInvitationsChanged,
    SessionEnded,
    Tombstone,
    WebhookEvent,
)
from instep.domain.models import ClerkId, ClerkMembership, ClerkOrganization, ClerkUser, EntityKey
from tests.support.need import clerk_file

T = TypeVar("T")

USER: dict[str, Any] = {
    "id": "user_1",
    "object": "user",
    "updated_at": 1_790_000_000_000,
    "created_at": 1_780_000_000_000,
    "primary_email_address_id": "idn_2",
    "email_addresses": [
        {"id": "idn_1", "email_address": "old@example.com", "verification": {"status": "verified"}},
        {"id": "idn_2", "email_address": "maya@example.com", "verification": {"status": "verified"}},
    ],
    "first_name": "Maya",
    "last_name": "Cohen",
    "username": "maya",
    "image_url": "https://img.example.com/1",
    "external_id": "ext_1",
    "banned": False,
    "public_metadata": {"role": "admin"},
    "last_sign_in_at": 1,
    "last_active_at": 2,
}
ORGANIZATION: dict[str, Any] = {
    "id": "org_1",
    "name": "Northwind Law",
    "slug": "northwind-law",
    "image_url": "",
    "max_allowed_memberships": 30,
    "public_metadata": {},
    "created_at": 5,
    "updated_at": 7,
}
MEMBERSHIP: dict[str, Any] = {
    "id": "orgmem_1",
    "role": "org:member",
    "organization": ORGANIZATION,
    "public_user_data": {"user_id": "user_1", "identifier": "maya@example.com"},
    "created_at": 8,
    "updated_at": 9,
}
INVITATION: dict[str, Any] = {
    "id": "orginv_1",
    "email_address": "ben@example.com",
    "role": "org:member",
    "status": "pending",
    "organization_id": "org_1",
    "url": "https://clerk.example.com/accept?ticket=secret",
    "created_at": 5,
    "expires_at": 6,
}
DATA: dict[str, dict[str, Any]] = {
    "user.created": USER,
    "user.updated": USER,
    "user.deleted": {"id": "user_1", "object": "user", "deleted": True},
    "organization.created": ORGANIZATION,
    "organization.updated": ORGANIZATION,
    "organization.deleted": {"id": "org_1", "object": "organization", "deleted": True},
    "organizationMembership.created": MEMBERSHIP,
    "organizationMembership.updated": MEMBERSHIP,
    "organizationMembership.deleted": MEMBERSHIP,
    "organizationInvitation.created": INVITATION,
    "organizationInvitation.accepted": INVITATION,
    "organizationInvitation.revoked": INVITATION,
    "session.ended": {"id": "sess_1"},
    "session.removed": {"id": "sess_1"},
    "session.revoked": {"id": "sess_1"},
}


def body(type_: str, data: Any) -> bytes:
    return json.dumps({"type": type_, "instance_id": "ins_1", "object": "event", "data": data}).encode()


def decode_as(value: Any, type_: type[T]) -> T:
    """One object of the Backend API."""
    return msgspec.json.decode(json.dumps(value), type=type_)


def user(**changes: Any) -> ClerkUser:
    (event,) = parse_webhook(body("user.updated", {**USER, **changes}))
    assert isinstance(event, Observation)
    assert isinstance(event.entity, ClerkUser)
    return event.entity


def test_a_user_is_parsed_completely() -> None:
    (event,) = parse_webhook(body("user.created", USER))
    assert isinstance(event, Observation)
    assert (event.key, event.version) == (EntityKey("user", ClerkId("user_1")), 1_790_000_000_000)
    assert event.entity == ClerkUser(
        clerk_id=ClerkId("user_1"),
        email="maya@example.com",
        is_email_verified=True,
        first_name="Maya",
        last_name="Cohen",
        username="maya",
        image_url="https://img.example.com/1",
        external_id="ext_1",
        is_banned=False,
        public_metadata=msgspec.Raw(b'{"role": "admin"}'),
        joined_at=1_780_000_000_000,
        last_sign_in_at=1,
        last_active_at=2,
    )


def test_an_organization_is_parsed_and_an_unlimited_one_has_limit_none() -> None:
    (event,) = parse_webhook(body("organization.updated", ORGANIZATION))
    assert isinstance(event, Observation)
    assert event.version == 7
    assert event.entity == ClerkOrganization(
        clerk_id=ClerkId("org_1"), name="Northwind Law", slug="northwind-law", max_members=30, joined_at=5
    )
    for none in (0, None, -1, 2**40):
        wire = decode_as({**ORGANIZATION, "max_allowed_memberships": none}, ClerkOrganizationPayload)
        entity = to_organization(wire).entity
        assert isinstance(entity, ClerkOrganization)
        assert entity.max_members is None


@pytest.mark.parametrize("type_", ["organizationMembership.created", "organizationMembership.updated"])
def test_a_membership_event_starts_with_its_organization(type_: str) -> None:
    organization, membership = parse_webhook(body(type_, MEMBERSHIP))
    assert isinstance(organization, Observation)
    assert organization.key == EntityKey("organization", ClerkId("org_1"))
    assert isinstance(membership, Observation)
    assert membership.version == 9
    assert membership.entity == ClerkMembership(
        clerk_id=ClerkId("orgmem_1"),
        organization=ClerkId("org_1"),
        user=ClerkId("user_1"),
        role="org:member",
        joined_at=8,
    )


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("user.deleted", [Tombstone(EntityKey("user", ClerkId("user_1")))]),
        ("organization.deleted", [Tombstone(EntityKey("organization", ClerkId("org_1")))]),
        ("organizationInvitation.created", [OrganizationInvitationsChanged(ClerkId("org_1"))]),
        ("organizationInvitation.accepted", [OrganizationInvitationsChanged(ClerkId("org_1"))]),
        ("organizationInvitation.revoked", [OrganizationInvitationsChanged(ClerkId("org_1"))]),
        ("session.ended", [SessionEnded(ClerkId("sess_1"))]),
        ("session.removed", [SessionEnded(ClerkId("sess_1"))]),
        ("session.revoked", [SessionEnded(ClerkId("sess_1"))]),
    ],
)
def test_each_event_type_is_parsed(type_: str, expected: list[WebhookEvent]) -> None:
    assert parse_webhook(body(type_, DATA[type_])) == expected


def test_a_deleted_membership_has_its_last_state() -> None:
    (gone,) = parse_webhook(body("organizationMembership.deleted", MEMBERSHIP))
    assert isinstance(gone, Tombstone)
    assert gone.key == EntityKey("membership", ClerkId("orgmem_1"))
    assert isinstance(gone.entity, ClerkMembership)
    assert (gone.entity.user, gone.entity.organization) == ("user_1", "org_1")


@pytest.mark.parametrize("type_", ["email.created", "waitlistEntry.updated", "an.event.of.tomorrow", ""])
def test_other_event_types_are_irrelevant(type_: str) -> None:
    assert parse_webhook(body(type_, {"whatever": [1]})) == [IrrelevantEvent(type_)]


def test_the_primary_address_counts_and_no_other() -> None:
    assert user().email == "maya@example.com"
    assert user(primary_email_address_id=None).email is None
    assert user(primary_email_address_id="idn_9").email is None
    assert user(email_addresses=None).email is None
    assert user(email_addresses=[]).email is None


@pytest.mark.parametrize("status", ["unverified", "failed", "expired", "transferable", None, "a word of tomorrow"])
def test_an_address_is_verified_only_by_clerks_status(status: str | None) -> None:
    address = {"id": "idn_2", "email_address": "maya@example.com", "verification": {"status": status}}
    assert not user(email_addresses=[address]).is_email_verified
    assert not user(email_addresses=[{**address, "verification": None}]).is_email_verified


def test_unknown_fields_and_words_do_not_matter() -> None:
    assert user(a_field_of_tomorrow={"deep": [1, None]}) == user()
    wire = decode_as({**INVITATION, "status": "a word of tomorrow"}, ClerkInvitationPayload)
    assert to_invitation(wire).status == "a word of tomorrow"


@pytest.mark.parametrize("name", ["first_name", "last_name", "username", "image_url"])
def test_an_empty_text_and_null_and_nothing_are_the_same(name: str) -> None:
    without = {key: value for key, value in USER.items() if key != name}
    assert user(**{name: ""}) == user(**{name: None}) == to_user(decode_as(without, ClerkUserPayload)).entity


@pytest.mark.parametrize(
    "name",
    ["external_id", "banned", "public_metadata", "email_addresses", "last_active_at", "last_sign_in_at", "created_at"],
)
def test_null_is_accepted_for_optional_fields(name: str) -> None:
    user(**{name: None})


def test_the_accept_link_of_an_invitation_is_not_kept() -> None:
    invitation = to_invitation(decode_as(INVITATION, ClerkInvitationPayload))
    assert "secret" not in repr(invitation)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (None, None),
        ({"first_name": "Dana", "last_name": "Whitfield", "identifier": "d@example.com"}, "Dana Whitfield"),
        ({"first_name": None, "last_name": None, "identifier": "d@example.com"}, "d@example.com"),
        ({}, None),
    ],
)
def test_the_inviter_is_a_name_or_an_address(by: Any, expected: str | None) -> None:
    wire = decode_as({**INVITATION, "public_inviter_data": by}, ClerkInvitationPayload)
    assert to_invitation(wire).inviter == expected


def test_one_bad_row_does_not_fail_its_page() -> None:
    good, bad = parse_rows(
        ClerkInvitationPayload, [msgspec.Raw(json.dumps(it).encode()) for it in (INVITATION, {"id": 3})]
    )
    assert [it.id for it in good] == ["orginv_1"]
    assert len(bad) == 1


@pytest.mark.parametrize("at", [10**30, -1, 1.5e300, "yesterday", True, [], 1_764_440_000_000_000, 7_258_118_400_000])
@pytest.mark.parametrize("name", ["created_at", "last_active_at", "last_sign_in_at"])
def test_an_invalid_time_is_unknown(name: str, at: Any) -> None:
    field = "joined_at" if name == "created_at" else name
    assert not getattr(user(**{name: at}), field)


def test_a_time_with_a_fraction_is_a_time() -> None:
    assert user(created_at=1_780_000_000_000.5).joined_at == 1_780_000_000_000


@pytest.mark.parametrize("metadata", [[], ["a"], "text", 5, True, None])
def test_metadata_other_than_objects_count_as_empty(metadata: Any) -> None:
    assert bytes(user(public_metadata=metadata).public_metadata) == b"{}"


def test_metadata_are_accepted_up_to_the_maximum_nesting() -> None:
    nested: Any = {}
    for _ in range(MAX_NESTING - 2):
        nested = {"a": nested}
    assert msgspec.json.decode(user(public_metadata=nested).public_metadata) == nested
    with pytest.raises(UnreadableDataError, match="levels deep"):
        user(public_metadata={"a": {"b": {"c": nested}}})


@pytest.mark.parametrize("text", ["Ma\ud83dya", "Ma\0ya", "\udc00\ud800"])
def test_nuls_and_unpaired_surrogates_are_replaced(text: str) -> None:
    expected = text.replace("\0", "\ufffd").replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd")
    expected = expected.replace("\ud800", "\ufffd")
    assert user(first_name=text).first_name == expected
    assert expected in bytes(user(public_metadata={"a": text}).public_metadata).decode().encode().decode(
        "unicode_escape"
    )


def test_a_whole_pair_and_what_only_looks_like_an_escape_stay() -> None:
    assert user(first_name="Maya \U0001f600 \\u0000 \\ud800").first_name == "Maya \U0001f600 \\u0000 \\ud800"


@pytest.mark.parametrize("bad", [None, 5, {}, {"id": "idn_1"}, {"id": "idn_1", "email_address": "x" * 400}])
def test_an_address_that_cannot_be_read_is_left_out_and_the_primary_one_is_needed(bad: Any) -> None:
    primary = USER["email_addresses"][1]
    assert user(email_addresses=[bad, primary]).email == "maya@example.com"
    with pytest.raises(UnreadableDataError):
        user(email_addresses=[USER["email_addresses"][0], bad])


def test_a_long_name_is_cut_and_a_long_address_of_a_picture_left_out() -> None:
    long = user(first_name="x" * 5_000, image_url="https://example.com/" + "x" * 5_000)
    assert (len(long.first_name or ""), long.image_url) == (MAX_NAME_LENGTH, None)


@pytest.mark.parametrize(
    "events",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"type":"user.updated"}',
        b'{"type":5,"data":{}}',
        b'{"data":{}}',
        b'{"type":"user.\\u0000updated","data":{}}',
        b'{"type":"user.updated","data":{},"instance_id":"\\u0000"}',
        b"\xff\xfe",
        b'{"type":"\xff","data":{}}',
        body("user.updated", None),
        body("user.updated", []),
        body("user.updated", {}),
        body("user.updated", {**USER, "id": ""}),
        body("user.updated", {**USER, "updated_at": None}),
        body("user.updated", {**USER, "updated_at": "yesterday"}),
        body("user.updated", {**USER, "updated_at": -1}),
        body("user.updated", {**USER, "updated_at": 10**30}),
        body("user.updated", {**USER, "first_name": 5}),
        body("user.updated", {**USER, "email_addresses": [None]}),
        body("user.updated", USER).replace(b'"admin"', b"1e999"),
        body("user.updated", USER).replace(b'"admin"', b"[" * 50_000 + b"]" * 50_000),
        body("user.updated", USER).replace(b'"admin"', b"[" * 900 + b"1e999" + b"]" * 900),
        body("organization.updated", {**ORGANIZATION, "name": None}),
        body("organizationMembership.created", {**MEMBERSHIP, "public_user_data": {"user_id": None}}),
        body("organizationMembership.created", {**MEMBERSHIP, "public_user_data": None}),
        body("organizationMembership.created", {**MEMBERSHIP, "organization": None}),
        body("organizationInvitation.created", {}),
        body("session.ended", {"id": None}),
    ],
    ids=lambda events: events[:40].decode("utf-8", "replace") + f" ({len(events)})",
)
def test_invalid_events_are_unreadable(events: bytes) -> None:
    with pytest.raises(UnreadableDataError):
        parse_webhook(events)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["", "user_1", "\0", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a piece of JSON."""
    if isinstance(value, dict):
        inner = [place for key, it in value.items() for place in places(it, (*path, key))]
    elif isinstance(value, list):
        inner = [place for key, it in enumerate(value) for place in places(it, (*path, key))]
    else:
        inner = []
    return [path, *inner]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with something else in one place; `...` takes it away."""
    if not path:
        return new
    copy = value.copy()
    changed = put(copy[path[0]], path[1:], new)
    if changed is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed
    return copy


@given(data=st.data(), type_=st.sampled_from(sorted(DATA)))
def test_any_invalid_value_is_parsed_or_unreadable(data: st.DataObject, type_: str) -> None:
    event: Any = {"type": type_, "instance_id": "ins_1", "data": DATA[type_]}
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(event)[1:]))
        event = put(event, place, data.draw(values | st.just(...)))
    try:
        events = parse_webhook(json.dumps(event).encode("utf-8", "surrogatepass"))
    except UnreadableDataError:
        return
    assert all(isinstance(it, WebhookEvent) for it in events)


@given(data=st.data(), type_=st.sampled_from(sorted(DATA)))
def test_any_broken_bytes_are_parsed_or_unreadable(data: st.DataObject, type_: str) -> None:
    raw = bytearray(body(type_, DATA[type_]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        assert all(isinstance(it, WebhookEvent) for it in parse_webhook(bytes(raw)))
    except UnreadableDataError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_an_envelope_or_unreadable(raw: bytes) -> None:
    try:
        assert parse_envelope(raw).type is not None
    except UnreadableDataError:
        return


def test_every_example_of_clerks_is_parsed() -> None:
    """What we keep is said in our words; the rest is said to be none of ours; none of them is unreadable."""
    listed = json.loads(clerk_file("webhook-examples.json").read_text())
    examples = {type_: example for type_, example in listed.items() if example is not None}
    assert DATA.keys() <= listed.keys()
    for type_, example in examples.items():
        events = parse_webhook(json.dumps(example).encode())
        is_for_us = type_ in DATA or type_.startswith(("role.", "permission."))
        assert any(isinstance(it, IrrelevantEvent) for it in events) != is_for_us, type_
