"""Frontend API: clients, CORS, method override and faults."""

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.frontend_api.route_table import ROUTES
from tests.clerk_emulator.clients import Backend
from tests.clerk_emulator.frontend_api.browser_script import BrowserScript
from tests.clerk_emulator.specification import load

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"


def on_another_port(emulator: Emulator) -> httpx2.AsyncClient:
    """A browser without cookies."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001")


def test_every_route_is_in_the_specification_by_its_name() -> None:
    paths = load("fapi-2026-05-12.yml")["paths"]
    for route in ROUTES:
        assert paths[f"/v1{route.path}"][route.method.lower()]["operationId"] == route.operation


async def test_the_frontend_api_is_served_at_v1_and_below_the_proxy_path(
    browser: httpx2.AsyncClient, backend: Backend
) -> None:
    for prefix in ("", "/__clerk"):
        assert (await browser.get(f"{prefix}/v1/environment")).json()["auth_config"]["object"] == "auth_config"
        assert (await browser.get(f"{prefix}/.well-known/jwks.json")).json()["keys"]
        assert (await browser.get(f"{prefix}/v1/client/handshake")).status_code == 400
    error = await browser.get("/v1/users")
    assert error.json()["errors"][0]["code"] == "clerk_key_invalid"
    asked = await browser.get("/v1/organizations/org_1/memberships", params={"_clerk_js_version": "6.40.0"})
    assert (asked.status_code, asked.json()["errors"][0]["code"]) == (401, "signed_out")
    missing = await browser.get("/v1/client/unheard_of")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (400, "emulator_not_implemented")


async def test_a_browser_is_known_by_its_cookie_or_by_the_token_in_the_query(
    browser: httpx2.AsyncClient, emulator: Emulator, backend: Backend
) -> None:
    await backend.user(password=PASSWORD)
    token = (await browser.post("/__clerk/v1/dev_browser")).json()["id"]
    assert browser.cookies["__client"] == token
    await BrowserScript(browser).sign_in("ada@example.com", PASSWORD)
    assert browser.cookies["__client_uat"] != "0"
    assert browser.cookies[f"__client_uat_{emulator.site.cookie_suffix}"] != "0"
    async with on_another_port(emulator) as other:
        found = await other.get("/__clerk/v1/client", params={"__clerk_db_jwt": token})
        assert len(found.json()["response"]["sessions"]) == 1
    async with on_another_port(emulator) as native:
        found = await native.get("/v1/client", headers={"authorization": token})
        assert len(found.json()["response"]["sessions"]) == 1
        assert "authorization" not in found.headers
    async with on_another_port(emulator) as native:
        begun = await native.post("/v1/client", params={"_is_native": "1"})
        native.cookies.clear()
        again = await native.get("/v1/client", headers={"authorization": begun.headers["authorization"]})
        assert again.json()["response"]["id"] == begun.json()["response"]["id"]
    async with on_another_port(emulator) as stranger:
        assert (await stranger.get("/__clerk/v1/client")).json() == {"response": None, "client": None}
        stale = {"__clerk_db_jwt": "dvb_unknown"}
        found = await stranger.get("/__clerk/v1/client", params=stale)
        assert (found.status_code, found.json()["errors"][0]["code"]) == (401, "dev_browser_unauthenticated")
        assert (await stranger.post("/__clerk/v1/dev_browser", params=stale)).json()["id"] != "dvb_unknown"


async def test_cors_allows_pages_of_this_machine_only(browser: httpx2.AsyncClient, emulator: Emulator) -> None:
    here = await browser.get("/v1/environment", headers={"origin": "http://localhost:3000"})
    assert here.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert here.headers["access-control-allow-credentials"] == "true"
    ahead = await browser.options("/v1/client", headers={"origin": "http://localhost:3000"})
    assert (ahead.status_code, "PATCH" in ahead.headers["access-control-allow-methods"]) == (204, True)
    for path in ("/v1/client", "/__clerk/v1/client"):
        for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example"):
            away = await browser.post(path, headers={"origin": origin})
            assert (away.status_code, away.json()["errors"][0]["code"]) == (400, "origin_invalid")
            assert "access-control-allow-origin" not in away.headers
    emulator.site.redirect_hosts.append("app.example")
    assert (await browser.get("/v1/client", headers={"origin": "https://app.example"})).status_code == 200


async def test_method_override_works_for_post_only(browser: httpx2.AsyncClient) -> None:
    assert (await browser.post("/v1/environment", params={"_method": "PATCH"})).status_code == 200
    assert (await browser.get("/v1/client", params={"_method": "DELETE"})).status_code == 200
    assert (await browser.post("/v1/client", params={"_method": "GET"})).json()["response"]["object"] == "client"


async def test_an_invalid_body_is_rejected(browser: httpx2.AsyncClient) -> None:
    invalid = {"content-type": "multipart/form-data"}
    error = await browser.post("/v1/client/sign_ins", headers=invalid, content=b"x")
    assert (error.status_code, error.json()["errors"][0]["code"]) == (400, "request_body_invalid")
    large = await browser.post("/v1/client/sign_ins", headers={"content-length": str(10**9)}, content=b"x")
    assert large.status_code == 413
    odd = await BrowserScript(browser).no("POST", "/client/sign_ups", unsafe_metadata="[1]")
    assert odd == (422, "form_param_value_invalid")


async def test_no_response_contains_a_secret(browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator) -> None:
    organization, ada = await backend.firm(private_metadata={"grade": "of a firm"})
    await backend("PATCH", f"/users/{ada['id']}", {"password": PASSWORD})
    await backend("PATCH", f"/users/{ada['id']}/metadata", {"private_metadata": {"grade": "of a user"}})
    await backend.invite(organization, private_metadata={"grade": "of an invitation"})
    heard: list[str] = []

    async def record_response(response: httpx2.Response) -> None:
        heard.append((await response.aread()).decode())

    browser.event_hooks["response"].append(record_response)
    script = BrowserScript(browser)
    for strategy in ("email_code", "reset_password_email_code"):
        await script("POST", "/client/sign_ins", identifier="ada@example.com", strategy=strategy)
    await script("POST", "/client/sign_ups", email_address="cy@example.com", password=PASSWORD, strategy="email_code")
    await script.sign_in("ada@example.com", PASSWORD)
    session = (await script.client())["last_active_session_id"]
    emulator.state.sessions.find(session).refresh_token = "rt_of_ada"  # type: ignore[union-attr]
    for path in (f"/client/sessions/{session}/touch", f"/client/sessions/{session}/end"):
        await script("POST", path)
    one = emulator.state
    secrets = {
        emulator.secret_key,
        PASSWORD,
        "of a firm",
        "of a user",
        "of an invitation",
        "rt_of_ada",
        *(str(found.password) for found in (*one.users, *one.sign_ups) if found.password),
        *(f'"{found.code}"' for found in one.verifications.values()),
        *(found.ticket for found in one.organization_invitations),
        *(found.token for found in one.clients.values()),
    }
    assert len(secrets) > 12
    assert len(heard) == 7
    assert not [secret for secret in secrets if any(secret in text for text in heard)]


async def test_faults_and_the_request_log_cover_the_frontend_api(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    await backend.user(password=PASSWORD)
    fields = {"identifier": "ada@example.com", "password": PASSWORD}
    token = (await browser.post("/v1/dev_browser")).json()["id"]
    emulator.fail("frontend/createSignIn", status=503, count=1)
    lost = await browser.post("/v1/client/sign_ins", data=fields, params={"__clerk_db_jwt": token, "_method": "POST"})
    assert (lost.status_code, len(emulator.state.sessions)) == (503, 0)
    emulator.fail("frontend/createSignIn", status=500, count=1, after_effect=True)
    lost = await browser.post("/v1/client/sign_ins", data=fields)
    assert (lost.status_code, len(emulator.state.sessions)) == (500, 1)
    kept = [entry for entry in emulator.request_log.list() if entry.operation == "frontend/createSignIn"]
    assert [(entry.status, entry.query) for entry in kept] == [(503, "&_method=POST"), (500, "")]
    assert all(entry.fault for entry in kept)
