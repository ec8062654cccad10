"""Frontend API: sessions of a client."""

from collections.abc import AsyncIterator

import httpx2
import jwt
import pytest

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock
from tests.clerk_emulator.clients import Backend, Receiver
from tests.clerk_emulator.frontend_api.browser_script import BrowserScript

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"


@pytest.fixture
async def script(browser: httpx2.AsyncClient, backend: Backend) -> BrowserScript:
    """Clerk's script in a browser where Ada, who has two organizations, is signed in."""
    _, ada = await backend.firm()
    await backend("POST", "/organizations", {"name": "Southgate", "created_by": ada["id"]})
    await backend("PATCH", f"/users/{ada['id']}", {"password": PASSWORD})
    script = BrowserScript(browser)
    await script.sign_in("ada@example.com", PASSWORD)
    return script


@pytest.fixture
async def stranger(emulator: Emulator) -> AsyncIterator[BrowserScript]:
    """Clerk's script in another browser."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001") as http:
        yield BrowserScript(http)


async def path_of(script: BrowserScript) -> str:
    """Return the path of the active session of a browser."""
    return f"/client/sessions/{(await script.client())['last_active_session_id']}"


async def organization_of(emulator: Emulator, script: BrowserScript, **fields: str) -> str | None:
    """Return the name of the organization in a new token."""
    answer = await script("POST", f"{await path_of(script)}/tokens", **fields)
    claims = emulator.site.keyring.read(answer["jwt"]) or {}
    found = emulator.state.organizations.find(claims.get("o", {}).get("id"))
    return found.name if found else None


async def test_an_organization_is_activated_and_deactivated(script: BrowserScript, emulator: Emulator) -> None:
    path = await path_of(script)
    ids = {one.name: one.id for one in emulator.state.organizations}
    assert await organization_of(emulator, script) == "Southgate"
    touched = await script("POST", f"{path}/touch", active_organization_id=ids["Northwind Law"], intent="select_org")
    assert touched["last_active_organization_id"] == ids["Northwind Law"]
    assert await organization_of(emulator, script) == "Northwind Law"
    await script("POST", f"{path}/touch", active_organization_id="southgate")
    assert await organization_of(emulator, script) == "Southgate"
    await script("POST", f"{path}/touch", intent="focus")
    assert await organization_of(emulator, script) == "Southgate"
    await script("POST", f"{path}/touch", active_organization_id="")
    assert await organization_of(emulator, script) is None
    error = await script.no("POST", f"{path}/touch", active_organization_id="org_unknown")
    assert error == (404, "organization_not_found_or_unauthorized")


async def test_a_token_of_another_organization_leaves_the_session_as_it_is(
    script: BrowserScript, emulator: Emulator
) -> None:
    ids = {one.name: one.id for one in emulator.state.organizations}
    assert await organization_of(emulator, script, organization_id=ids["Northwind Law"]) == "Northwind Law"
    assert await organization_of(emulator, script, organization_id="") is None
    assert await organization_of(emulator, script) == "Southgate"


async def test_a_token_is_signed_and_lasts_a_minute(
    script: BrowserScript, emulator: Emulator, backend: Backend, browser: httpx2.AsyncClient
) -> None:
    path = await path_of(script)
    browser.headers["origin"] = "http://127.0.0.1:3000"
    token = (await script("POST", f"{path}/tokens"))["jwt"]
    options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    claims = jwt.decode(token, emulator.site.keyring.public_pem, ["RS256"], options=options)  # type: ignore[arg-type]
    assert claims["exp"] - claims["iat"] == 60
    assert (claims["azp"], claims["sts"]) == ("http://127.0.0.1:3000", "active")
    shown = (await script.client())["sessions"][0]["last_active_token"]["jwt"]
    assert (emulator.site.keyring.read(shown) or {})["azp"] == "http://127.0.0.1:3000"
    del browser.headers["origin"]
    browser.headers["referer"] = "http://127.0.0.1:3000/members"
    for path_of_token in (f"{path}/tokens", f"{path}/touch"):
        created = await script("POST", path_of_token)
        jwt_ = created["jwt"] if "jwt" in created else created["last_active_token"]["jwt"]
        assert "azp" not in (emulator.site.keyring.read(jwt_) or {}), "no Origin, no azp"
    await backend("POST", "/jwt_templates", {"name": "hasura", "claims": {"mail": "{{user.primary_email_address}}"}})
    created = await script("POST", f"{path}/tokens/hasura")
    assert (emulator.site.keyring.read(created["jwt"]) or {})["mail"] == "ada@example.com"
    assert await script.no("POST", f"{path}/tokens/unknown") == (404, "resource_not_found")


async def test_every_end_of_a_session_has_an_event(
    script: BrowserScript, stranger: BrowserScript, emulator: Emulator, receiver: Receiver
) -> None:
    path = await path_of(script)
    assert (await script("POST", f"{path}/end"))["status"] == "ended"
    assert (await script.client())["sessions"] == []
    await script.sign_in("ada@example.com", PASSWORD)
    assert (await script("POST", f"{await path_of(script)}/remove"))["status"] == "removed"
    await script.sign_in("ada@example.com", PASSWORD)
    assert (await script("DELETE", "/client/sessions"))["sessions"] == []
    known = (await script.client())["id"]
    await script.sign_in("ada@example.com", PASSWORD)
    assert (await script.client())["id"] == known
    await script("DELETE", "/client")
    assert await script.client() is None
    assert await stranger.no("DELETE", "/client/sessions") == (401, "signed_out")
    await emulator.webhooks.drain()
    assert [type_ for type_ in receiver.types if type_ != "session.created"][-4:] == [
        "session.ended",
        "session.removed",
        "session.removed",
        "session.removed",
    ]


async def test_nobody_reaches_the_session_of_another_browser(script: BrowserScript, stranger: BrowserScript) -> None:
    path = await path_of(script)
    assert await stranger.client() is None
    for method, rest in (("GET", ""), ("POST", "/touch"), ("POST", "/tokens"), ("POST", "/end"), ("POST", "/remove")):
        assert await stranger.no(method, f"{path}{rest}") == (404, "resource_not_found")
    assert (await script("GET", path))["status"] == "active"


async def test_a_session_ends_with_its_time(script: BrowserScript, clock: Clock) -> None:
    path = await path_of(script)
    clock.advance(days=6)
    assert (await script("POST", f"{path}/touch"))["status"] == "active"
    clock.advance(days=2)
    assert await script.no("POST", f"{path}/tokens") == (401, "signed_out")
    assert (await script.client())["sessions"] == []
    await script.sign_in("ada@example.com", PASSWORD)


async def test_sessions_survive_a_snapshot(script: BrowserScript, emulator: Emulator) -> None:
    kept = emulator.control.snapshot()
    await script("DELETE", "/client/sessions")
    emulator.control.restore(kept)
    assert len((await script.client())["sessions"]) == 1
