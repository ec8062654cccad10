"""What a delivery said is readable, and opens no door."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.webhooks.views import REDACTED, redact_payload

TICKET = "https://accounts.example/v1/tickets/accept?ticket=eyJhbGciOiJSUzI1NiJ9.e30.x"


def said(data: Any, type: str = "organizationInvitation.created") -> str:
    return redact_payload(type, json.dumps({"type": type, "data": data}))


def test_it_is_indented_and_what_is_no_secret_stays() -> None:
    text = said({"id": "user_1", "first_name": "Maya", "image_url": "https://img.example/1", "banned": False})
    assert text.splitlines()[0] == "{"
    assert '    "first_name": "Maya"' in text
    assert "https://img.example/1" in text
    assert REDACTED not in text


@pytest.mark.parametrize(
    "data",
    [
        {"url": "https://app.example/join?x=S3CRET"},
        {"deep": [{"redirect": TICKET.replace("eyJ", "S3CRET")}]},
        {"anything": "https://app.example/?__clerk_ticket=S3CRET"},
        {"password": "S3CRET"},
        {"otp_code": "S3CRET"},
        {"backup_codes": ["S3CRET"]},
        {"key": "sk_live_S3CRET"},
        {"note": "the secret is whsec_S3CRET"},
        {"session_token": "S3CRET"},
        {"accessToken": "S3CRET"},
        {"private_metadata": {"apiKey": "S3CRET", "clientSecret": "S3CRET"}},
        {"secret": {"value": "S3CRET"}},
        {"tokens": [{"at": 1, "value": "S3CRET"}]},
        {"https://app.example/?__clerk_ticket=S3CRET": 1},
    ],
)
def test_links_codes_and_tokens_are_hidden(data: Any) -> None:
    text = said(data)
    assert "S3CRET" not in text
    assert REDACTED in text


@pytest.mark.parametrize("type", ["email.created", "sms.created"])
def test_the_text_of_a_message_is_hidden_since_it_may_hold_a_code(type: str) -> None:
    text = said({"body": "424242 is your code", "message": "424242", "data": {"otp_code": "424242"}, "id": "m_1"}, type)
    assert "424242" not in text
    assert "m_1" in text


def test_what_is_no_json_is_not_shown_since_nobody_knows_what_in_it_is_a_secret() -> None:
    for body in ("not json whsec_S3CRET", '{"otp_code": "S3CRET", "of": "\\ud800"', "see /?__clerk_ticket=S3CRET"):
        assert "S3CRET" not in redact_payload("user.created", body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda it: st.lists(it) | st.dictionaries(st.text(), it)
    )
)
def test_whatever_was_said_can_be_shown(data: Any) -> None:
    body = json.dumps(data)
    assert isinstance(redact_payload("user.updated", body), str)
