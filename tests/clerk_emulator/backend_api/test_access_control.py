"""Backend API: access lists, sign-in tokens, the waitlist and JWT templates."""

import httpx2
import jwt
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def test_a_sign_in_token_signs_in_once(backend: Backend, browser: httpx2.AsyncClient) -> None:
    ada = await backend.user()
    token = await backend("POST", "/sign_in_tokens", {"user_id": ada["id"]})
    assert "ada@example.com" in (await browser.get(token["url"])).text
    path = token["url"].partition("?")[0]
    form = {"ticket": token["token"], "redirect_url": "http://127.0.0.1:3000/home"}
    assert (await browser.post(path, data=form)).headers["location"].startswith("http://127.0.0.1:3000/home?")
    assert [row["user_id"] for row in await backend("GET", "/sessions", status="active")] == [ada["id"]]
    assert (await browser.post(path, data=form)).status_code == 410
    error = await backend.no("POST", f"/sign_in_tokens/{token['id']}/revoke")
    assert error == (400, "sign_in_token_cannot_be_revoked_code")


async def test_a_sign_in_token_expires(backend: Backend, browser: httpx2.AsyncClient, emulator: Emulator) -> None:
    ada = await backend.user()
    token = await backend("POST", "/sign_in_tokens", {"user_id": ada["id"], "expires_in_seconds": 60})
    emulator.clock.advance(seconds=61)
    assert (await browser.get(token["url"])).status_code == 410


async def test_an_actor_token_signs_in_as_another_user(
    backend: Backend, browser: httpx2.AsyncClient, emulator: Emulator
) -> None:
    ada = await backend.user()
    data = {"user_id": ada["id"], "actor": {"sub": "support"}, "session_max_duration_in_seconds": 60}
    token = await backend("POST", "/actor_tokens", data)
    await browser.post(token["url"].partition("?")[0], data={"ticket": token["token"]})
    (session,) = await backend("GET", "/sessions", user_id=ada["id"])
    assert session["actor"] == {"sub": "support"}
    claims = (await backend("POST", f"/sessions/{session['id']}/tokens", {}))["jwt"]
    assert jwt.decode(claims, options={"verify_signature": False})["act"] == {"sub": "support"}
    emulator.clock.advance(seconds=61)
    assert (await backend("GET", f"/sessions/{session['id']}"))["status"] == "expired"


async def test_blocked_users_cannot_sign_in(backend: Backend, browser: httpx2.AsyncClient) -> None:
    ada = await backend.user()
    await backend("POST", "/blocklist_identifiers", {"identifier": "@example.com"})
    assert (await browser.post("/sign-in", data={"user_id": ada["id"]})).status_code == 303
    await backend("PATCH", "/instance/restrictions", {"blocklist": True})
    await browser.get("/sign-out")
    assert (await browser.post("/sign-in", data={"user_id": ada["id"]})).status_code == 422


async def test_a_waitlist_entry_is_invited_and_signs_up(
    backend: Backend, browser: httpx2.AsyncClient, emulator: Emulator
) -> None:
    entry = await backend("POST", "/waitlist_entries", {"email_address": "bo@example.com"})
    again = await backend("POST", "/waitlist_entries", {"email_address": "BO@example.com"})
    assert again["id"] == entry["id"]
    invited = await backend("POST", f"/waitlist_entries/{entry['id']}/invite")
    path, _, ticket = invited["invitation"]["url"].partition("?ticket=")
    await browser.post(path, data={"ticket": ticket})
    (found,) = (await backend("GET", "/waitlist_entries", status="completed"))["data"]
    assert found["id"] == entry["id"]
    types = [message.type for message in emulator.webhooks.log.messages.values()]
    assert types.count("waitlistEntry.updated") == 2


async def test_a_template_defines_the_claims_of_a_token(backend: Backend) -> None:
    firm, admin = await backend.firm()
    claims = {
        "mail": "{{user.primary_email_address}}",
        "hello": "Hello {{user.first_name}}!",
        "role": "{{org.role}}",
        "plan": "{{user.public_metadata.plan || 'free'}}",
        "none": "{{user.nothing}}",
        "fixed": [1, {"two": "{{org.slug}}"}],
    }
    await backend("POST", "/jwt_templates", {"name": "backend", "claims": claims, "lifetime": 90})
    session = await backend("POST", "/sessions", {"user_id": admin["id"], "active_organization_id": firm["id"]})
    token = (await backend("POST", f"/sessions/{session['id']}/tokens/backend", {}))["jwt"]
    token_claims = jwt.decode(token, options={"verify_signature": False})
    assert token_claims["mail"] == "ada@example.com"
    assert (token_claims["hello"], token_claims["role"], token_claims["plan"], token_claims["none"]) == (
        "Hello Ada!",
        "org:admin",
        "free",
        None,
    )
    assert token_claims["fixed"] == [1, {"two": "northwind-law"}]
    assert token_claims["exp"] - token_claims["iat"] == 90


async def test_an_image_is_stored_and_served(backend: Backend, browser: httpx2.AsyncClient, emulator: Emulator) -> None:
    ada = await backend.user()
    files = {"file": ("a.png", b"\x89PNG picture", "image/png")}
    path = f"/v1/users/{ada['id']}/profile_image"
    shown = (await backend.http.post(path, files=files)).json()
    assert shown["has_image"] is True
    image = await browser.get(shown["image_url"])
    assert (image.content, image.headers["content-type"]) == (b"\x89PNG picture", "image/png")
    script = {"file": ("a.svg", b"<svg/>", "image/svg+xml")}
    assert (await backend.http.post(path, files=script)).status_code == 400
    assert (await backend("DELETE", f"/users/{ada['id']}/profile_image"))["has_image"] is False
    assert (await browser.get(shown["image_url"])).status_code == 404
