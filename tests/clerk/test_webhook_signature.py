"""Webhook signatures: only signed deliveries are accepted, and anything else raises one of two errors."""

import base64
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.webhook_signature import (
    TIMESTAMP_TOLERANCE,
    MalformedWebhookError,
    WebhookSignatureError,
    WebhookVerifier,
)
from instep.core.clock import SECOND
from tests.support.svix import OTHER, SECRET, signature, signed

NOW = 1_795_219_200_000
BODY = json.dumps({"type": "user.updated", "instance_id": "ins_1", "data": {"name": "Zoë"}}).encode()


def verify(
    headers: Mapping[str, str], body: bytes = BODY, *, now: int = NOW, secrets: tuple[str, ...] = (SECRET,)
) -> str:
    return WebhookVerifier(secrets).open(headers, body, now=now).id


def test_a_signed_delivery_is_returned_unchanged() -> None:
    delivery = WebhookVerifier([SECRET]).open(signed(BODY, at=NOW, id="msg_7"), BODY, now=NOW + 3)
    assert (delivery.id, delivery.type, delivery.instance_id) == ("msg_7", "user.updated", "ins_1")
    assert (delivery.body, delivery.received_at) == (BODY, NOW + 3)


def test_the_neutral_names_of_the_headers_are_read_too() -> None:
    assert verify(signed(BODY, at=NOW, id="msg_8", prefix="webhook")) == "msg_8"


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
@pytest.mark.parametrize("value", [None, ""])
def test_each_of_the_three_headers_is_required(name: str, value: str | None) -> None:
    headers = {key: it for key, it in (signed(BODY, at=NOW) | {name: value}).items() if it is not None}
    with pytest.raises(MalformedWebhookError, match=name):
        verify(headers)


@pytest.mark.parametrize(
    "timestamp", ["yesterday", "1.5e9", "-5", "+5", " 5", "1795219200000000", "٣", "0x10", "1_000", "NaN"]
)
def test_an_invalid_timestamp_is_malformed(timestamp: str) -> None:
    with pytest.raises(MalformedWebhookError, match="svix-timestamp"):
        verify(signed(BODY, at=NOW) | {"svix-timestamp": timestamp})


@pytest.mark.parametrize("off", [-TIMESTAMP_TOLERANCE - SECOND, TIMESTAMP_TOLERANCE + SECOND, -NOW])
def test_a_timestamp_too_far_off_is_stale(off: int) -> None:
    with pytest.raises(WebhookSignatureError) as refused:
        verify(signed(BODY, at=NOW + off))
    assert refused.value.code == "stale"


@pytest.mark.parametrize("off", [-TIMESTAMP_TOLERANCE, TIMESTAMP_TOLERANCE])
def test_five_minutes_off_are_accepted(off: int) -> None:
    assert verify(signed(BODY, at=NOW + off, id="msg_9")) == "msg_9"


def test_both_secrets_are_accepted_during_a_rotation_and_only_the_new_one_afterwards() -> None:
    old, new = signed(BODY, at=NOW, secret=OTHER), signed(BODY, at=NOW, secret=SECRET)
    assert verify(old, secrets=(SECRET, OTHER)) == old["svix-id"]
    assert verify(new, secrets=(SECRET, OTHER)) == new["svix-id"]
    with pytest.raises(WebhookSignatureError):
        verify(old, secrets=(SECRET,))


def test_of_several_signatures_one_good_one_is_enough() -> None:
    headers = signed(BODY, at=NOW, id="msg_1")
    good = headers["svix-signature"]
    for sent in (f"{signature('msg_1', 1, BODY)} {good}", f"v1a,AAAA {good}", f"{good} v2,AAAA", f"  {good} garbage"):
        assert verify(headers | {"svix-signature": sent}) == "msg_1"


