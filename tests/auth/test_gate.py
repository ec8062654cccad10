"""The gate: whom a request comes from."""

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
    """Believes `good.session.token`."""

    failure: Exception | None = None

    async def verify(self, token: str) -> SessionClaims:
        if self.failure:
            raise self.failure
        if token != "good.session.token":
            raise InvalidSessionError("no", code="signature")
        return claims()

    def handshake_url(self, back: str, *, dev_browser: str | None = None) -> str:
        raise NotImplementedError

    sign_in_url = handshake_url

    def session_tokens(self, cookies: str) -> list[str]:
        raise NotImplementedError

    def dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        raise NotImplementedError

    async def answer(self, query: Mapping[str, str], cookies: str) -> HandshakeSignedIn | HandshakeSignedOut:
        raise NotImplementedError


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def gate(db: Database, tokens: Tokens) -> Authenticator:
    for n in (1, 2):
        db.write_sync(put_user, n)
        db.write_sync(put_organization, n)
        db.write_sync(put_membership, n, n)
    flow = sessions(db, FakeClerk(), FakeClock())
    return Authenticator(db, flow, flow.break_glass, tokens)


def request(*, bearer: str | None = None, cookie: str | None = None, host: str = "192.0.2.1") -> Request:
    headers = [(b"authorization", f"Bearer {bearer}".encode())] if bearer is not None else []
    headers += [(b"cookie", f"{SESSION_COOKIE}={cookie}".encode())] if cookie is not None else []
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (host, 1)})


async def name_of(gate: Authenticator, asked: Request) -> str | None:
    principal = await gate.get_principal(asked)
    return principal.name if principal else None


async def test_without_anything_nobody_is_there(gate: Authenticator) -> None:
    assert await gate.get_principal(request()) is None
    assert await gate.find_access(request(), "orn_1") is None


async def test_a_cookie_is_its_session(gate: Authenticator) -> None:
    token = await gate.sessions.open(claims())
    assert await name_of(gate, request(cookie=token)) == "First1 Last1"


async def test_a_session_token_of_clerks_is_its_person(gate: Authenticator) -> None:
    assert await name_of(gate, request(bearer="good.session.token")) == "First1 Last1"


async def test_the_break_glass_key_works_as_a_bearer(gate: Authenticator) -> None:
    assert await gate.get_principal(request(bearer=KEY)) == BREAK_GLASS_PRINCIPAL


@pytest.mark.parametrize("bearer", ["", "nonsense", "bad.session.token", "ak_0123", KEY + "x"])
async def test_a_bad_bearer_is_refused_even_beside_a_good_cookie(gate: Authenticator, bearer: str) -> None:
    token = await gate.sessions.open(claims())
    assert await gate.get_principal(request(bearer=bearer, cookie=token)) is None


async def test_guessing_at_the_key_through_the_api_is_limited_too(gate: Authenticator) -> None:
    for _ in range(5):
        assert await gate.get_principal(request(bearer="guess")) is None
    with pytest.raises(TooManyAttemptsError) as refused:
        await gate.get_principal(request(bearer="guess"))
    assert refused.value.retry_after == 60
    assert await gate.get_principal(request(bearer=KEY)) == BREAK_GLASS_PRINCIPAL
    assert await gate.get_principal(request(bearer=KEY, host="192.0.2.2")) == BREAK_GLASS_PRINCIPAL
    assert await name_of(gate, request(bearer="good.session.token")) == "First1 Last1"


async def test_that_clerks_keys_cannot_be_had_is_not_a_refusal(gate: Authenticator, tokens: Tokens) -> None:
    tokens.failure = ClerkUnavailableError("no answer")
    with pytest.raises(ClerkUnavailableError):
        await gate.who(request(bearer="good.session.token"))


async def test_a_barred_person_is_known_and_has_no_principal(gate: Authenticator, db: Database) -> None:
    db.write_sync(change_user, 1, is_active=False)
    for asked in (request(bearer="good.session.token"), request(cookie=await gate.sessions.open(claims()))):
        assert isinstance(await gate.who(asked), DeniedPrincipal)
        assert await gate.get_principal(asked) is None
        assert await gate.find_access(asked, "orn_1") is None


async def test_access_is_for_ones_own_organization_only(gate: Authenticator) -> None:
    asked = request(bearer="good.session.token")
    mine, theirs = await gate.find_access(asked, "firm-1"), await gate.find_access(asked, "firm-2")
    assert mine is not None
    assert mine.organization_id == "orn_1"
    assert theirs is None
    principal = await gate.get_principal(asked)
    assert principal is not None
    assert await gate.find_access(principal, "org_1") == mine
    assert await gate.list_accesses(principal) == [mine]


async def test_one_request_is_looked_up_once(gate: Authenticator, db: Database) -> None:
    asked = request(bearer="good.session.token")
    first = await gate.get_principal(asked)
    db.write_sync(change_user, 1, is_active=False)
    assert await gate.get_principal(asked) is first


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer abc ", "abc"), ("Basic abc", None), ("", None), ("Bearer", ""), ("abc", None)],
)
def test_the_header_is_read_as_the_rfc_says(header: str, token: str | None) -> None:
    assert parse_bearer_token(header) == token
