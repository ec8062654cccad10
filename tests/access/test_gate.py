"""The gate: whom a request comes from."""

from collections.abc import Mapping

import pytest
from starlette.requests import Request

from instep.access.gate import COOKIE, Gate, bearer_of
from instep.access.limits import TooManyTriesError
from instep.access.principal import BREAK_GLASS, Barred
from instep.identity.ports import ProviderDown
from instep.identity.session import SessionClaims, SessionRefused, SignedIn, SignedOut
from instep.kit.db import Db
from tests.access.world import (
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
            raise SessionRefused("no", code="signature")
        return claims()

    def handshake_url(self, back: str, *, dev_browser: str | None = None) -> str:
        raise NotImplementedError

    sign_in_url = handshake_url

    def session_tokens(self, cookies: str) -> list[str]:
        raise NotImplementedError

    def dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        raise NotImplementedError

    async def answer(self, query: Mapping[str, str], cookies: str) -> SignedIn | SignedOut:
        raise NotImplementedError


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def gate(db: Db, tokens: Tokens) -> Gate:
    for n in (1, 2):
        db.writing(put_user, n)
        db.writing(put_organization, n)
        db.writing(put_membership, n, n)
    flow = sessions(db, FakeClerk(), FakeClock())
    return Gate(db, flow, flow.break_glass, tokens)


def request(*, bearer: str | None = None, cookie: str | None = None, host: str = "192.0.2.1") -> Request:
    headers = [(b"authorization", f"Bearer {bearer}".encode())] if bearer is not None else []
    headers += [(b"cookie", f"{COOKIE}={cookie}".encode())] if cookie is not None else []
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (host, 1)})


async def name_of(gate: Gate, asked: Request) -> str | None:
    principal = await gate.principal_of(asked)
    return principal.name if principal else None


async def test_without_anything_nobody_is_there(gate: Gate) -> None:
    assert await gate.principal_of(request()) is None
    assert await gate.access_of(request(), "orn_1") is None


async def test_a_cookie_is_its_session(gate: Gate) -> None:
    token = await gate.sessions.open(claims())
    assert await name_of(gate, request(cookie=token)) == "First1 Last1"


async def test_a_session_token_of_clerks_is_its_person(gate: Gate) -> None:
    assert await name_of(gate, request(bearer="good.session.token")) == "First1 Last1"


async def test_the_break_glass_key_works_as_a_bearer(gate: Gate) -> None:
    assert await gate.principal_of(request(bearer=KEY)) == BREAK_GLASS


@pytest.mark.parametrize("bearer", ["", "nonsense", "bad.session.token", "ak_0123", KEY + "x"])
async def test_a_bad_bearer_is_refused_even_beside_a_good_cookie(gate: Gate, bearer: str) -> None:
    token = await gate.sessions.open(claims())
    assert await gate.principal_of(request(bearer=bearer, cookie=token)) is None


async def test_guessing_at_the_key_through_the_api_is_limited_too(gate: Gate) -> None:
    for _ in range(5):
        assert await gate.principal_of(request(bearer="guess")) is None
    with pytest.raises(TooManyTriesError) as refused:
        await gate.principal_of(request(bearer="guess"))
    assert refused.value.retry_after == 60
    assert await gate.principal_of(request(bearer=KEY)) == BREAK_GLASS
    assert await gate.principal_of(request(bearer=KEY, host="192.0.2.2")) == BREAK_GLASS
    assert await name_of(gate, request(bearer="good.session.token")) == "First1 Last1"


async def test_that_clerks_keys_cannot_be_had_is_not_a_refusal(gate: Gate, tokens: Tokens) -> None:
    tokens.failure = ProviderDown("no answer")
    with pytest.raises(ProviderDown):
        await gate.who(request(bearer="good.session.token"))


async def test_a_barred_person_is_known_and_has_no_principal(gate: Gate, db: Db) -> None:
    db.writing(change_user, 1, is_active=False)
    for asked in (request(bearer="good.session.token"), request(cookie=await gate.sessions.open(claims()))):
        assert isinstance(await gate.who(asked), Barred)
        assert await gate.principal_of(asked) is None
        assert await gate.access_of(asked, "orn_1") is None


async def test_access_is_for_ones_own_organization_only(gate: Gate) -> None:
    asked = request(bearer="good.session.token")
    mine, theirs = await gate.access_of(asked, "firm-1"), await gate.access_of(asked, "firm-2")
    assert mine is not None
    assert mine.organization_id == "orn_1"
    assert theirs is None
    principal = await gate.principal_of(asked)
    assert principal is not None
    assert await gate.access_of(principal, "org_1") == mine
    assert await gate.accesses_of(principal) == [mine]


async def test_one_request_is_looked_up_once(gate: Gate, db: Db) -> None:
    asked = request(bearer="good.session.token")
    first = await gate.principal_of(asked)
    db.writing(change_user, 1, is_active=False)
    assert await gate.principal_of(asked) is first


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer abc ", "abc"), ("Basic abc", None), ("", None), ("Bearer", ""), ("abc", None)],
)
def test_the_header_is_read_as_the_rfc_says(header: str, token: str | None) -> None:
    assert bearer_of(header) == token
