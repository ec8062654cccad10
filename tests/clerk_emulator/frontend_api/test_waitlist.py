"""Frontend API: the waitlist."""

import httpx2
import pytest

from tests.clerk_emulator.clients import Backend
from tests.clerk_emulator.frontend_api.browser_script import BrowserScript

pytestmark = pytest.mark.anyio


async def test_an_address_joins_the_waitlist_once_and_is_invited(browser: httpx2.AsyncClient, backend: Backend) -> None:
    script = BrowserScript(browser)
    waiting = await script("POST", "/waitlist", email_address="cy@example.com")
    again = await script("POST", "/waitlist", email_address="Cy@example.com")
    assert again == waiting
    assert await script.no("POST", "/waitlist") == (422, "form_param_missing")
    invited = await backend("POST", f"/waitlist_entries/{waiting['id']}/invite")
    ticket = invited["invitation"]["url"].partition("ticket=")[2]
    fields = {"strategy": "ticket", "ticket": ticket, "password": "a good one"}
    assert (await script("POST", "/client/sign_ups", **fields))["status"] == "complete"
    assert (await backend("GET", "/waitlist_entries"))["data"][0]["status"] == "completed"
