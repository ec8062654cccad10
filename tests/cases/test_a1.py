"""A1: a session token inside an answer to a handshake needs no `azp`; a foreign one is refused."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.auth.browser import Browser
from tests.support.tokens import session_token
from tests.support.world import OURS, Firm

pytestmark = pytest.mark.anyio

SEED: dict[str, Any] = {
    "users": [
        {"email_address": "dana@example.com", "first_name": "Dana", "password": "correct horse battery"},
        {"email_address": "mallory@example.com", "first_name": "Mallory", "password": "correct horse battery"},
    ],
    "organizations": [
        {
            "name": "Northwind",
            "slug": "northwind",
            "members": [{"user": "dana@example.com", "role": "org:admin"}, {"user": "mallory@example.com"}],
        }
    ],
    "events": True,
}
PARAMETER = "__clerk_handshake"
HOME = "/organizations/northwind/members"


class ClerkWithAzp:
    """Clerk's emulator, whose answers to handshakes carry session tokens with this `azp` (None: without one)."""

    def __init__(self, firm: Firm, azp: str | None) -> None:
        self.firm, self.azp = firm, azp

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on; change the address that an answer to a handshake leads to."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, self._changed(value.decode()).encode()) if name.lower() == b"location" else (name, value)
                    for name, value in message["headers"]
                ]
            await send(message)

        await self.firm.emulator(scope, receive, sending)

    def _changed(self, location: str) -> str:
        parts = urlsplit(location)
        query = dict(parse_qsl(parts.query))
        if PARAMETER not in query:
            return location
        keyring = self.firm.emulator.site.keyring
        given = keyring.read(query[PARAMETER])
        assert given is not None
        query[PARAMETER] = keyring.sign({"handshake": [self._signed(line) for line in given["handshake"]]})
        return parts._replace(query=urlencode(query)).geturl()

    def _signed(self, line: str) -> str:
        name, _, rest = line.partition("=")
        token, semicolon, attributes = rest.partition(";")
        if not name.startswith("__session") or not token:
            return line
        keyring = self.firm.emulator.site.keyring
        claims = {key: value for key, value in (keyring.read(token) or {}).items() if key != "azp"}
        claims |= {"azp": self.azp} if self.azp else {}
        return f"{name}={keyring.sign(claims)}{semicolon}{attributes}"


async def browser_of(firm: Firm, azp: str | None) -> Browser:
    """Return a browser to a settled firm."""
    firm.emulator.seed(SEED)
    await firm.settle()
    clerk = ClerkWithAzp(firm, azp)
    return Browser({urlsplit(OURS).netloc: firm.app, urlsplit(firm.emulator.site.url).netloc: clerk})


async def sign_in(firm: Firm, browser: Browser, email: str = "dana@example.com") -> Any:
    """Open a page and sign in at Clerk's page on the way."""
    await browser.get(HOME)
    back = dict(parse_qsl(urlsplit(browser.trail[-1]).query))["redirect_url"]
    form = {"user_id": firm.user_id(email), "redirect_url": back}
    return await browser.post(f"{firm.emulator.site.url}/sign-in", form)


async def test_a1_a_handshake_token_without_azp_signs_in(firm: Firm) -> None:
    browser = await browser_of(firm, None)
    page = await sign_in(firm, browser)
    assert page.status_code == 200
    assert "Northwind" in page.text
    assert browser.trail[-1] == f"GET {OURS}{HOME}"
    assert (await browser.get(HOME)).status_code == 200


async def test_a1_a_handshake_token_with_our_azp_signs_in(sqlite_firm: Firm) -> None:
    browser = await browser_of(sqlite_firm, OURS)
    assert (await sign_in(sqlite_firm, browser)).status_code == 200


async def test_a1_a_handshake_token_with_a_foreign_azp_signs_nobody_in(sqlite_firm: Firm) -> None:
    browser = await browser_of(sqlite_firm, "https://evil.example")
    page = await sign_in(sqlite_firm, browser)
    assert page.status_code == 401
    assert "instep_session" not in browser.cookies


async def test_a1_an_answer_that_another_browser_began_signs_nobody_in(sqlite_firm: Firm) -> None:
    """Login CSRF: the attacker's own answer, without `azp`, is opened in a browser that began nothing, or its own."""
    attacker = await browser_of(sqlite_firm, None)
    await sign_in(sqlite_firm, attacker, "mallory@example.com")
    (answer,) = [step for step in attacker.trail if "/sign-in/callback" in step and f"{PARAMETER}=" in step][-1:]
    address = answer.removeprefix("GET ")

    victim = Browser(attacker.apps)
    for begun in (False, True):
        if begun:
            await victim.get(HOME)
        await victim.get(address, follow=False)
        assert "instep_session" not in victim.cookies


async def test_a1_a_bearer_without_azp_is_accepted_and_a_foreign_one_refused(sqlite_firm: Firm) -> None:
    sqlite_firm.emulator.seed(SEED)
    await sqlite_firm.settle()
    for azp, status in ((None, 200), (OURS, 200), ("https://evil.example", 401), ("", 401)):
        token = session_token(sqlite_firm, "dana@example.com", azp=azp)
        client = sqlite_firm.api(None, authorization=f"Bearer {token}")
        assert (await client.get("/v1/organizations/northwind/people")).status_code == status, azp
