"""The handshake: addresses, cookies and answers."""

import base64
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.handshake import Handshake, cookies_of, frontend_api_of, sign_in_page_of, suffix_of
from instep.clerk.jwks import Jwks
from instep.clerk.session import Verifier
from instep.identity.session import SessionRefused, SignedIn, SignedOut
from instep.kit.clock import Millis
from tests.clerk.tokens import ISSUER, NOW, ORIGIN, OTHER_KEY, claims, jwk, sign

pytestmark = pytest.mark.anyio


def key_of(host: str, prefix: str = "pk_test_") -> str:
    return prefix + base64.b64encode(f"{host}$".encode()).decode()


DEVELOPMENT = key_of("swift-emu-1.clerk.accounts.dev")
PRODUCTION = key_of("clerk.example.com", "pk_live_")


async def fetch() -> dict[str, Any]:
    return {"keys": [jwk()]}


def handshake(publishable_key: str = DEVELOPMENT) -> Handshake:
    keys = Jwks(fetch, clock=lambda: Millis(NOW))
    verifier = Verifier(keys, frozenset([ISSUER]), frozenset([ORIGIN]), clock=lambda: Millis(NOW))
    api = frontend_api_of(publishable_key)
    return Handshake(publishable_key, api, sign_in_page_of(api), verifier)


@pytest.mark.parametrize(
    ("key", "url"),
    [
        (DEVELOPMENT, "https://swift-emu-1.clerk.accounts.dev"),
        (DEVELOPMENT.rstrip("="), "https://swift-emu-1.clerk.accounts.dev"),
        (PRODUCTION, "https://clerk.example.com"),
        (PRODUCTION.rstrip("="), "https://clerk.example.com"),
        (key_of("127.0.0.1:8001"), "http://127.0.0.1:8001"),
        (key_of("localhost:8001"), "http://localhost:8001"),
        (key_of("[::1]:8001"), "http://[::1]:8001"),
    ],
)
def test_the_publishable_key_names_the_frontend_api(key: str, url: str) -> None:
    assert frontend_api_of(key) == url


@pytest.mark.parametrize(
    "key",
    [
        "",
        "pk_test_",
        "pk_test_!!!",
        "sk_test_abc",
        key_of("nodots"),
        key_of("a.b/c"),
        key_of("user@a.b"),
        key_of("a.b$"),
        key_of("a.b")[:-6],
    ],
)
def test_what_is_no_publishable_key_is_a_value_error(key: str) -> None:
    with pytest.raises(ValueError, match="publishable key"):
        frontend_api_of(key)


ENCODED = st.text().map(lambda text: "pk_test_" + base64.b64encode(f"{text}$".encode("utf-8", "replace")).decode())


@given(st.text() | st.text().map("pk_test_{}".format) | ENCODED)
def test_any_key_is_read_or_is_a_value_error(key: str) -> None:
    with suppress(ValueError):
        assert urlsplit(frontend_api_of(key)).hostname


