"""The handshake and its session tokens."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import pytest

from clerk_emulator import Emulator
from clerk_emulator.wire.session_tokens import permission_map
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio
APP = "http://127.0.0.1:8000/organizations?tab=1&x=a%20b"


def decode(emulator: Emulator, token: str) -> dict[str, Any]:
    """Verify a token with the published keys and return its claims."""
    kid = jwt.get_unverified_header(token)["kid"]
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(emulator.jwks()).keys}
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(token, keys[kid], algorithms=["RS256"], options=options)
    return claims


async def do_handshake(browser: httpx2.AsyncClient, emulator: Emulator, target: str = APP) -> dict[str, str]:
    """Follow the handshake and return the cookies for the application."""
    answer = await browser.get("/v1/client/handshake", params={"redirect_url": target})
    assert answer.status_code == 307
    (token,) = parse_qs(urlsplit(answer.headers["location"]).query)["__clerk_handshake"]
    directives = decode(emulator, token)["handshake"]
    return dict(directive.partition(";")[0].partition("=")[::2] for directive in directives)


async def test_signed_out_the_cookies_are_cleared(browser: httpx2.AsyncClient, emulator: Emulator) -> None:
    cookies = await do_handshake(browser, emulator)
    suffix = emulator.site.cookie_suffix
    for name in ("__session", f"__session_{suffix}", f"__refresh_{suffix}"):
        assert cookies[name] == ""
    for name in ("__client_uat", f"__client_uat_{suffix}"):
        assert cookies[name] == "0"
    assert cookies["__clerk_db_jwt"].startswith("dvb_")


async def test_a_handshake_redirects_back(browser: httpx2.AsyncClient) -> None:
    target = "http://127.0.0.1:8000/a?x=1&__clerk_db_jwt=old&__clerk_handshake=old#part"
    answer = await browser.get("/v1/client/handshake", params={"redirect_url": target})
    parts = urlsplit(answer.headers["location"])
    query = parse_qs(parts.query)
    assert (parts.netloc, parts.path, parts.fragment) == ("127.0.0.1:8000", "/a", "part")
    assert set(query) == {"x", "__clerk_handshake"}
    assert query["__clerk_handshake"] != ["old"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "target",
    ["", "nonsense", "//127.0.0.1/", "https://evil.example/", "http://127.0.0.1.evil.example/", "javascript:alert(1)",
     "http://127.0.0.1\\@evil.example/", "http://evil.example\\.localhost/", "http://127.0.0.1@evil.example/"],
)  # fmt: skip
async def test_a_handshake_redirects_to_allowed_hosts_only(browser: httpx2.AsyncClient, target: str) -> None:
    answer = await browser.get("/v1/client/handshake", params={"redirect_url": target})
    assert answer.status_code == 400


async def test_a_host_can_be_allowed(private_key: str) -> None:
    emulator = Emulator(private_key=private_key, redirect_hosts=["app.example"])
    assert emulator.site.is_redirect_allowed("https://app.example/x")
    assert not emulator.site.is_redirect_allowed("https://www.app.example/x")


async def test_the_session_token_has_user_session_and_organization(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    organization, admin = await backend.firm()
    await browser.post("/sign-in", data={"user_id": admin["id"], "redirect_url": APP})
    cookies = await do_handshake(browser, emulator)
    token = cookies["__session"]
    assert token == cookies[f"__session_{emulator.site.cookie_suffix}"]
    header, claims = jwt.get_unverified_header(token), decode(emulator, token)
    assert (header["alg"], header["cat"], header["typ"]) == ("RS256", "cl_B7d4PD111AAA", "JWT")
    assert claims["exp"] - claims["iat"] == 60
    assert claims["iat"] == emulator.clock.wall() // 1000
    assert claims["iss"] == "http://127.0.0.1:8001"
    assert (claims["sub"], claims["v"], claims["sts"], claims["fva"]) == (admin["id"], 2, "active", [0, -1])
    assert claims["o"] == {"id": organization["id"], "slg": "northwind-law", "rol": "admin"}
    assert int(cookies["__client_uat"]) <= claims["iat"]
    session = await backend("GET", f"/sessions/{claims['sid']}")
    assert session["status"] == "active"


async def test_a_navigation_has_no_origin_and_its_token_no_azp_unless_a_setting_adds_it(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    user = await backend.user()
    await browser.post("/sign-in", data={"user_id": user["id"], "redirect_url": APP})
    assert "azp" not in decode(emulator, (await do_handshake(browser, emulator))["__session"])
    emulator.state.settings.change({"azp_without_origin": True})
    assert decode(emulator, (await do_handshake(browser, emulator))["__session"])["azp"] == "http://127.0.0.1:8000"


async def test_a_token_of_the_backend_api_has_no_azp_unless_a_setting_adds_it(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    user = await backend.user()
    await browser.post("/sign-in", data={"user_id": user["id"]})
    session = decode(emulator, (await do_handshake(browser, emulator))["__session"])["sid"]
    await backend("POST", "/jwt_templates", {"name": "hasura", "claims": {}})
    for path in ("tokens", "tokens/hasura"):
        created = await backend("POST", f"/sessions/{session}/{path}")
        assert "azp" not in decode(emulator, created["jwt"])
    emulator.state.settings.change({"azp_without_origin": True})
    for path in ("tokens", "tokens/hasura"):
        created = await backend("POST", f"/sessions/{session}/{path}")
        assert decode(emulator, created["jwt"])["azp"] == "http://127.0.0.1:8000"


async def test_a_handshake_activates_the_requested_organization(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    organization, admin = await backend.firm()
    await backend("POST", "/organizations", {"name": "Southgate", "created_by": admin["id"]})
    await browser.post("/sign-in", data={"user_id": admin["id"]})
    wishes = {
        "northwind-law": "northwind-law",
        "org_unknown": "northwind-law",
        "": None,
        organization["id"]: "northwind-law",
    }
    for data, expected in wishes.items():
        answer = await browser.get("/v1/client/handshake", params={"redirect_url": APP, "organization_id": data})
        (token,) = parse_qs(urlsplit(answer.headers["location"]).query)["__clerk_handshake"]
        session = decode(emulator, token)["handshake"][0].partition("=")[2].partition(";")[0]
        assert decode(emulator, session).get("o", {}).get("slg") == expected


async def test_a_server_refreshes_a_token_by_the_cookie_of_the_handshake(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    user = await backend.user()
    await browser.post("/sign-in", data={"user_id": user["id"]})
    cookies = await do_handshake(browser, emulator)
    session = decode(emulator, cookies["__session"])["sid"]
    body = {
        "expired_token": cookies["__session"],
        "refresh_token": cookies[f"__refresh_{emulator.site.cookie_suffix}"],
        "request_origin": "http://127.0.0.1:8000",
    }
    created = await backend("POST", f"/sessions/{session}/refresh", body)
    claims = decode(emulator, created["jwt"])
    assert (claims["sub"], claims["azp"]) == (user["id"], "http://127.0.0.1:8000")
    elsewhere = {**body, "expired_token": created["jwt"], "request_origin": "http://127.0.0.1:9000"}
    mismatch = (401, "refresh_request_origin_azp_mismatch")
    assert await backend.no("POST", f"/sessions/{session}/refresh", elsewhere) == mismatch
    invalid = {**body, "refresh_token": "rt_unknown"}
    assert await backend.no("POST", f"/sessions/{session}/refresh", invalid) == (401, "refresh_token_not_found")
    await backend("POST", f"/sessions/{session}/revoke")
    over = await backend.no("POST", f"/sessions/{session}/refresh", body)
    assert over == (401, "session_refresh_inactive_session")


@pytest.mark.parametrize("end", ["revoke", "ban", "delete", "expire"])
async def test_an_ended_session_gets_no_token(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator, end: str
) -> None:
    user = await backend.user()
    await browser.post("/sign-in", data={"user_id": user["id"]})
    session = (await backend("GET", "/sessions", user_id=user["id"]))[0]
    if end == "revoke":
        await backend("POST", f"/sessions/{session['id']}/revoke")
    elif end == "ban":
        await backend("POST", f"/users/{user['id']}/ban")
    elif end == "delete":
        await backend("DELETE", f"/users/{user['id']}")
    else:
        emulator.clock.advance(days=7)
    assert (await do_handshake(browser, emulator))["__session"] == ""
    expected = {"revoke": "revoked", "ban": "revoked", "delete": "removed", "expire": "expired"}[end]
    assert (await backend("GET", f"/sessions/{session['id']}"))["status"] == expected


async def test_two_browsers_are_two_clients(browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator) -> None:
    ada, bo = await backend.user("ada@example.com"), await backend.user("bo@example.com")
    await browser.post("/sign-in", data={"user_id": ada["id"]})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001") as other:
        await other.post("/sign-in", data={"user_id": bo["id"]})
        subjects = [
            decode(emulator, (await do_handshake(one, emulator))["__session"])["sub"] for one in (browser, other)
        ]
    assert subjects == [ada["id"], bo["id"]]


async def test_the_token_of_the_browser_is_enough_on_another_host(
    browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator
) -> None:
    user = await backend.user()
    answer = await browser.post("/sign-in", data={"user_id": user["id"], "redirect_url": "http://localhost:3000/"})
    (token,) = parse_qs(urlsplit(answer.headers["location"]).query)["__clerk_db_jwt"]
    browser.cookies.clear()
    query = {"redirect_url": "http://localhost:3000/", "__clerk_db_jwt": token}
    again = await browser.get("/v1/client/handshake", params=query)
    (signed,) = parse_qs(urlsplit(again.headers["location"]).query)["__clerk_handshake"]
    assert decode(emulator, signed)["handshake"][0].startswith("__session=ey")


async def test_the_keys_are_public(browser: httpx2.AsyncClient, backend: Backend, emulator: Emulator) -> None:
    published = (await browser.get("/.well-known/jwks.json")).json()
    assert published == emulator.jwks() == await backend("GET", "/jwks")
    assert set(published["keys"][0]) == {"use", "kty", "kid", "alg", "n", "e"}


async def test_permissions_are_packed_by_feature() -> None:
    keys = ["org:dashboard:manage", "org:dashboard:read", "org:teams:read", "org:sys_profile:manage"]
    assert permission_map(keys) == (["dashboard", "teams"], ["manage", "read"], [3, 2])
