"""The payloads of "Send example"."""

from typing import Any

import pytest

from clerk_emulator.wire.example_payloads import INSTANCE_ID, example_payload
from clerk_emulator.wire.webhook_payloads import EVENT_TYPES
from tests.clerk_emulator.specification import load, schema_errors


@pytest.mark.parametrize("type_", EVENT_TYPES)
def test_an_example_is_as_specified_and_of_the_same_foreign_instance(type_: str) -> None:
    document: Any = load("webhooks-2025-04-15.yml")
    schema = document["x-webhooks"][type_]["post"]["requestBody"]["content"]["application/json"]["schema"]
    sent = example_payload(type_)
    assert not schema_errors(document, schema, sent)
    assert (sent["type"], sent["instance_id"], sent["object"]) == (type_, INSTANCE_ID, "event")
    assert sent == example_payload(type_), "always the same"


@pytest.mark.parametrize(
    "type_", ["organizationInvitation.accepted", "organizationInvitation.revoked", "session.ended"]
)
def test_an_example_matches_its_event(type_: str) -> None:
    assert example_payload(type_)["data"]["status"] == type_.partition(".")[2]


def test_there_is_no_example_of_an_unknown_event() -> None:
    with pytest.raises(KeyError):
        example_payload("dance.created")
