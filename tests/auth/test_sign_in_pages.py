"""Sign-in pages, with a fake provider that can answer anything."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth.break_glass import BreakGlassKey
from instep.auth.sessions import SessionService
from instep.console.sign_in_pages import MAX_FORM_BYTES
from instep.core.db import Database
from instep.domain.errors import ClerkUnavailableError, InvalidSessionError
from instep.domain.models import HandshakeSignedIn, HandshakeSignedOut, SessionClaims
from tests.auth.browser import OURS, Browser, make_app, make_sign_in_pages
from tests.auth.world import KEY, FakeClerk, FakeClock, change_user, claims, put_organization, put_user, sessions

pytestmark = pytest.mark.anyio
CLERK = "http://clerk.test"


class FakeProvider:
    """A sign-in provider: `result` is its answer to a handshake."""

    def __init__(self) -> None:
        self.result: HandshakeSignedIn | HandshakeSignedOut | Exception = HandshakeSignedIn(claims=claims())
        self.tokens: dict[str, SessionClaims] = {}
        self.carried: list[str | None] = []

    def build_handshake_url(self, return_url: str, *, dev_browser: str | None = None) -> str:
        self.carried.append(dev_browser)
        return f"{CLERK}/handshake?{urlencode({'redirect_url': return_url})}"

    def build_sign_in_url(self, return_url: str, *, dev_browser: str | None = None) -> str:
        return f"{CLERK}/sign-in?{urlencode({'redirect_url': return_url})}"

    def list_session_tokens(self, cookies: str) -> list[str]:
        return [
            value for name, _, value in (part.partition("=") for part in cookies.split("; ")) if name == "__session"
        ]

    def find_dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        return query.get("browser")

    async def verify(self, token: str) -> SessionClaims:
        if token not in self.tokens:
            raise InvalidSessionError("no", code="signature")
        return self.tokens[token]

    async def complete(self, query: Mapping[str, str], cookies: str) -> HandshakeSignedIn | HandshakeSignedOut:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def handshake(request: Request) -> Response:
    return RedirectResponse(request.query_params["redirect_url"] + "&__clerk_handshake=secret", 307)


async def sign_in_page(request: Request) -> Response:
    return Response("Clerk's page")


PROVIDER_APP = Starlette(routes=[Route("/handshake", handshake), Route("/sign-in", sign_in_page)])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clerk() -> FakeClerk:
    return FakeClerk()


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def session_service(sqlite_migrated_url: str, clerk: FakeClerk, clock: FakeClock) -> Iterator[SessionService]:
    db = Database(sqlite_migrated_url)
    db.write_sync(put_user, 1)
    db.write_sync(put_organization, 1)
    yield sessions(db, clerk, clock)
    db.close()


@pytest.fixture
def browser(session_service: SessionService, provider: FakeProvider) -> Browser:
    return Browser(
        {"127.0.0.1:8000": make_app(make_sign_in_pages(session_service, provider)), "clerk.test": PROVIDER_APP}
    )


async def test_a_page_without_a_session_signs_in_and_is_shown(browser: Browser) -> None:
    response = await browser.get("/team?tab=2")
    assert (response.status_code, response.json()["name"]) == (200, "First1 Last1")
    assert browser.trail[-1] == f"GET {OURS}/team?tab=2"
    assert len(browser.trail) == 4
    again = await browser.get("/")
    assert again.status_code == 200
    assert len(browser.trail) == 5


async def test_the_session_cookie_is_hidden_from_scripts_and_other_sites(
    session_service: SessionService, provider: FakeProvider
) -> None:
    for origin, is_secure in ((OURS, False), ("https://people.example.com", True)):
        doors = make_sign_in_pages(session_service, provider, public_url=origin)
        browser = Browser({urlsplit(origin).netloc: make_app(doors), "clerk.test": PROVIDER_APP})
        first = await browser.get(f"{origin}/", follow=False)
        back = parse_qs(urlsplit(first.headers["location"]).query)["redirect_url"][0]
        response = await browser.get(back, follow=False)
        name = "__Host-instep_session=" if is_secure else "instep_session="
        cookie = next(line for line in response.headers.get_list("set-cookie") if line.startswith(name))
        assert "Domain" not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Path=/" in cookie
        assert ("Secure" in cookie) is is_secure


async def test_redirects_are_not_cached_and_send_no_referrer(browser: Browser) -> None:
    response = await browser.get("/team", follow=False)
    assert response.status_code == 307
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"


async def test_a_signed_out_user_goes_to_clerks_sign_in_page_and_back(browser: Browser, provider: FakeProvider) -> None:
    provider.result = HandshakeSignedOut(dev_browser="dvb_1")
    assert (await browser.get("/team?tab=2")).text == "Clerk's page"
    back = parse_qs(urlsplit(browser.trail[-1]).query)["redirect_url"][0]
    provider.result = HandshakeSignedIn(claims=claims())
    response = await browser.get(f"{back}&browser=dvb_2")
    assert response.json()["name"] == "First1 Last1"
    assert browser.trail[-1] == f"GET {OURS}/team?tab=2"
    assert provider.carried == [None, "dvb_2"]


async def test_the_dev_browser_token_is_sent_again(browser: Browser, provider: FakeProvider) -> None:
    provider.result = HandshakeSignedOut(dev_browser="dvb_1")
    await browser.get("/team")
    await browser.get("/sign-in/start")
    assert provider.carried == [None, "dvb_1"]


async def test_a_link_from_another_site_signs_nobody_in(browser: Browser, provider: FakeProvider) -> None:
    link = "/sign-in/callback?state=guess&next=/&__clerk_handshake=theirs"
    for _ in range(2):
        response = await browser.get(link, follow=False)
        assert response.headers["location"].startswith(f"{CLERK}/handshake")
        assert "instep_session" not in browser.cookies
    browser.cookies.clear()
    response = await browser.get(f"{link}&again=1", follow=False)
    assert response.status_code == 401
    assert "instep_session" not in browser.cookies


async def test_a_browser_at_another_name_of_this_host_is_signed_in_here(browser: Browser) -> None:
    browser.apps["localhost:8000"] = browser.apps["127.0.0.1:8000"]
    response = await browser.get("http://localhost:8000/team?tab=2")
    assert response.status_code == 200
    assert browser.trail[-1] == f"GET {OURS}/team?tab=2"


async def test_many_pages_opened_at_once_are_all_shown(browser: Browser) -> None:
    firsts = [await browser.get(f"/team?tab={n}", follow=False) for n in range(10)]
    for n, first in enumerate(firsts):
        browser.cookies.pop("instep_session", None)
        response = await browser.get(first.headers["location"])
        assert response.status_code == 200
        assert browser.trail[-1] == f"GET {OURS}/team?tab={n}"


@pytest.mark.parametrize("onward", ["https://evil.example", "//evil.example", "/\\evil.example", "/sign-in/start"])
async def test_no_return_path_leads_to_another_site(browser: Browser, onward: str) -> None:
    response = await browser.get("/sign-in/start?" + urlencode({"next": onward}))
    assert response.status_code == 200
    assert browser.trail[-1] == f"GET {OURS}/"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (InvalidSessionError("old", code="expired"), "clock"),
        (InvalidSessionError("elsewhere", code="party"), "INSTEP_PUBLIC_URL"),
        (InvalidSessionError("forged", code="signature"), "signature"),
        (InvalidSessionError("not done", code="pending"), "Complete it there"),
    ],
)
async def test_an_invalid_handshake_shows_a_page_with_the_reason(
    browser: Browser, provider: FakeProvider, result: Exception, words: str
) -> None:
    provider.result = result
    response = await browser.get("/team")
    assert response.status_code == 401
    assert words in response.text
    assert sum("/handshake" in step for step in browser.trail) == 3
    provider.result = HandshakeSignedIn(claims=claims())
    assert (await browser.get("/team")).status_code == 200


async def test_a_session_that_is_not_kept_shows_a_page_instead_of_a_redirect_loop(
    browser: Browser, clerk: FakeClerk, clock: FakeClock, session_service: SessionService
) -> None:
    class Forgetful(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            if name != "instep_session":
                super().__setitem__(name, value)

    browser.jars["127.0.0.1"] = Forgetful()
    response = await browser.get("/team")
    assert response.status_code == 401
    assert "circle" in response.text
    assert sum("/handshake" in step for step in browser.trail) == 3


async def test_a_browser_without_cookies_gets_an_explanation(browser: Browser) -> None:
    class Refusing(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            pass

    browser.jars["127.0.0.1"] = Refusing()
    response = await browser.get("/team")
    assert response.status_code == 401
    assert "cookie" in response.text


async def test_an_unavailable_clerk_is_reported(browser: Browser, provider: FakeProvider) -> None:
    provider.result = ClerkUnavailableError("no answer")
    response = await browser.get("/team")
    assert response.status_code == 503
    assert "Clerk is not responding" in response.text
    assert "break-glass" in response.text


async def test_a_session_token_in_a_cookie_avoids_the_redirect_through_clerk(
    browser: Browser, provider: FakeProvider, clerk: FakeClerk
) -> None:
    provider.tokens["good"] = claims()
    browser.cookies["__session"] = "good"
    assert (await browser.get("/team")).json()["name"] == "First1 Last1"
    assert not any("/handshake" in step for step in browser.trail)
    assert clerk.asked == ["sess_1"]


@pytest.mark.parametrize("is_forged", [True, False])
async def test_an_invalid_or_ended_token_in_a_cookie_is_ignored(
    browser: Browser, provider: FakeProvider, clerk: FakeClerk, is_forged: bool
) -> None:
    provider.result = HandshakeSignedOut()
    clerk.sessions.clear()
    provider.tokens |= {} if is_forged else {"good": claims()}
    browser.cookies["__session"] = "good"
    assert (await browser.get("/team")).text == "Clerk's page"


async def test_a_fragment_request_reloads_the_page(browser: Browser) -> None:
    response = await browser.get("/team", follow=False, hx_request="true", hx_current_url=f"{OURS}/team?tab=2")
    assert (response.status_code, response.headers["hx-redirect"]) == (401, "/team?tab=2")
    response = await browser.get("/team", follow=False, hx_request="true", hx_current_url="https://evil.example//x")
    assert response.headers["hx-redirect"] == "/"


async def test_forms_and_scripts_without_a_session_are_refused(browser: Browser) -> None:
    response = await browser.post("/team", {}, follow=False)
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in")
    response = await browser.get("/team", follow=False, sec_fetch_dest="empty")
    assert response.status_code == 401


async def test_browsers_without_fetch_metadata_are_recognized_by_their_accept_header(browser: Browser) -> None:
    response = await browser.get("/team", follow=False, sec_fetch_dest="", accept="text/html,*/*")
    assert response.status_code == 307
    response = await browser.get("/team", follow=False, sec_fetch_dest="", accept="*/*")
    assert response.status_code == 401


async def test_a_deactivated_user_sees_an_explanation_and_can_sign_out(
    browser: Browser, session_service: SessionService
) -> None:
    await browser.get("/team")
    session_service.db.write_sync(change_user, 1, is_active=False)
    response = await browser.get("/team")
    assert response.status_code == 403
    assert "no longer have access" in response.text
    assert "Sign out" in response.text
    assert (await browser.post("/sign-out", {})).status_code == 200


async def test_an_organization_of_others_looks_missing(browser: Browser) -> None:
    await browser.get("/")
    theirs, none = await browser.get("/organizations/firm-1"), await browser.get("/organizations/firm-9")
    assert theirs.status_code == none.status_code == 404
    assert "no such organization" in theirs.text
    assert "Firm" not in theirs.text


async def test_signing_out_ends_both_sessions_and_confirms_it(
    browser: Browser, clerk: FakeClerk, provider: FakeProvider
) -> None:
    await browser.get("/team")
    response = await browser.post("/sign-out", {})
    assert "Signed out" in response.text
    assert "/sign-in/start" in response.text
    assert clerk.revoked == ["sess_1"]
    assert not any(name.startswith(("instep_session", "instep_tries")) for name in browser.cookies)
    provider.result = HandshakeSignedOut()
    assert (await browser.get("/team")).text == "Clerk's page"


async def test_signing_out_while_clerk_is_down_reports_what_was_done(browser: Browser, clerk: FakeClerk) -> None:
    await browser.get("/team")
    clerk.failure = ClerkUnavailableError("no answer")
    response = await browser.post("/sign-out", {})
    assert "Signed out" in response.text
    assert "could not be reached" in response.text
    assert "instep_session" not in browser.cookies


async def test_signing_out_without_a_session_is_fine(browser: Browser) -> None:
    assert "Signed out" in (await browser.post("/sign-out", {})).text


@pytest.mark.parametrize("path", ["/sign-out", "/sign-in/key"])
async def test_forms_of_other_sites_change_nothing(browser: Browser, path: str, clerk: FakeClerk) -> None:
    await browser.get("/team")
    kept = browser.cookies["instep_session"]
    for site in ("cross-site", "same-site", "none"):
        response = await browser.post(path, {"key": KEY}, sec_fetch_site=site)
        assert response.status_code == 403
    assert browser.cookies["instep_session"] == kept
    assert clerk.revoked == []


async def test_the_break_glass_key_signs_in_while_clerk_is_down(
    browser: Browser, provider: FakeProvider, clerk: FakeClerk
) -> None:
    provider.result = clerk.failure = ClerkUnavailableError("no answer")
    response = await browser.post("/sign-in/key", {"key": f" {KEY} ", "next": "/team?tab=2"})
    assert response.json() == {"name": "Break-glass key", "kind": "break_glass"}
    assert browser.trail[-1] == f"GET {OURS}/team?tab=2"


async def test_a_wrong_key_is_reported_and_too_many_are_limited(browser: Browser) -> None:
    for _ in range(5):
        response = await browser.post("/sign-in/key", {"key": "guess"})
        assert response.status_code == 401
        assert "Incorrect key" in response.text
    response = await browser.post("/sign-in/key", {"key": "guess"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "60")
    assert "instep_session" not in browser.cookies


@pytest.mark.parametrize(
    "form", [{}, {"key": ""}, {"key": "x" * MAX_FORM_BYTES}, {"key": KEY, "next": "//evil.example"}]
)
async def test_unusual_forms_are_answered(browser: Browser, form: dict[str, str]) -> None:
    response = await browser.post("/sign-in/key", form, follow=False)
    assert response.status_code == (303 if "next" in form else 401)
    assert response.headers.get("location", "/") == "/"


async def test_without_a_break_glass_key_its_form_is_missing(
    session_service: SessionService, provider: FakeProvider
) -> None:
    doors = make_sign_in_pages(replace(session_service, break_glass=BreakGlassKey(None)), provider)
    browser = Browser({"127.0.0.1:8000": make_app(doors)})
    assert "break-glass" not in (await browser.get("/sign-in")).text
    assert (await browser.post("/sign-in/key", {"key": ""})).status_code == 404


async def test_without_clerk_the_key_works_and_the_page_names_the_missing_settings(
    session_service: SessionService,
) -> None:
    browser = Browser({"127.0.0.1:8000": make_app(make_sign_in_pages(session_service, None))})
    response = await browser.get("/team")
    assert response.status_code == 401
    assert "Clerk authentication not configured" in response.text
    assert (await browser.get("/sign-in/callback")).status_code == 200
    assert (await browser.post("/sign-in/key", {"key": KEY})).status_code == 200


async def test_the_api_accepts_bearers_and_cookies(browser: Browser, provider: FakeProvider) -> None:
    provider.tokens["a.b.c"] = claims()
    assert (await browser.get("/v1/me", authorization="Bearer a.b.c")).json() == {"name": "First1 Last1"}
    assert (await browser.get("/v1/me", authorization=f"Bearer {KEY}")).json() == {"name": "Break-glass key"}
    assert (await browser.get("/v1/me")).json() is None
