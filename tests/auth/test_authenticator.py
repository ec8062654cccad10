"""Authentication of requests by cookie, session token, API key and break-glass key."""

from collections.abc import Mapping

import pytest
from starlette.requests import Request

from instep.auth.authenticator import SESSION_COOKIE, Authenticator, parse_bearer_token
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, DeniedPrincipal
from instep.auth.rate_limits import TooManyAttemptsError
from instep.core.db import Database
from instep.domain.errors import ClerkUnavailableError, InvalidSessionError
from instep.domain.models import HandshakeSignedIn, HandshakeSignedOut, SessionClaims
from tests.auth.world import (
    KEY,
    FakeClerk,
    FakeClock,
    change_user,
    claims,
    put_membership,
    put_organization,
    put_user,
    sessions,
)

pytestmark = pytest.mark.anyio


class Tokens:
    """Accepts `good.session.token`."""

    failure: Exception | None = None

    async def verify(self, token: str) -> SessionClaims:
        if self.failure:
            raise self.failure
        if token != "good.session.token":
            raise InvalidSessionError("no", code="signature")
        return claims()

    def build_handshake_url(self, return_url: str, *, dev_browser: str | None = None) -> str:
        raise NotImplementedError

    build_sign_in_url = build_handshake_url

    def list_session_tokens(self, cookies: str) -> list[str]:
        raise NotImplementedError

    def find_dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        raise NotImplementedError

    async def complete(self, query: Mapping[str, str], cookies: str) -> HandshakeSignedIn | HandshakeSignedOut:
        raise NotImplementedError


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def authenticator(db: Database, tokens: Tokens) -> Authenticator:
    for n in (1, 2):
        db.write_sync(put_user, n)
        db.write_sync(put_organization, n)
        db.write_sync(put_membership, n, n)
    session_service = sessions(db, FakeClerk(), FakeClock())
    return Authenticator(db, session_service, session_service.break_glass, tokens)


def request(*, bearer: str | None = None, cookie: str | None = None, host: str = "192.0.2.1") -> Request:
    headers = [(b"authorization", f"Bearer {bearer}".encode())] if bearer is not None else []
    headers += [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())] if cookie is not None else []
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (host, 1)})


async def get_name(authenticator: Authenticator, sent: Request) -> str | None:
    principal = await authenticator.get_principal(sent)
    return principal.name if principal else None


async def test_a_request_without_credentials_has_no_principal(authenticator: Authenticator) -> None:
    assert await authenticator.get_principal(request()) is None
    assert await authenticator.find_access(request(), "orn_1") is None


async def test_a_cookie_authenticates_its_sessions_user(authenticator: Authenticator) -> None:
    token = await authenticator.sessions.open(claims())
    assert await get_name(authenticator, request(cookie=token)) == "First1 Last1"


async def test_a_session_token_authenticates_its_user(authenticator: Authenticator) -> None:
    assert await get_name(authenticator, request(bearer="good.session.token")) == "First1 Last1"


async def test_the_break_glass_key_works_as_a_bearer(authenticator: Authenticator) -> None:
    assert await authenticator.get_principal(request(bearer=KEY)) == BREAK_GLASS_PRINCIPAL


@pytest.mark.parametrize("bearer", ["", "nonsense", "bad.session.token", "ak_0123", KEY + "x"])
async def test_a_bad_bearer_is_refused_even_with_a_good_cookie(authenticator: Authenticator, bearer: str) -> None:
    token = await authenticator.sessions.open(claims())
    assert await authenticator.get_principal(request(bearer=bearer, cookie=token)) is None


async def test_guessing_the_key_through_the_api_is_limited_too(authenticator: Authenticator) -> None:
    for _ in range(5):
        assert await authenticator.get_principal(request(bearer="guess")) is None
    with pytest.raises(TooManyAttemptsError) as refused:
        await authenticator.get_principal(request(bearer="guess"))
    assert refused.value.retry_after == 60
    assert await authenticator.get_principal(request(bearer=KEY)) == BREAK_GLASS_PRINCIPAL
    assert await authenticator.get_principal(request(bearer=KEY, host="192.0.2.2")) == BREAK_GLASS_PRINCIPAL
    assert await get_name(authenticator, request(bearer="good.session.token")) == "First1 Last1"


async def test_unavailable_signing_keys_are_no_refusal(authenticator: Authenticator, tokens: Tokens) -> None:
    tokens.failure = ClerkUnavailableError("no answer")
    with pytest.raises(ClerkUnavailableError):
        await authenticator.authenticate(request(bearer="good.session.token"))


async def test_a_denied_user_is_recognized_and_has_no_principal(authenticator: Authenticator, db: Database) -> None:
    db.write_sync(change_user, 1, is_active=False)
    for sent in (request(bearer="good.session.token"), request(cookie=await authenticator.sessions.open(claims()))):
        assert isinstance(await authenticator.authenticate(sent), DeniedPrincipal)
        assert await authenticator.get_principal(sent) is None
        assert await authenticator.find_access(sent, "orn_1") is None


async def test_access_is_limited_to_own_organizations(authenticator: Authenticator) -> None:
    sent = request(bearer="good.session.token")
    mine, theirs = await authenticator.find_access(sent, "firm-1"), await authenticator.find_access(sent, "firm-2")
    assert mine is not None
    assert mine.organization_id == "orn_1"
    assert theirs is None
    principal = await authenticator.get_principal(sent)
    assert principal is not None
    assert await authenticator.find_access(principal, "org_1") == mine
    assert await authenticator.list_accesses(principal) == [mine]


async def test_a_request_is_authenticated_once(authenticator: Authenticator, db: Database) -> None:
    sent = request(bearer="good.session.token")
    first = await authenticator.get_principal(sent)
    db.write_sync(change_user, 1, is_active=False)
    assert await authenticator.get_principal(sent) is first


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer abc ", "abc"), ("Basic abc", None), ("", None), ("Bearer", ""), ("abc", None)],
)
def test_the_authorization_header_is_parsed_as_in_the_rfc(header: str, token: str | None) -> None:
    assert parse_bearer_token(header) == token
