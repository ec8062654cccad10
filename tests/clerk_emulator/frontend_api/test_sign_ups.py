"""Frontend API: sign-up attempts."""

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock
from tests.clerk_emulator.clients import Backend, Receiver
from tests.clerk_emulator.frontend_api.browser_script import BrowserScript, code_for

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"
CY = {"email_address": "cy@example.com", "password": PASSWORD, "first_name": "Cy", "last_name": "West"}


@pytest.fixture
def script(browser: httpx2.AsyncClient) -> BrowserScript:
    """Clerk's script in a browser."""
    return BrowserScript(browser)


async def test_sign_up_with_an_address_verified_by_a_code(
    script: BrowserScript, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    begun = await script("POST", "/client/sign_ups", **CY, unsafe_metadata='{"from": "page"}')
    assert begun["status"] == "missing_requirements"
    assert (begun["missing_fields"], begun["unverified_fields"]) == ([], ["email_address"])
    assert begun["verifications"]["email_address"] is None
    path = f"/client/sign_ups/{begun['id']}"
    assert (await script.client())["sign_up"]["id"] == begun["id"]
    assert await script.no("POST", f"{path}/attempt_verification", strategy="email_code", code="1") == (
        400,
        "verification_missing",
    )
    sent = await script("POST", f"{path}/prepare_verification", strategy="email_code")
    assert sent["verifications"]["email_address"]["next_action"] == "needs_attempt"
    code = code_for(emulator, "cy@example.com")
    invalid = "000000" if code != "000000" else "111111"
    assert await script.no("POST", f"{path}/attempt_verification", strategy="email_code", code=invalid) == (
        422,
        "form_code_incorrect",
    )
    done = await script("POST", f"{path}/attempt_verification", strategy="email_code", code=code)
    assert (done["status"], done["verifications"]["email_address"]["status"]) == ("complete", "verified")
    client = await script.client()
    assert (client["sign_up"], client["last_active_session_id"]) == (None, done["created_session_id"])
    user = await backend("GET", f"/users/{done['created_user_id']}")
    assert (user["first_name"], user["unsafe_metadata"], user["password_enabled"]) == ("Cy", {"from": "page"}, True)
    assert user["email_addresses"][0]["verification"]["strategy"] == "email_code"
    await emulator.webhooks.drain()
    assert receiver.types == ["user.created", "session.created"]
    assert PASSWORD not in str(client)


async def test_missing_fields_are_requested(script: BrowserScript, emulator: Emulator) -> None:
    begun = await script("POST", "/client/sign_ups", email_address="cy@example.com", strategy="email_code")
    assert begun["missing_fields"] == ["password"]
    path = f"/client/sign_ups/{begun['id']}"
    code = code_for(emulator, "cy@example.com")
    proved = await script("POST", f"{path}/attempt_verification", strategy="email_code", code=code)
    assert (proved["status"], proved["unverified_fields"]) == ("missing_requirements", [])
    assert await script.no("PATCH", path, password="short") == (422, "form_password_length_too_short")
    other = await script("PATCH", path, email_address="cy.west@example.com")
    assert other["unverified_fields"] == ["email_address"]
    await script("PATCH", path, password=PASSWORD, strategy="email_code")
    code = code_for(emulator, "cy.west@example.com")
    done = await script("POST", f"{path}/attempt_verification", strategy="email_code", code=code)
    assert done["status"] == "complete"
    assert (await script("GET", path))["created_user_id"] == done["created_user_id"]
    assert await script.no("PATCH", path, first_name="Di") == (403, "sign_up_cannot_be_updated")


async def test_codes_and_attempts_expire(script: BrowserScript, emulator: Emulator, clock: Clock) -> None:
    begun = await script("POST", "/client/sign_ups", **CY, strategy="email_code")
    path = f"/client/sign_ups/{begun['id']}"
    code = code_for(emulator, "cy@example.com")
    clock.advance(minutes=11)
    assert await script.no("POST", f"{path}/attempt_verification", strategy="email_code", code=code) == (
        400,
        "verification_expired",
    )
    assert (await script("GET", path))["verifications"]["email_address"]["next_action"] == "needs_prepare"
    clock.advance(hours=24)
    assert await script.no("GET", path) == (404, "resource_not_found")


async def test_an_invitation_to_an_organization_needs_no_code(
    script: BrowserScript, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    organization, _ = await backend.firm()
    invitation = await backend.invite(organization, public_metadata={"desk": 4})
    ticket = invitation["url"].partition("ticket=")[2]
    await emulator.webhooks.drain()
    receiver.got.clear()
    begun = await script("POST", "/client/sign_ups", strategy="ticket", ticket=ticket)
    assert (begun["email_address"], begun["missing_fields"]) == ("bo@example.com", ["password"])
    assert begun["verifications"]["email_address"]["status"] == "verified"
    done = await script("PATCH", f"/client/sign_ups/{begun['id']}", password=PASSWORD, first_name="Bo")
    assert done["status"] == "complete"
    session = (await script.client())["sessions"][0]
    assert session["last_active_organization_id"] == organization["id"]
    await emulator.webhooks.drain()
    assert receiver.types == [
        "user.created",
        "organizationMembership.created",
        "organizationInvitation.accepted",
        "session.created",
    ]
    assert receiver.data("organizationMembership.created")["public_metadata"] == {"desk": 4}
    await script("DELETE", "/client/sessions")
    again = await script.no("POST", "/client/sign_ups", strategy="ticket", ticket=ticket)
    assert again == (400, "organization_invitation_already_accepted")
    await script.sign_in("bo@example.com", PASSWORD)


async def test_an_invitation_to_the_application(script: BrowserScript, backend: Backend, clock: Clock) -> None:
    body = {"email_address": "cy@example.com", "public_metadata": {"plan": "x"}}
    invitation = await backend("POST", "/invitations", body)
    ticket = invitation["url"].partition("ticket=")[2]
    done = await script("POST", "/client/sign_ups", strategy="ticket", ticket=ticket, password=PASSWORD)
    user = await backend("GET", f"/users/{done['created_user_id']}")
    assert (user["public_metadata"], user["password_enabled"]) == ({"plan": "x"}, True)
    await script("DELETE", "/client/sessions")
    late = await backend("POST", "/invitations", {"email_address": "di@example.com", "expires_in_days": 1})
    clock.advance(days=2)
    ticket = late["url"].partition("ticket=")[2]
    assert await script.no("POST", "/client/sign_ups", strategy="ticket", ticket=ticket) == (400, "ticket_expired_code")


async def test_sign_up_mode_restricts_sign_up(script: BrowserScript, backend: Backend, emulator: Emulator) -> None:
    await backend.user("ada@example.com")
    taken = await script.no("POST", "/client/sign_ups", email_address="ada@example.com")
    assert taken == (422, "form_identifier_exists")
    invitation = await backend("POST", "/invitations", {"email_address": "cy@example.com"})
    ticket = invitation["url"].partition("ticket=")[2]
    for mode, code in (("restricted", "sign_up_mode_restricted"), ("waitlist", "sign_up_restricted_waitlist")):
        emulator.state.settings.sign_up_mode = mode
        assert (await script("GET", "/environment"))["user_settings"]["sign_up"]["mode"] == mode
        assert await script.no("POST", "/client/sign_ups", **CY) == (403, code)
    emulator.state.settings.allowlist = True
    begun = await script("POST", "/client/sign_ups", strategy="ticket", ticket=ticket)
    assert begun["email_address"] == "cy@example.com"
    emulator.state.settings.change({"sign_up_mode": "public", "block_email_subaddresses": True})
    outside = await script.no("POST", "/client/sign_ups", email_address="eve@example.com")
    assert outside == (403, "not_allowed_access")
    emulator.state.settings.allowlist = False
    part = await script.no("POST", "/client/sign_ups", email_address="eve+1@example.com")
    assert part == (403, "not_allowed_access")


async def test_an_invitation_of_an_existing_user_requires_sign_in(script: BrowserScript, backend: Backend) -> None:
    organization, _ = await backend.firm()
    joining = await backend.invite(organization)
    general = await backend("POST", "/invitations", {"email_address": "bo@example.com"})
    await backend.user("bo@example.com")
    codes = {"organization_invitation_identification_already_exists": joining, "invitation_account_exists": general}
    for code, invitation in codes.items():
        ticket = invitation["url"].partition("ticket=")[2]
        assert await script.no("POST", "/client/sign_ups", strategy="ticket", ticket=ticket) == (400, code)
    done = await script("POST", "/client/sign_ins", strategy="ticket", ticket=general["url"].partition("ticket=")[2])
    assert done["status"] == "complete"
    assert (await backend("GET", "/invitations", status="accepted"))[0]["id"] == general["id"]


async def test_a_signed_in_user_cannot_sign_up(script: BrowserScript, backend: Backend) -> None:
    await backend.user(password=PASSWORD)
    await script.sign_in("ada@example.com", PASSWORD)
    assert await script.no("POST", "/client/sign_ups", **CY) == (400, "session_exists")


async def test_required_sign_up_fields_are_a_setting(script: BrowserScript, emulator: Emulator) -> None:
    emulator.state.settings.change({"sign_up_requires": ["first_name"]})
    attributes = (await script("GET", "/environment"))["user_settings"]["attributes"]
    assert {name for name, found in attributes.items() if found["required"]} == {"email_address", "first_name"}
    begun = await script("POST", "/client/sign_ups", email_address="cy@example.com", strategy="email_code")
    assert (begun["missing_fields"], begun["optional_fields"]) == (["first_name"], ["password", "last_name"])
    path, code = f"/client/sign_ups/{begun['id']}", code_for(emulator, "cy@example.com")
    await script("POST", f"{path}/attempt_verification", strategy="email_code", code=code)
    assert (await script("PATCH", path, first_name="Cy"))["status"] == "complete"
    with pytest.raises(ValueError, match="may have password, first_name, last_name"):
        emulator.state.settings.change({"sign_up_requires": ["shoe_size"]})
