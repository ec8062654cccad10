"""The hosted sign-up page."""

import re

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend
from tests.clerk_emulator.frontend_api.browser_script import code_for

pytestmark = pytest.mark.anyio
CY = {"email_address": "cy@example.com", "password": "a good one", "first_name": "Cy"}
HOME = "http://127.0.0.1:8000/home"


async def test_sign_up_with_a_code_and_redirect(
    browser: httpx2.AsyncClient, emulator: Emulator, backend: Backend
) -> None:
    page = await browser.get("/sign-up", params={"redirect_url": HOME})
    assert "Create your account" in page.text
    sent = await browser.post("/sign-up", data={**CY, "redirect_url": HOME})
    assert re.search("A code was sent to <strong>cy@example.com</strong>", sent.text)
    assert CY["password"] not in sent.text
    invalid = await browser.post("/sign-up", data={"code": "none", "redirect_url": HOME})
    assert (invalid.status_code, "The code is incorrect." in invalid.text) == (422, True)
    code = code_for(emulator, "cy@example.com")
    done = await browser.post("/sign-up", data={"code": code, "redirect_url": HOME})
    assert (done.status_code, done.headers["location"].startswith(HOME)) == (303, True)
    assert (await backend("GET", "/users"))[0]["first_name"] == "Cy"
    led = await browser.get("/sign-up", params={"redirect_url": HOME})
    assert led.headers["location"].startswith(HOME)


async def test_errors_are_shown_and_the_sign_up_can_start_over(browser: httpx2.AsyncClient, backend: Backend) -> None:
    await backend.user("ada@example.com")
    taken = await browser.post("/sign-up", data={**CY, "email_address": "ada@example.com"})
    assert taken.status_code == 422
    assert ('value="ada@example.com"' in taken.text, CY["password"] in taken.text) == (True, False)
    await browser.post("/sign-up", data=CY)
    assert "A code was sent" in (await browser.get("/sign-up")).text
    assert "Create your account" in (await browser.get("/sign-up", params={"again": "1"})).text
