"""Joining an organization by an email domain."""

from typing import Any

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Json, Receiver
from tests.clerk_emulator.frontend_api.browser_script import BrowserScript, code_for

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"


@pytest.fixture
async def firm(backend: Backend, emulator: Emulator) -> Json:
    """An organization whose administrator can sign in with a password."""
    modes = ["manual_invitation", "automatic_invitation", "automatic_suggestion"]
    emulator.state.settings.change({"organization_domains_enabled": True, "enrollment_modes": modes})
    organization, ada = await backend.firm()
    await backend("PATCH", f"/users/{ada['id']}", {"password": PASSWORD})
    return organization


async def give_domain(backend: Backend, firm: Json, mode: str, **more: Any) -> Json:
    """Create a domain of the organization."""
    body = {"name": "northwind.example", "enrollment_mode": mode, **more}
    created: Json = await backend("POST", f"/organizations/{firm['id']}/domains", body)
    return created


async def sign_up(script: BrowserScript, emulator: Emulator, address: str) -> None:
    """Sign a new user up."""
    fields = {"email_address": address, "password": PASSWORD, "strategy": "email_code"}
    begun = await script("POST", "/client/sign_ups", **fields)
    path = f"/client/sign_ups/{begun['id']}/attempt_verification"
    done = await script("POST", path, strategy="email_code", code=code_for(emulator, address))
    assert done["status"] == "complete"


def on_another_machine(emulator: Emulator) -> httpx2.AsyncClient:
    """Another browser."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001")


async def test_a_new_user_with_an_address_at_the_domain_is_invited(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, firm: Json, receiver: Receiver
) -> None:
    await give_domain(backend, firm, "automatic_invitation")
    script, mine = BrowserScript(browser), "/me/organization_invitations"
    await sign_up(script, emulator, "bo@northwind.example")
    (offered,) = (await script("GET", mine, status="pending"))["data"]
    assert offered["public_organization_data"]["id"] == firm["id"]
    listed = await backend("GET", f"/organizations/{firm['id']}/invitations")
    assert listed["total_count"] == 0, "Clerk leaves out what a domain made"
    domains = await backend("GET", f"/organizations/{firm['id']}/domains")
    assert domains["data"][0]["total_pending_invitations"] == 1
    await emulator.webhooks.drain()
    receiver.got.clear()
    await script("POST", f"{mine}/{offered['id']}/accept")
    await emulator.webhooks.drain()
    assert receiver.types == ["organizationMembership.created", "organizationInvitation.accepted"]
    await script("DELETE", "/client/sessions")
    await script.sign_in("bo@northwind.example", PASSWORD)
    assert (await script("GET", mine, status="pending"))["data"] == []


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_a_suggestion_becomes_a_request_that_is_accepted_or_rejected(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, firm: Json, is_accepted: bool
) -> None:
    await give_domain(backend, firm, "automatic_suggestion")
    script = BrowserScript(browser)
    await sign_up(script, emulator, "bo@northwind.example")
    (found,) = (await script("GET", "/me/organization_suggestions"))["data"]
    path = f"/me/organization_suggestions/{found['id']}/accept"
    assert (await script("POST", path))["status"] == "accepted"
    assert await script.no("POST", path) == (400, "organization_suggestion_already_accepted")
    async with on_another_machine(emulator) as other:
        admin = BrowserScript(other)
        await admin.sign_in("ada@example.com", PASSWORD)
        requests = f"/organizations/{firm['id']}/membership_requests"
        (asked,) = (await admin("GET", requests, status="pending"))["data"]
        assert asked["public_user_data"]["identifier"] == "bo@northwind.example"
        verdict = f"{requests}/{asked['id']}/{'accept' if is_accepted else 'reject'}"
        assert (await admin("POST", verdict))["status"] == ("accepted" if is_accepted else "revoked")
        assert await admin.no("POST", verdict) == (404, "resource_not_found")
    members = (await script("GET", "/me/organization_memberships", paginated="true"))["total_count"]
    assert members == int(is_accepted)


async def test_unverified_foreign_or_disabled_domains_invite_nobody(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, firm: Json
) -> None:
    await give_domain(backend, firm, "automatic_invitation", verified=False)
    script, mine = BrowserScript(browser), "/me/organization_invitations"
    await sign_up(script, emulator, "bo@northwind.example")
    assert (await script("GET", mine))["data"] == []
    domain = (await backend("GET", f"/organizations/{firm['id']}/domains"))["data"][0]
    await backend("PATCH", f"/organizations/{firm['id']}/domains/{domain['id']}", {"verified": True})
    await script("DELETE", "/client/sessions")
    await sign_up(script, emulator, "cy@northwind.example.org")
    assert (await script("GET", mine))["data"] == []
    await script("DELETE", "/client/sessions")
    emulator.state.settings.organization_domains_enabled = False
    await script.sign_in("bo@northwind.example", PASSWORD)
    assert (await script("GET", mine))["data"] == []
    emulator.state.settings.organization_domains_enabled = True
    await script("DELETE", "/client/sessions")
    await script.sign_in("bo@northwind.example", PASSWORD)
    assert len((await script("GET", mine))["data"]) == 1


async def test_pending_enrollment_ends_with_the_mode_or_the_organization(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, firm: Json
) -> None:
    domain = await give_domain(backend, firm, "automatic_suggestion")
    script = BrowserScript(browser)
    await sign_up(script, emulator, "bo@northwind.example")
    async with on_another_machine(emulator) as other:
        admin = BrowserScript(other)
        await admin.sign_in("ada@example.com", PASSWORD)
        path = f"/organizations/{firm['id']}/domains/{domain['id']}/update_enrollment_mode"
        await admin("POST", path, enrollment_mode="automatic_invitation", delete_pending="true")
        assert (await script("GET", "/me/organization_suggestions"))["data"] == []
        await script("DELETE", "/client/sessions")
        await script.sign_in("bo@northwind.example", PASSWORD)
        await admin("POST", path, enrollment_mode="automatic_suggestion", delete_pending="true")
    (taken_back,) = (await script("GET", "/me/organization_invitations"))["data"]
    assert taken_back["status"] == "revoked"
    await script("DELETE", "/client/sessions")
    await script.sign_in("bo@northwind.example", PASSWORD)
    kept = emulator.control.snapshot()
    assert len((await script("GET", "/me/organization_suggestions"))["data"]) == 1
    await backend("DELETE", f"/organizations/{firm['id']}")
    assert (await script("GET", "/me/organization_suggestions"))["data"] == []
    emulator.control.restore(kept)
    assert len((await script("GET", "/me/organization_suggestions"))["data"]) == 1
