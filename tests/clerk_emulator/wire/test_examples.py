"""The payloads of "Send example"."""

from typing import Any

import pytest

from clerk_emulator.wire.events import TYPES
from clerk_emulator.wire.examples import INSTANCE_ID, example
from tests.clerk_emulator.specification import faults, load


@pytest.mark.parametrize("type_", TYPES)
def test_an_example_is_as_specified_and_of_the_same_foreign_instance(type_: str) -> None:
    document: Any = load("webhooks-2025-04-15.yml")
    schema = document["x-webhooks"][type_]["post"]["requestBody"]["content"]["application/json"]["schema"]
    sent = example(type_)
    assert not faults(document, schema, sent)
    assert (sent["type"], sent["instance_id"], sent["object"]) == (type_, INSTANCE_ID, "event")
    assert sent == example(type_), "always the same"


@pytest.mark.parametrize(
    "type_", ["organizationInvitation.accepted", "organizationInvitation.revoked", "session.ended"]
)
def test_an_example_says_what_happened(type_: str) -> None:
    assert example(type_)["data"]["status"] == type_.partition(".")[2]


def test_there_is_no_example_of_an_unknown_event() -> None:
    with pytest.raises(KeyError):
        example("dance.created")