@pytest.mark.parametrize(
    ("api", "page"),
    [
        ("https://swift-emu-1.clerk.accounts.dev", "https://swift-emu-1.accounts.dev/sign-in"),
        ("https://clerk.example.com", "https://accounts.example.com/sign-in"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001/sign-in"),
        ("http://localhost:8001/", "http://localhost:8001/sign-in"),
    ],
)
def test_the_sign_in_page_is_on_the_account_portal(api: str, page: str) -> None:
    assert sign_in_page_of(api) == page


def test_the_cookie_suffix_is_the_one_that_clerks_own_sdk_computes() -> None:
    assert suffix_of("pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk") == "nx2hSE6I"


def test_the_handshake_leads_back_to_us_and_carries_the_dev_browser_of_development_only() -> None:
    url = urlsplit(handshake().handshake_url(f"{ORIGIN}/sign-in/callback?next=%2Fa", dev_browser="dvb_1"))
    query = parse_qs(url.query)
    assert (url.netloc, url.path) == ("swift-emu-1.clerk.accounts.dev", "/v1/client/handshake")
    assert query["redirect_url"] == [f"{ORIGIN}/sign-in/callback?next=%2Fa"]
    assert (query["suffixed_cookies"], query["__clerk_db_jwt"]) == (["true"], ["dvb_1"])
    assert "__clerk_db_jwt" not in handshake(PRODUCTION).handshake_url(ORIGIN, dev_browser="dvb_1")
    assert "dev-browser-missing" in handshake().handshake_url(ORIGIN)


def test_the_suffixed_session_cookie_comes_first_and_foreign_ones_are_not_read() -> None:
    suffix = suffix_of(DEVELOPMENT)
    header = (
        f'prefs={{"a":1,"b":"x"}}; __session=plain; __session_FOREIGN0=foreign; __session_{suffix}=mine; theme="da;rk"'
    )
    assert handshake().session_tokens(header) == ["mine", "plain"]


def test_a_dev_browser_of_another_instance_is_not_sent_to_ours() -> None:
    suffix = suffix_of(DEVELOPMENT)
    header = f"__clerk_db_jwt=theirs; __clerk_db_jwt_{suffix}=ours"
    assert handshake().dev_browser({}, header) == "ours"
    assert handshake().dev_browser({"__clerk_db_jwt": "new"}, header) == "new"
    assert handshake().dev_browser({}, "__clerk_db_jwt=theirs") is None
    assert handshake(PRODUCTION).dev_browser({"__clerk_db_jwt": "new"}, header) is None


@given(st.text())
def test_any_cookie_header_is_read(header: str) -> None:
    assert all(name for name, _ in cookies_of(header))


async def test_an_answer_with_a_session_is_a_sign_in() -> None:
    suffix = suffix_of(DEVELOPMENT)
    lines = [
        f"__session_{suffix}={sign(claims())}; Path=/; SameSite=Lax",
        "__client_uat=1; Path=/",
        f"__clerk_db_jwt_{suffix}=dvb_1; Path=/",
    ]
    answer = await handshake().answer({"__clerk_handshake": sign({"handshake": lines})}, "")
    assert isinstance(answer, SignedIn)
    assert (answer.claims.user, answer.claims.session, answer.dev_browser) == ("user_2qV", "sess_2qV", "dvb_1")


async def test_an_answer_without_a_session_is_signed_out() -> None:
    lines = ["__session=; Path=/; Max-Age=0", "__client_uat=0; Path=/", "__clerk_db_jwt=dvb_1; Path=/"]
    assert await handshake().answer({"__clerk_handshake": sign({"handshake": lines})}, "") == SignedOut(
        dev_browser="dvb_1"
    )


async def test_a_production_answer_is_in_a_cookie() -> None:
    token = sign({"handshake": [f"__session={sign(claims())}; Path=/"]})
    answer = await handshake(PRODUCTION).answer({}, f"a=b; __clerk_handshake={token}")
    assert isinstance(answer, SignedIn)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, "no_handshake"),
        (sign({"handshake": []}, key=OTHER_KEY), "signature"),
        (sign({"handshake": []}, cat="cl_B7d4PD222AAA"), "machine_token"),
        (sign({"handshake": [f"__session={sign(claims(), key=OTHER_KEY)}"]}), "signature"),
        (sign({"handshake": [f"__session={sign(claims(azp='https://evil.example'))}"]}), "party"),
        (sign({"handshake": [f"__session={sign(claims(exp=NOW // 1000 - 60))}"]}), "expired"),
        (sign({"handshake": "text"}), "malformed"),
        (sign({"handshake": [7]}), "malformed"),
        (sign(claims()), "malformed"),
        ("nonsense", "malformed"),
    ],
)
async def test_answers_that_clerk_did_not_give_us_now_are_refused(token: str | None, code: str) -> None:
    with pytest.raises(SessionRefused) as refused:
        await handshake().answer({"__clerk_handshake": token} if token else {}, "")
    assert refused.value.code == code


@given(st.text())
async def test_any_answer_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(SessionRefused):
        await handshake().answer({"__clerk_handshake": text}, text)
