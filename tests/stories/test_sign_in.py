"""Signing in through the emulator, nothing made up between: handshake, Clerk's sign-in page, sessions, signing out."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock
from instep.auth.break_glass import BreakGlassKey
from instep.auth.sessions import SESSION_CHECK_INTERVAL, SessionService
from instep.clerk.client import ClerkClient
from instep.clerk.handshake import ClerkHandshake, derive_frontend_api_url, derive_sign_in_page_url
from instep.clerk.jwks import JwksKeySource
from instep.clerk.session_tokens import SessionTokenVerifier
from instep.core.db import Database
from tests.auth.browser import OURS, Browser, make_app, make_sign_in_pages
from tests.auth.world import FakeClock, change_user, put_user
from tests.support.firms import BOTH_PROFILES

pytestmark = [pytest.mark.anyio, BOTH_PROFILES]

HOSTS = ["http://127.0.0.1:8001", "http://localhost:8001"]
PEM = (
    generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
)
SEED = {
    "users": [
        {"email_address": "maya@example.com", "first_name": "Maya", "password": "correct horse battery"},
        {"email_address": "omar@example.com", "first_name": "Omar", "password": "correct horse battery"},
    ],
    "organizations": [{"name": "Northwind Law", "members": [{"user": "maya@example.com", "role": "org:admin"}]}],
}


@dataclass
class House:
    """Everything of one test."""

    clerk: str
    emulator: Emulator
    client: ClerkClient
    clock: FakeClock
    db: Database
    browser: Browser

    def user_id(self, email: str) -> str:
        found = [user.id for user in self.emulator.state.users.oldest_first() if user.identifier == email]
        return found[0]

    async def sign_in(self, email: str = "maya@example.com", path: str = "/team?tab=2") -> httpx2.Response:
        """Open a page and sign in on the way, as a person does."""
        page = await self.browser.get(path)
        assert "Maya" in page.text, "Clerk's sign-in page"
        back = parse_qs(urlsplit(self.browser.trail[-1]).query)["redirect_url"][0]
        form = {"user_id": self.user_id(email), "redirect_url": back}
        return await self.browser.post(f"{self.clerk}/sign-in", form)


@pytest.fixture(params=HOSTS)
async def house(request: pytest.FixtureRequest, sqlite_migrated_url: str, profile: str) -> AsyncIterator[House]:
    """On another host than ours the browser keeps Clerk's cookies apart; the dev browser in addresses connects them."""
    clerk: str = request.param
    clock = FakeClock()
    emulator = Emulator(public_url=clerk, private_key=PEM, clock=Clock(wall=clock), id_seed=1, profile=profile)
    emulator.seed(SEED)
    client = ClerkClient(emulator.secret_key, api_url=clerk, transport=httpx2.ASGITransport(app=emulator))
    db = Database(sqlite_migrated_url)
    api = derive_frontend_api_url(emulator.publishable_key)
    verifier = SessionTokenVerifier(
        JwksKeySource(client.fetch_jwks, clock=clock), frozenset([api]), frozenset([OURS]), clock
    )
    sign_in = ClerkHandshake(emulator.publishable_key, api, derive_sign_in_page_url(api), verifier)
    sessions = SessionService(db, client, BreakGlassKey(None), clock=clock)
    browser = Browser(
        {"127.0.0.1:8000": make_app(make_sign_in_pages(sessions, sign_in)), urlsplit(clerk).netloc: emulator}
    )
    house = House(clerk, emulator, client, clock, db, browser)
    db.write_sync(put_user, 1, clerk_id=house.user_id("maya@example.com"), first_name="Maya", last_name=None)
    yield house
    await client.close()
    db.close()


async def test_a_person_signs_in_once_and_lands_on_the_page_they_asked_for(house: House) -> None:
    response = await house.sign_in()
    assert response.json() == {"name": "Maya", "kind": "person"}
    assert house.browser.trail[-1] == f"GET {OURS}/team?tab=2"
    steps = len(house.browser.trail)
    assert (await house.browser.get("/")).json()["name"] == "Maya"
    assert len(house.browser.trail) == steps + 1


async def test_who_is_signed_in_at_clerk_already_is_not_asked_again(house: House) -> None:
    await house.sign_in()
    house.browser.cookies.pop("instep_session")
    assert (await house.browser.get("/team")).json()["name"] == "Maya"
    assert not any("/sign-in?" in step for step in house.browser.trail[-3:])


async def test_no_token_stays_in_an_address_of_ours(house: House) -> None:
    await house.sign_in()
    ours = [step for step in house.browser.trail if step.startswith(f"GET {OURS}/team")]
    assert ours
    assert not any("__clerk" in step for step in ours)


async def test_revoked_at_clerk_is_out_within_a_minute(house: House) -> None:
    await house.sign_in()
    session = next(iter(house.emulator.state.sessions.oldest_first()))
    await house.client.revoke_session(session.id)
    assert (await house.browser.get("/")).status_code == 200
    house.clock.advance(SESSION_CHECK_INTERVAL)
    await house.browser.get("/")
    assert house.browser.trail[-1].startswith(f"GET {house.clerk}/sign-in")


async def test_a_deactivated_person_is_out_at_the_next_click(house: House) -> None:
    await house.sign_in()
    house.db.write_sync(change_user, 1, is_active=False)
    assert (await house.browser.get("/")).status_code == 403


async def test_signing_out_here_signs_out_at_clerk(house: House) -> None:
    await house.sign_in()
    assert "Signed out" in (await house.browser.post("/sign-out", {})).text
    await house.browser.get("/")
    assert house.browser.trail[-1].startswith(f"GET {house.clerk}/sign-in")


async def test_someone_else_can_sign_in_in_the_same_browser(house: House) -> None:
    await house.sign_in()
    await house.browser.post("/sign-out", {})
    response = await house.sign_in("omar@example.com")
    assert response.json()["name"] == house.user_id("omar@example.com")


async def test_while_the_backend_api_is_down_open_pages_go_on(house: House) -> None:
    await house.sign_in()
    house.emulator.fail("GetSession", status=500, count=10)
    house.clock.advance(SESSION_CHECK_INTERVAL)
    assert (await house.browser.get("/")).json()["name"] == "Maya"


async def test_a_session_token_of_the_backend_api_is_refused_with_a_foreign_origin_alone(
    house: House, profile: str
) -> None:
    """Where no token names an origin (`minimal`), none is refused for it."""
    elsewhere = None if profile == "default" else "Maya"
    house.emulator.state.settings.azp_without_origin = True
    await house.sign_in()
    session = next(iter(house.emulator.state.sessions.oldest_first()))
    tokens = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=house.emulator), base_url=house.clerk)
    headers = {"Authorization": f"Bearer {house.emulator.secret_key}"}
    for origin, name in (("https://app.example.com", elsewhere), (OURS, "Maya"), ("", "Maya")):
        session.origin = origin
        answer = await tokens.post(f"/v1/sessions/{session.id}/tokens", headers=headers, json={})
        bearer = f"Bearer {answer.json()['jwt']}"
        asked = await house.browser.get("/v1/me", authorization=bearer)
        assert asked.json() == ({"name": name} if name else None)
    await tokens.aclose()
