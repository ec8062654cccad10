"""The handshake: addresses, cookies and answers."""

import base64
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.handshake import (
    ClerkHandshake,
    derive_cookie_suffix,
    derive_frontend_api_url,
    derive_sign_in_page_url,
    parse_cookie_header,
)
from instep.clerk.jwks import JwksKeySource
from instep.clerk.session_tokens import SessionTokenVerifier
from instep.core.clock import Millis
from instep.domain.errors import InvalidSessionError
from instep.domain.models import HandshakeSignedIn, HandshakeSignedOut
from tests.clerk.tokens import ISSUER, NOW, ORIGIN, OTHER_KEY, claims, jwk, sign

pytestmark = pytest.mark.anyio


def key_of(host: str, prefix: str = "pk_test_") -> str:
    return prefix + base64.b64encode(f"{host}$".encode()).decode()


DEVELOPMENT = key_of("swift-emu-1.clerk.accounts.dev")
PRODUCTION = key_of("clerk.example.com", "pk_live_")


async def fetch() -> dict[str, Any]:
    return {"keys": [jwk()]}


def handshake(publishable_key: str = DEVELOPMENT) -> ClerkHandshake:
    keys = JwksKeySource(fetch, clock=lambda: Millis(NOW))
    verifier = SessionTokenVerifier(keys, frozenset([ISSUER]), frozenset([ORIGIN]), clock=lambda: Millis(NOW))
    api = derive_frontend_api_url(publishable_key)
    return ClerkHandshake(publishable_key, api, derive_sign_in_page_url(api), verifier)


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
    assert derive_frontend_api_url(key) == url


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
        derive_frontend_api_url(key)


ENCODED = st.text().map(lambda text: "pk_test_" + base64.b64encode(f"{text}$".encode("utf-8", "replace")).decode())


@given(st.text() | st.text().map("pk_test_{}".format) | ENCODED)
def test_any_key_is_read_or_is_a_value_error(key: str) -> None:
    with suppress(ValueError):
        assert urlsplit(derive_frontend_api_url(key)).hostname


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
    assert derive_sign_in_page_url(api) == page


def test_the_cookie_suffix_is_the_one_that_clerks_own_sdk_computes() -> None:
    assert derive_cookie_suffix("pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk") == "nx2hSE6I"


def test_the_handshake_leads_back_to_us_and_carries_the_dev_browser_of_development_only() -> None:
    url = urlsplit(handshake().build_handshake_url(f"{ORIGIN}/sign-in/callback?next=%2Fa", dev_browser="dvb_1"))
    query = parse_qs(url.query)
    assert (url.netloc, url.path) == ("swift-emu-1.clerk.accounts.dev", "/v1/client/handshake")
    assert query["redirect_url"] == [f"{ORIGIN}/sign-in/callback?next=%2Fa"]
    assert (query["suffixed_cookies"], query["__clerk_db_jwt"]) == (["true"], ["dvb_1"])
    assert "__clerk_db_jwt" not in handshake(PRODUCTION).build_handshake_url(ORIGIN, dev_browser="dvb_1")
    assert "dev-browser-missing" in handshake().build_handshake_url(ORIGIN)


def test_the_suffixed_session_cookie_comes_first_and_foreign_ones_are_not_read() -> None:
    suffix = derive_cookie_suffix(DEVELOPMENT)
    header = (
        f'prefs={{"a":1,"b":"x"}}; __session=plain; __session_FOREIGN0=foreign; __session_{suffix}=mine; theme="da;rk"'
    )
    assert handshake().list_session_tokens(header) == ["mine", "plain"]


def test_a_dev_browser_of_another_instance_is_not_sent_to_ours() -> None:
    suffix = derive_cookie_suffix(DEVELOPMENT)
    header = f"__clerk_db_jwt=theirs; __clerk_db_jwt_{suffix}=ours"
    assert handshake().find_dev_browser({}, header) == "ours"
    assert handshake().find_dev_browser({"__clerk_db_jwt": "new"}, header) == "new"
    assert handshake().find_dev_browser({}, "__clerk_db_jwt=theirs") is None
    assert handshake(PRODUCTION).find_dev_browser({"__clerk_db_jwt": "new"}, header) is None


@given(st.text())
def test_any_cookie_header_is_read(header: str) -> None:
    assert all(name for name, _ in parse_cookie_header(header))


async def test_an_answer_with_a_session_is_a_sign_in() -> None:
    suffix = derive_cookie_suffix(DEVELOPMENT)
    lines = [
        f"__session_{suffix}={sign(claims())}; Path=/; SameSite=Lax",
        "__client_uat=1; Path=/",
        f"__clerk_db_jwt_{suffix}=dvb_1; Path=/",
    ]
    answer = await handshake().complete({"__clerk_handshake": sign({"handshake": lines})}, "")
    assert isinstance(answer, HandshakeSignedIn)
    assert (answer.claims.user, answer.claims.session, answer.dev_browser) == ("user_2qV", "sess_2qV", "dvb_1")


async def test_an_answer_without_a_session_is_signed_out() -> None:
    lines = ["__session=; Path=/; Max-Age=0", "__client_uat=0; Path=/", "__clerk_db_jwt=dvb_1; Path=/"]
    assert await handshake().complete({"__clerk_handshake": sign({"handshake": lines})}, "") == HandshakeSignedOut(
        dev_browser="dvb_1"
    )


async def test_a_production_answer_is_in_a_cookie() -> None:
    token = sign({"handshake": [f"__session={sign(claims())}; Path=/"]})
    answer = await handshake(PRODUCTION).complete({}, f"a=b; __clerk_handshake={token}")
    assert isinstance(answer, HandshakeSignedIn)


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
    with pytest.raises(InvalidSessionError) as refused:
        await handshake().complete({"__clerk_handshake": token} if token else {}, "")
    assert refused.value.code == code


@given(st.text())
async def test_any_answer_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(InvalidSessionError):
        await handshake().complete({"__clerk_handshake": text}, text)
