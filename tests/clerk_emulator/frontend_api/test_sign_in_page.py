"""The hosted sign-in and sign-out pages."""

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio
APP = "http://127.0.0.1:8000/people"


async def test_people_are_chosen_with_one_click(browser: httpx2.AsyncClient, backend: Backend) -> None:
    user = await backend.user(first_name="<b>Ada</b>")
    page = await browser.get("/sign-in", params={"redirect_url": APP})
    assert f'value="{user["id"]}"' in page.text
    assert "&lt;b&gt;Ada&lt;/b&gt;" in page.text
    assert "<script" not in page.text
    assert "for development" in page.text
    answer = await browser.post("/sign-in", data={"user_id": user["id"], "redirect_url": APP})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{APP}?__clerk_db_jwt=dvb_")


async def test_a_signed_in_user_is_redirected_immediately(browser: httpx2.AsyncClient, backend: Backend) -> None:
    user = await backend.user()
    await browser.post("/sign-in", data={"user_id": user["id"]})
    assert (await browser.get("/sign-in", params={"redirect_url": APP})).status_code == 303
    assert "You are signed in" in (await browser.get("/sign-in")).text


async def test_address_and_password(browser: httpx2.AsyncClient, backend: Backend) -> None:
    await backend.user(password="correct horse battery")
    data = {"email_address": "ADA@example.com", "password": "wrong", "redirect_url": APP}
    error = await browser.post("/sign-in", data=data)
    assert error.status_code == 422
    assert 'role="alert"' in error.text
    accepted = await browser.post("/sign-in", data={**data, "password": "correct horse battery"})
    assert accepted.status_code == 303


@pytest.mark.parametrize("verb", ["ban", "lock"])
async def test_banned_and_locked_users_cannot_sign_in(browser: httpx2.AsyncClient, backend: Backend, verb: str) -> None:
    user = await backend.user()
    await backend("POST", f"/users/{user['id']}/{verb}")
    assert (await browser.post("/sign-in", data={"user_id": user["id"]})).status_code == 422


async def test_many_people_are_searched(browser: httpx2.AsyncClient, emulator: Emulator) -> None:
    emulator.seed({"users": [{"email_address": f"p{number}@example.com"} for number in range(60)]})
    page = (await browser.get("/sign-in")).text
    assert 'role="search"' in page
    assert "10 more" in page
    assert "p59@example.com" in (await browser.get("/sign-in", params={"query": "p59"})).text


async def test_signing_out_ends_the_session(browser: httpx2.AsyncClient, backend: Backend) -> None:
    user = await backend.user()
    await browser.post("/sign-in", data={"user_id": user["id"]})
    answer = await browser.get("/sign-out", params={"redirect_url": APP})
    assert answer.headers["location"].startswith(APP)
    (session,) = await backend("GET", "/sessions", user_id=user["id"])
    assert session["status"] == "removed"
    assert "You are signed out" in (await browser.get("/sign-out")).text


async def test_redirects_to_other_machines_are_rejected(browser: httpx2.AsyncClient, backend: Backend) -> None:
    user = await backend.user()
    away = "https://evil.example/"
    assert "is not allowed" in (await browser.get("/sign-in", params={"redirect_url": away})).text
    answer = await browser.post("/sign-in", data={"user_id": user["id"], "redirect_url": away})
    assert answer.headers["location"] == "/sign-in"
    assert (await browser.get("/sign-out", params={"redirect_url": away})).status_code == 200


async def test_forms_of_other_sites_are_refused(browser: httpx2.AsyncClient, backend: Backend) -> None:
    user = await backend.user()
    for origin, status in (("https://evil.example", 403), ("http://localhost:3000", 303)):
        answer = await browser.post("/sign-in", data={"user_id": user["id"]}, headers={"origin": origin})
        assert answer.status_code == status


async def test_without_redirect_url_it_redirects_to_the_referring_application(
    browser: httpx2.AsyncClient, backend: Backend
) -> None:
    await backend.user()
    came = {"referer": "http://localhost:3000/"}
    for path in ("/sign-in", "/sign-up"):
        assert 'name="redirect_url" value="http://localhost:3000/"' in (await browser.get(path, headers=came)).text
    for referer in ("https://evil.example/", "http://127.0.0.1:8001/sign-out"):
        assert 'name="redirect_url" value=""' in (await browser.get("/sign-in", headers={"referer": referer})).text
