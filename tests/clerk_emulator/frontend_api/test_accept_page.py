"""The page that accepts invitations."""

from typing import Any

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Json, Receiver

pytestmark = pytest.mark.anyio


async def accept(browser: httpx2.AsyncClient, invitation: Json, **fields: str) -> httpx2.Response:
    """Open the page of an invitation and click its button."""
    page = await browser.get(invitation["url"])
    assert page.status_code == 200
    assert "Accept invitation" in page.text
    ticket = invitation["url"].partition("ticket=")[2]
    return await browser.post("/v1/tickets/accept", data={"ticket": ticket, **fields})


async def test_accepting_creates_a_user_and_a_membership(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    organization, admin = await backend.firm()
    metadata: Any = {"public_metadata": {"desk": 4}, "private_metadata": {"grade": "b"}}
    invitation = await backend.invite(organization, inviter_user_id=admin["id"], **metadata)
    await emulator.webhooks.drain()
    receiver.got.clear()
    page = await browser.get(invitation["url"])
    for message in ("Join Northwind Law", "bo@example.com", "Member", "ada@example.com"):
        assert message in page.text
    done = await accept(browser, invitation, first_name="Bo", last_name=" ")
    assert "You joined Northwind Law." in done.text
    await emulator.webhooks.drain()
    assert receiver.types == [
        "user.created",
        "organizationMembership.created",
        "organizationInvitation.accepted",
        "session.created",
    ]
    member = receiver.data("organizationMembership.created")
    assert (member["role"], member["public_metadata"]) == ("org:member", {"desk": 4})
    user = receiver.data("user.created")
    assert (user["first_name"], user["last_name"]) == ("Bo", None)
    assert user["email_addresses"][0]["verification"]["strategy"] == "ticket"
    assert "You are signed in" in (await browser.get("/sign-in")).text


async def test_accepting_as_an_existing_user_creates_only_a_membership(
    browser: httpx2.AsyncClient, backend: Backend
) -> None:
    organization, _ = await backend.firm()
    bo = await backend.user("bo@example.com")
    invitation = await backend.invite(organization)
    assert "First name" not in (await browser.get(invitation["url"])).text
    await accept(browser, invitation)
    members = await backend("GET", f"/organizations/{organization['id']}/memberships", user_id=bo["id"])
    assert members["total_count"] == 1
    path = f"/organizations/{organization['id']}/invitations/{invitation['id']}"
    assert (await backend("GET", path))["status"] == "accepted"


async def test_accepting_redirects_with_the_status(browser: httpx2.AsyncClient, backend: Backend) -> None:
    organization, _ = await backend.firm()
    invitation = await backend.invite(organization, redirect_url="http://127.0.0.1:8000/welcome?a=1")
    done = await accept(browser, invitation)
    assert done.headers["location"].startswith("http://127.0.0.1:8000/welcome?a=1&__clerk_status=complete&")
    away = await backend.invite(organization, "cy@example.com", redirect_url="https://evil.example/")
    assert "does not allow redirects" in (await accept(browser, away)).text


@pytest.mark.parametrize(
    ("end", "message"), [("revoke", "revoked"), ("accept", "Already accepted"), ("expire", "expired")]
)
async def test_a_closed_invitation_shows_its_status(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, end: str, message: str
) -> None:
    organization, _ = await backend.firm()
    invitation = await backend.invite(organization)
    if end == "revoke":
        await backend("POST", f"/organizations/{organization['id']}/invitations/{invitation['id']}/revoke")
    elif end == "accept":
        await accept(browser, invitation)
    else:
        emulator.clock.advance(days=30)
    count = len(emulator.state.memberships)
    page = await browser.get(invitation["url"])
    assert (page.status_code, message in page.text) == (410, True)
    ticket = invitation["url"].partition("ticket=")[2]
    assert (await browser.post("/v1/tickets/accept", data={"ticket": ticket})).status_code == 410
    assert len(emulator.state.memberships) == count


async def test_an_unknown_link_is_404(browser: httpx2.AsyncClient, backend: Backend) -> None:
    assert (await browser.get("/v1/tickets/accept", params={"ticket": "nonsense"})).status_code == 404
    organization, _ = await backend.firm()
    invitation = await backend.invite(organization)
    await backend("DELETE", f"/organizations/{organization['id']}")
    assert (await browser.get(invitation["url"])).status_code == 404


async def test_a_full_organization_accepts_no_member(browser: httpx2.AsyncClient, backend: Backend) -> None:
    organization, _ = await backend.firm(max_allowed_memberships=2)
    invitation = await backend.invite(organization)
    await backend("PATCH", f"/organizations/{organization['id']}", {"max_allowed_memberships": 1})
    done = await accept(browser, invitation)
    assert (done.status_code, 'role="alert"' in done.text) == (422, True)


async def test_an_application_invitation_creates_a_user_with_its_metadata(
    browser: httpx2.AsyncClient, backend: Backend
) -> None:
    body = {"email_address": "bo@example.com", "public_metadata": {"plan": "gold"}}
    invitation = await backend("POST", "/invitations", body)
    await accept(browser, invitation, first_name="Bo")
    (user,) = await backend("GET", "/users", email_address="bo@example.com")
    assert (user["first_name"], user["public_metadata"]) == ("Bo", {"plan": "gold"})
    assert await backend("GET", "/invitations", status="pending") == []


async def test_ticket_links_application_redirects_with_the_ticket(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    emulator.state.settings.ticket_links = "application"
    organization, _ = await backend.firm()
    bo = await backend.user("bo@example.com")
    for address, status in (("bo@example.com", "sign_in"), ("cy@example.com", "sign_up")):
        invitation = await backend.invite(organization, address, redirect_url="http://127.0.0.1:8000/in")
        led = await browser.get(invitation["url"])
        target = httpx2.URL(led.headers["location"])
        assert target.params["__clerk_status"] == status
        assert invitation["url"].endswith(target.params["__clerk_ticket"])
    await browser.post("/sign-in", data={"user_id": bo["id"]})
    invitations = await backend(
        "GET", f"/organizations/{organization['id']}/invitations", email_address=["bo@example.com"]
    )
    led = await browser.get(invitations["data"][0]["url"])
    assert httpx2.URL(led.headers["location"]).params["__clerk_status"] == "complete"
    members = await backend("GET", f"/organizations/{organization['id']}/memberships", user_id=bo["id"])
    assert members["total_count"] == 1
