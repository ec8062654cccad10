"""The control pages and their actions."""

import re

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Receiver

pytestmark = pytest.mark.anyio
PAGES = ("users", "organizations", "invitations", "mail", "endpoints", "deliveries", "requests", "faults")


async def do(browser: httpx2.AsyncClient, page: str, action: str, **form: str) -> httpx2.Response:
    return await browser.post(f"/_emulator/pages/{page}/{action}", data=form)


async def test_every_page_shows_its_rows(browser: httpx2.AsyncClient, backend: Backend) -> None:
    firm, _ = await backend.firm()
    await backend.invite(firm, "bo@example.com")
    for name in PAGES:
        answer = await browser.get(f"/_emulator/pages/{name}")
        assert answer.status_code == 200, name
        assert "<script" not in answer.text
    assert "Northwind Law" in (await browser.get("/_emulator/pages/mail")).text
    assert "Inbox" in (await browser.get("/")).text


async def test_a_person_adds_a_user_and_a_firm_invites_and_accepts(
    browser: httpx2.AsyncClient, emulator: Emulator
) -> None:
    assert (
        await do(browser, "users", "add-user", email_address="ada@example.com", first_name="Ada")
    ).status_code == 303
    firm = {"name": "Northwind Law", "created_by": "ada@example.com"}
    assert (await do(browser, "organizations", "add-organization", **firm)).status_code == 303
    asked = {"email_address": "bo@example.com", "organization": "northwind-law", "role": "org:member"}
    assert (await do(browser, "invitations", "invite", **asked)).status_code == 303
    shown = (await browser.get("/_emulator/pages/invitations")).text
    invitation_id = re.findall(r'name="id" value="(orginv_\w+)"', shown)[0]
    assert (await do(browser, "invitations", "accept", id=invitation_id)).status_code == 303
    assert len(emulator.state.memberships) == 2


async def test_errors_are_shown_on_the_page(browser: httpx2.AsyncClient, backend: Backend) -> None:
    await backend.user()
    again = await do(browser, "users", "add-user", email_address="ada@example.com")
    assert again.status_code == 422
    assert 'role="alert"' in again.text
    assert (await do(browser, "faults", "add-fault", target="Nothing")).status_code == 422
    assert (await do(browser, "invitations", "accept", id="none")).status_code == 422
    assert (await do(browser, "users", "dance")).status_code == 404


async def test_actions_on_the_pages_ban_delete_replay_and_add_faults(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    user = await backend.user()
    await do(browser, "users", "ban", id=user["id"])
    assert (await backend("GET", f"/users/{user['id']}"))["banned"] is True
    await do(browser, "users", "unban", id=user["id"])
    await emulator.webhooks.drain()
    await do(browser, "deliveries", "replay", id="dlv_1")
    await emulator.webhooks.drain()
    assert receiver.types == ["user.created", "user.updated", "user.updated", "user.created"]
    await do(browser, "faults", "add-fault", target="GetUser", status="503", count="1")
    assert (await backend.no("GET", f"/users/{user['id']}"))[0] == 503
    await do(browser, "faults", "add-fault", target="user.deleted", do="drop", count="")
    await do(browser, "faults", "remove-fault", id="fault_1")
    await do(browser, "users", "delete-user", id=user["id"])
    assert len(emulator.state.users) == 0


async def test_a_person_sends_an_example_to_an_endpoint(
    browser: httpx2.AsyncClient, emulator: Emulator, receiver: Receiver
) -> None:
    (endpoint,) = emulator.webhooks.endpoints
    assert "Send example" in (await browser.get("/_emulator/pages/endpoints")).text
    sent = await do(browser, "endpoints", "send-example", id=endpoint, type="organization.created")
    assert sent.status_code == 303
    await emulator.webhooks.drain()
    assert receiver.types == ["organization.created"]
    assert (await do(browser, "endpoints", "send-example", id="ep_unknown", type="user.created")).status_code == 422
    assert (await do(browser, "endpoints", "send-example", id=endpoint, type="user.danced")).status_code == 422
    assert (await do(browser, "endpoints", "remove-endpoint", id=endpoint)).status_code == 303
    assert not emulator.webhooks.endpoints
    assert (await do(browser, "endpoints", "add-endpoint", url="http://127.0.0.1:9/hook")).status_code == 303
    assert [one.url for one in emulator.webhooks.endpoints.values()] == ["http://127.0.0.1:9/hook"]


async def test_the_clock_is_advanced_on_the_page(browser: httpx2.AsyncClient, emulator: Emulator) -> None:
    before = emulator.clock.now()
    assert (await do(browser, "overview", "advance", hours="24")).headers["location"] == "/"
    assert emulator.clock.now() == before + 86_400_000


async def test_forms_of_other_sites_are_rejected(browser: httpx2.AsyncClient, emulator: Emulator) -> None:
    form, headers = {"email_address": "eve@example.com"}, {"origin": "https://elsewhere.example"}
    answer = await browser.post("/_emulator/pages/users/add-user", data=form, headers=headers)
    assert answer.status_code == 403
    assert len(emulator.state.users) == 0
