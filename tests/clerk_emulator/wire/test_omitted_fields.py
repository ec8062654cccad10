"""Omitting fields in responses, webhooks and tokens."""

import json
from typing import Any

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.state.settings import Settings
from clerk_emulator.wire.omitted_fields import remove_omitted, remove_omitted_claims, remove_omitted_headers
from tests.clerk_emulator.clients import Backend, Json, Receiver
from tests.clerk_emulator.frontend_api.test_handshake import decode, do_handshake
from tests.clerk_emulator.specification import load, schema_errors

pytestmark = pytest.mark.anyio
ORGANIZATION = {"object": "organization", "id": "org_1", "image_url": "", "public_metadata": {"object": "user"}}


def settings(*omitted: str) -> Settings:
    """Return settings that omit some names."""
    found = Settings()
    found.change({"omitted": list(omitted)})
    return found


def test_a_field_of_a_kind_is_omitted_everywhere() -> None:
    member = {"object": "organization_membership", "role_name": "Admin", "organization": ORGANIZATION}
    left = remove_omitted(settings("organization.image_url"), {"data": [member], "total_count": 1})
    assert left["data"][0]["organization"] == {name: ORGANIZATION[name] for name in ("object", "id", "public_metadata")}
    assert left["data"][0]["role_name"] == "Admin"


def test_an_embedded_organization_of_a_webhook_can_omit_more() -> None:
    gone, member = settings("embedded_organization.*"), {"organization": ORGANIZATION}
    assert remove_omitted(gone, {"object": "event", "data": ORGANIZATION})["data"] == ORGANIZATION
    left = remove_omitted(gone, {"object": "event", "data": member})["data"]
    assert "public_metadata" not in left["organization"]
    assert remove_omitted(gone, {"data": [member]})["data"] == [member], "in a webhook only"


def test_metadata_is_never_omitted() -> None:
    user = {"object": "user", "public_metadata": {"object": "user", "image_url": "x"}, "image_url": "x"}
    left = remove_omitted(settings("*"), user)
    assert left == {"object": "user", "public_metadata": {"object": "user", "image_url": "x"}}


def test_a_verification_is_null_and_a_true_deprovisioned_stays() -> None:
    address = {"object": "email_address", "id": "idn_1", "verification": {"status": "verified"}}
    assert remove_omitted(settings("*"), address) == {"object": "email_address", "id": "idn_1", "verification": None}
    for value, left in ((True, {"object": "user", "deprovisioned": True}), (False, {"object": "user"})):
        assert remove_omitted(settings("*"), {"object": "user", "deprovisioned": value}) == left


def test_nothing_is_omitted_by_default() -> None:
    assert remove_omitted(settings(), ORGANIZATION) is ORGANIZATION
    assert remove_omitted_headers(settings(), {"retry-after": "1"}) == {"retry-after": "1"}
    assert remove_omitted_claims(settings("user.*"), {"azp": "a"}) == {"azp": "a"}


@pytest.mark.parametrize("invalid", [["user.id"], ["users.*"], ["user"], [""], [1], [["*"]]])
def test_an_unknown_name_is_rejected(invalid: list[Any]) -> None:
    with pytest.raises(ValueError, match="omitted: unknown"):
        Settings().change({"omitted": invalid})


def test_the_minimal_profile_sets_defaults_that_can_be_overridden() -> None:
    found = Settings()
    found.change({"profile": "minimal", "webhook_loss_percent": 0})
    assert (found.omitted, found.webhook_delay_seconds, found.webhook_loss_percent) == (["*"], 60, 0)
    found.omitted.append("deleted.id")
    found.change({"profile": "default"})
    assert found == Settings()
    found.change({"profile": "minimal"})
    assert found.omitted == ["*"], "a profile stays as it is, whatever is done to settings"


@pytest.mark.parametrize("invalid", [{"webhook_loss_percent": 101}, {"webhook_delay_seconds": -1}, {"profile": "x"}])
def test_invalid_settings_are_rejected(invalid: Json) -> None:
    with pytest.raises(ValueError, match=r"webhook_loss_percent|profile"):
        Settings().change(invalid)


async def test_minimal_responses_match_the_specification(emulator: Emulator, backend: Backend) -> None:
    document: Any = load("bapi-2026-05-12.yml")
    emulator.state.settings.change({"profile": "minimal"})
    firm, admin = await backend.firm()
    invitation = await backend.invite(firm)
    members = await backend("GET", f"/organizations/{firm['id']}/memberships")
    schemas = document["components"]["schemas"]
    for name, answer in (("Organization", firm), ("User", admin), ("OrganizationInvitation", invitation)):
        assert not schema_errors(document, schemas[name], answer)
    (member,) = members["data"]
    assert set(member["public_user_data"]) == {"user_id", "first_name", "last_name", "profile_image_url", "image_url",
                                               "has_image"}  # fmt: skip
    assert not schema_errors(document, schemas["OrganizationMembership"], member)
    assert not schema_errors(document, schemas["EmailAddress"], admin["email_addresses"][0])
    assert {"image_url", "unsafe_metadata"} & set(admin) == set()
    assert admin["email_addresses"][0]["verification"] is None
    assert {"status", "organization_id"} <= set(invitation)
    refusal = await backend.raw("GET", "/users/user_none")
    assert "x-clerk-trace-id" not in refusal.headers
    assert set(refusal.json()) == {"errors"}
    assert set(refusal.json()["errors"][0]) == {"message", "long_message", "code"}


async def test_a_minimal_429_has_no_retry_after(emulator: Emulator, backend: Backend) -> None:
    emulator.state.settings.change({"rate_limits": "development"})
    answers = [await backend.raw("GET", "/users/count") for _ in range(101)]
    assert answers[-1].headers["retry-after"] == "10"
    emulator.state.settings.change({"profile": "minimal"})
    error = await backend.raw("GET", "/users/count")
    assert (error.status_code, "retry-after" in error.headers) == (429, False)


async def test_a_minimal_token_has_only_subject_and_expiry(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    _, admin = await backend.firm()
    await browser.post("/sign-in", data={"user_id": admin["id"]})
    emulator.state.settings.change({"profile": "minimal", "azp_without_origin": True})
    claims = decode(emulator, (await do_handshake(browser, emulator))["__session"])
    assert set(claims) == {"exp", "iat", "iss", "jti", "nbf", "sid", "sub", "v"}


async def test_a_minimal_webhook_has_neutral_headers_and_fewer_fields(
    emulator: Emulator, backend: Backend, receiver: Receiver
) -> None:
    emulator.state.settings.change({"profile": "minimal", "webhook_delay_seconds": 0, "webhook_loss_percent": 0})
    firm, _ = await backend.firm()
    await backend("DELETE", f"/organizations/{firm['id']}")
    await emulator.webhooks.drain()
    headers, body = receiver.got[0]
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= set(headers)
    assert not [name for name in headers if name.startswith("svix-")]
    assert set(json.loads(body)) == {"data", "instance_id", "object", "timestamp", "type"}
    assert receiver.data("organization.deleted") == {"object": "organization", "id": firm["id"], "deleted": True}
    assert "public_metadata" not in receiver.data("organizationMembership.created")["organization"]
