"""Frontend API: sign-in attempts."""

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock
from tests.clerk_emulator.clients import Backend, Receiver
from tests.clerk_emulator.frontend_api.browser_script import BrowserScript, code_for

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"


@pytest.fixture
def script(browser: httpx2.AsyncClient) -> BrowserScript:
    """Clerk's script in a browser."""
    return BrowserScript(browser)


async def test_sign_in_with_a_password_in_one_request(
    script: BrowserScript, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    _, ada = await backend.firm()
    await backend("PATCH", f"/users/{ada['id']}", {"password": PASSWORD})
    await emulator.webhooks.drain()
    receiver.got.clear()
    done = await script.sign_in("ada@example.com", PASSWORD)
    client = await script.client()
    assert (client["sign_in"], client["last_active_session_id"]) == (None, done["created_session_id"])
    session = client["sessions"][0]
    assert (session["user"]["id"], session["status"]) == (ada["id"], "active")
    assert session["last_active_token"]["jwt"]
    assert "private_metadata" not in str(client)
    await emulator.webhooks.drain()
    assert receiver.types == ["session.created"]


async def test_sign_in_step_by_step(script: BrowserScript, backend: Backend) -> None:
    await backend.user(password=PASSWORD)
    begun = await script("POST", "/client/sign_ins", identifier="Ada@Example.com ")
    assert begun["status"] == "needs_first_factor"
    factors = [factor["strategy"] for factor in begun["supported_first_factors"]]
    assert factors == ["password", "email_code", "reset_password_email_code"]
    path = f"/client/sign_ins/{begun['id']}"
    assert (await script.client())["sign_in"]["id"] == begun["id"]
    assert await script.no("POST", f"{path}/attempt_first_factor", strategy="password", password="wrong") == (
        422,
        "form_password_incorrect",
    )
    done = await script("POST", f"{path}/attempt_first_factor", strategy="password", password=PASSWORD)
    assert done["first_factor_verification"]["strategy"] == "password"
    assert (await script("GET", path))["status"] == "complete"


async def test_an_unknown_identifier_is_rejected(script: BrowserScript, backend: Backend) -> None:
    missing = await script.raw("POST", "/client/sign_ins", identifier="eve@example.com")
    assert missing.json()["errors"][0]["code"] == "form_identifier_not_found"
    assert missing.json()["errors"][0]["meta"] == {"param_name": "identifier"}
    assert (await script("POST", "/client/sign_ins"))["status"] == "needs_identifier"
    assert await script.no("POST", "/client/sign_ins", strategy="password") == (422, "form_param_missing")
    missing = await script.raw("POST", "/client/sign_ins", strategy="oauth_google")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (400, "emulator_not_implemented")


async def test_sign_in_with_an_email_code(
    script: BrowserScript, backend: Backend, emulator: Emulator, clock: Clock
) -> None:
    await backend.user()
    begun = await script("POST", "/client/sign_ins", identifier="ada@example.com")
    assert [factor["strategy"] for factor in begun["supported_first_factors"]] == ["email_code"]
    path = f"/client/sign_ins/{begun['id']}"
    early = await script.no("POST", f"{path}/attempt_first_factor", strategy="email_code", code="000000")
    assert early == (400, "verification_missing")
    await script("POST", f"{path}/prepare_first_factor", strategy="email_code")
    clock.advance(minutes=11)
    late = code_for(emulator, "ada@example.com")
    assert await script.no("POST", f"{path}/attempt_first_factor", strategy="email_code", code=late) == (
        400,
        "verification_expired",
    )
    assert (await script("GET", path))["first_factor_verification"]["status"] == "expired"
    await script("POST", f"{path}/prepare_first_factor", strategy="email_code")
    right = code_for(emulator, "ada@example.com")
    invalid = "000000" if right != "000000" else "111111"
    for expected in [(422, "form_code_incorrect")] * 3 + [(400, "verification_failed")]:
        got = await script.no("POST", f"{path}/attempt_first_factor", strategy="email_code", code=invalid)
        assert got == expected
    await script("POST", f"{path}/prepare_first_factor", strategy="email_code")
    right = code_for(emulator, "ada@example.com")
    done = await script("POST", f"{path}/attempt_first_factor", strategy="email_code", code=right)
    assert (done["status"], done["first_factor_verification"]["status"]) == ("complete", "verified")


async def test_a_forgotten_password_is_replaced(script: BrowserScript, backend: Backend, emulator: Emulator) -> None:
    ada = await backend.user(password=PASSWORD)
    await script("POST", "/client/sign_ins", identifier="ada@example.com", strategy="reset_password_email_code")
    path = f"/client/sign_ins/{(await script.client())['sign_in']['id']}"
    early = await script.no("POST", f"{path}/reset_password", password="another one")
    assert early == (400, "verification_strategy_invalid")
    fields = {"strategy": "reset_password_email_code", "code": code_for(emulator, "ada@example.com")}
    begun = await script("POST", f"{path}/attempt_first_factor", **fields)
    assert begun["status"] == "needs_new_password"
    short = await script.no("POST", f"{path}/reset_password", password="short")
    assert short == (422, "form_password_length_too_short")
    done = await script("POST", f"{path}/reset_password", password="another one", sign_out_of_other_sessions="true")
    assert done["status"] == "complete"
    verified = await backend("POST", f"/users/{ada['id']}/verify_password", {"password": "another one"})
    assert verified["verified"]


async def test_a_user_with_a_second_factor_has_to_verify_it(
    script: BrowserScript, backend: Backend, emulator: Emulator, clock: Clock
) -> None:
    ada = await backend.user(password=PASSWORD)
    phone = {"phone_number": "+15555550123", "verified": True, "reserved_for_second_factor": True}
    await backend("POST", "/phone_numbers", {"user_id": ada["id"], **phone})
    begun = await script("POST", "/client/sign_ins", identifier="ada@example.com", password=PASSWORD)
    assert begun["status"] == "needs_second_factor"
    assert (await script.client())["sessions"] == []
    path = f"/client/sign_ins/{begun['id']}"
    await script("POST", f"{path}/prepare_second_factor", strategy="phone_code")
    invalid = await script.no("POST", f"{path}/attempt_second_factor", strategy="phone_code", code="111111")
    assert invalid == (422, "form_code_incorrect")
    done = await script("POST", f"{path}/attempt_second_factor", strategy="phone_code", code="424242")
    assert done["status"] == "complete"
    clock.advance(minutes=3)
    session = (await script.client())["sessions"][0]
    assert session["factor_verification_age"] == [3, 3]
    assert (emulator.site.keyring.read(session["last_active_token"]["jwt"]) or {})["fva"] == [3, 3]


async def test_a_sign_in_token_signs_in_once(script: BrowserScript, backend: Backend) -> None:
    ada = await backend.user()
    token = (await backend("POST", "/sign_in_tokens", {"user_id": ada["id"]}))["token"]
    assert await script.no("POST", "/client/sign_ups", strategy="ticket", ticket=token) == (
        400,
        "sign_in_token_not_in_sign_in_code",
    )
    done = await script("POST", "/client/sign_ins", strategy="ticket", ticket=token)
    assert (done["status"], done["first_factor_verification"]["strategy"]) == ("complete", "ticket")
    await script("DELETE", "/client/sessions")
    again = await script.no("POST", "/client/sign_ins", strategy="ticket", ticket=token)
    assert again == (400, "sign_in_token_already_used_code")
    assert await script.no("POST", "/client/sign_ins", strategy="ticket", ticket="x") == (400, "ticket_invalid_code")


async def test_the_ticket_of_an_invitation_signs_a_user_in_and_is_accepted(
    script: BrowserScript, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    organization, _ = await backend.firm()
    invitation = await backend.invite(organization)
    ticket = invitation["url"].partition("ticket=")[2]
    nobody = await script.no("POST", "/client/sign_ins", strategy="ticket", ticket=ticket)
    assert nobody == (400, "organization_invitation_identification_not_exist")
    await backend.user("bo@example.com")
    await emulator.webhooks.drain()
    receiver.got.clear()
    await script("POST", "/client/sign_ins", strategy="ticket", ticket=ticket)
    session = (await script.client())["sessions"][0]
    assert session["last_active_organization_id"] == organization["id"]
    assert session["user"]["organization_memberships"][0]["organization"]["id"] == organization["id"]
    await emulator.webhooks.drain()
    assert receiver.types == [
        "organizationMembership.created",
        "organizationInvitation.accepted",
        "session.created",
    ]


async def test_one_session_per_browser_unless_multi_session(
    script: BrowserScript, backend: Backend, emulator: Emulator
) -> None:
    for name in ("ada", "bo"):
        await backend.user(f"{name}@example.com", password=PASSWORD)
    await script.sign_in("ada@example.com", PASSWORD)
    second = {"identifier": "bo@example.com", "password": PASSWORD}
    assert await script.no("POST", "/client/sign_ins", **second) == (400, "session_exists")
    emulator.state.settings.multi_session = True
    await script.sign_in("bo@example.com", PASSWORD)
    assert len((await script.client())["sessions"]) == 2
    assert await script.no("POST", "/client/sign_ins", **second) == (400, "identifier_already_signed_in")


async def test_a_rejected_sign_in_is_explained(script: BrowserScript, backend: Backend) -> None:
    ada = await backend.user(password=PASSWORD)
    fields = {"identifier": "ada@example.com", "password": PASSWORD}
    await backend("POST", f"/users/{ada['id']}/ban")
    assert await script.no("POST", "/client/sign_ins", **fields) == (403, "user_banned")
    await backend("POST", f"/users/{ada['id']}/unban")
    await backend("POST", f"/users/{ada['id']}/lock")
    assert await script.no("POST", "/client/sign_ins", **fields) == (403, "user_locked")


async def test_too_many_attempts_lock_the_user(
    script: BrowserScript, backend: Backend, emulator: Emulator, clock: Clock, receiver: Receiver
) -> None:
    await backend.user(password=PASSWORD)
    emulator.state.settings.lockout_attempts = 3
    invalid = {"identifier": "ada@example.com", "password": "wrong guess"}
    await script.no("POST", "/client/sign_ins", **invalid)
    await script.no("POST", "/client/sign_ins", **invalid)
    await script.sign_in("ada@example.com", PASSWORD)
    await script("DELETE", "/client/sessions")
    await emulator.webhooks.drain()
    receiver.got.clear()
    for _ in range(3):
        assert await script.no("POST", "/client/sign_ins", **invalid) == (422, "form_password_incorrect")
    assert await script.no("POST", "/client/sign_ins", **{**invalid, "password": PASSWORD}) == (403, "user_locked")
    await emulator.webhooks.drain()
    assert receiver.data("user.updated")["locked"] is True
    clock.advance(minutes=61)
    await script.sign_in("ada@example.com", PASSWORD)


async def test_a_compromised_password_is_rejected(
    script: BrowserScript, backend: Backend, browser: httpx2.AsyncClient, emulator: Emulator
) -> None:
    ada = await backend.user(password=PASSWORD)
    await backend("POST", f"/users/{ada['id']}/password/set_compromised", {})
    fields = {"identifier": "ada@example.com", "password": PASSWORD}
    assert await script.no("POST", "/client/sign_ins", **fields) == (422, "form_password_compromised")
    page = await browser.post("/sign-in", data={"email_address": "ada@example.com", "password": PASSWORD})
    assert "This password may be compromised." in page.text
    await script("POST", "/client/sign_ins", identifier="ada@example.com", strategy="reset_password_email_code")
    path = f"/client/sign_ins/{(await script.client())['sign_in']['id']}"
    code = code_for(emulator, "ada@example.com")
    await script("POST", f"{path}/attempt_first_factor", strategy="reset_password_email_code", code=code)
    await script("POST", f"{path}/reset_password", password="another one")
    await script("DELETE", "/client/sessions")
    await script.sign_in("ada@example.com", "another one")


async def test_an_attempt_belongs_to_its_browser_and_ends(
    script: BrowserScript, backend: Backend, emulator: Emulator, clock: Clock
) -> None:
    await backend.user(password=PASSWORD)
    begun = await script("POST", "/client/sign_ins", identifier="ada@example.com")
    path = f"/client/sign_ins/{begun['id']}"
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001") as other:
        stranger = BrowserScript(other)
        assert await stranger.no("GET", path) == (404, "resource_not_found")
        proof = {"strategy": "password", "password": PASSWORD}
        assert await stranger.no("POST", f"{path}/attempt_first_factor", **proof) == (404, "resource_not_found")
    clock.advance(hours=25)
    assert await script.no("GET", path) == (404, "resource_not_found")
    assert (await script.client())["sign_in"] is None