@pytest.mark.parametrize(
    "forge",
    [
        lambda headers: headers | {"svix-id": "msg_other"},
        lambda headers: headers | {"svix-timestamp": str(int(headers["svix-timestamp"]) + 1)},
        lambda headers: headers | {"svix-signature": headers["svix-signature"].removeprefix("v1,")},
        lambda headers: headers | {"svix-signature": headers["svix-signature"].replace("v1,", "v2,")},
        lambda headers: headers | {"svix-signature": headers["svix-signature"][:-1]},
        lambda headers: headers | {"svix-signature": headers["svix-signature"].lower()},
        lambda headers: headers | {"svix-signature": "v1,"},
        lambda headers: headers | {"svix-signature": "v1"},
        lambda headers: headers | {"svix-signature": " "},
        lambda headers: headers | {"svix-signature": signature("msg_1", headers["svix-timestamp"], BODY, secret=OTHER)},
        lambda headers: headers | {"svix-signature": signature("msg_1", headers["svix-timestamp"], BODY + b" ")},
    ],
)
def test_a_modified_delivery_is_refused(forge: object) -> None:
    assert callable(forge)
    with pytest.raises(WebhookSignatureError):
        verify(forge(signed(BODY, at=NOW, id="msg_1")))


def test_a_changed_body_is_refused_even_by_a_space() -> None:
    with pytest.raises(WebhookSignatureError):
        verify(signed(BODY, at=NOW), BODY + b" ")


def test_without_a_secret_nothing_is_accepted() -> None:
    with pytest.raises(WebhookSignatureError):
        verify(signed(BODY, at=NOW), secrets=())


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b"{", b'{"type":5,"data":1}', b'{"type":"user.updated"}', b'{"data":{}}']
)
def test_a_signed_body_that_is_no_event_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedWebhookError):
        verify(signed(body, at=NOW), body)


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"type":"user.updated","data":{"name":"\xff"}}'])
def test_a_body_that_is_not_utf_8_is_malformed_even_if_signed(body: bytes) -> None:
    with pytest.raises(MalformedWebhookError):
        verify(signed(body, at=NOW), body)


@pytest.mark.parametrize("id", ["msg\0", "msg_\n", "msg_é", "m" * 3_000, "\ud800"])
def test_an_id_that_no_header_and_no_table_can_hold_is_malformed(id: str) -> None:
    with pytest.raises(MalformedWebhookError, match="svix-id"):
        verify(signed(BODY, at=NOW, id="msg_1") | {"svix-id": id})


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_*", "whsec_AAA", "whsec_é", "https://example.com/not-a-secret"]
)
def test_an_invalid_secret_is_rejected_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ followed by base64") as refused:
        WebhookVerifier([secret])
    assert secret in ("", "whsec_") or secret not in str(refused.value)


def test_the_prefix_of_a_secret_is_optional() -> None:
    assert verify(signed(BODY, at=NOW, id="msg_2"), secrets=(SECRET.removeprefix("whsec_"),)) == "msg_2"


garbage = (
    st.text()
    | st.sampled_from(["v1,", "v1, v1,", str(NOW // 1_000), "\0", "\ud800", "é"])
    | st.binary().map(lambda raw: "v1," + base64.b64encode(raw).decode())
)


@given(
    headers=st.dictionaries(
        st.sampled_from(["svix-id", "svix-timestamp", "svix-signature", "webhook-id", "webhook-signature"]), garbage
    ),
    is_on_time=st.booleans(),
    body=st.binary() | st.just(BODY),
    secrets=st.sampled_from([(), (SECRET,), (SECRET, OTHER)]),
)
def test_invalid_deliveries_raise_one_of_two_errors(
    headers: dict[str, str], is_on_time: bool, body: bytes, secrets: tuple[str, ...]
) -> None:
    if is_on_time:
        headers = headers | {"svix-timestamp": str(NOW // 1_000)}
    with pytest.raises((WebhookSignatureError, MalformedWebhookError)):
        verify(headers, body, secrets=secrets)


@given(body=st.binary(), id=st.text(min_size=1).filter(lambda id: id.isascii() and id.isprintable()))
def test_anything_signed_is_a_delivery_or_malformed(body: bytes, id: str) -> None:
    try:
        assert verify(signed(body, at=NOW, id=id), body) == id
    except MalformedWebhookError:
        return
