"""The fast path of the list gives exactly the answers of the ordinary route."""

from typing import Any

import httpx2
import pytest

from instep.auth.authenticator import SESSION_COOKIE
from instep.core.db_errors import DatabaseUnavailableError
from instep.domain.models import SessionClaims
from instep.members import repository
from instep.members.api import parse_plain_query
from instep.members.listing import encode_cursor
from instep.members.models import MemberCursor
from tests.members.firms import ADA, BOB, DAN, ZOE, furnish, sign_in
from tests.support.world import KEY, Firm

pytestmark = pytest.mark.anyio
LIST = "/v1/organizations/acme/people"
AFTER = encode_cursor(MemberCursor(None, ("active", "b", "")))

PLAIN = [
    "",
    "limit=2",
    "limit=500&query=",
    "query=ada&status=active",
    "query=%20b%20",
    "status=active&role=org:admin&role=org:member",
    "status=active,deactivated&role=org:admin,org:member",
    "status=pending&limit=3",
    f"cursor={AFTER}&limit=1",
    "cursor=&status=",
    "query=%C3%A9&status=active",
    "query=%FF&status=active",
    "status=active&query=zz",
]
PLAIN_AND_REFUSED = ["cursor=nonsense", "status=happy", "cursor=7b7d"]
NOT_PLAIN = [
    "limit=0",
    "limit=501",
    "limit=01",
    "limit=2&limit=3",
    "limit=%D9%A3",
    "limit=x",
    "limit=",
    "limit=+5",
    "query=%00",
    "role=%00",
    "status=%00",
    "cursor=%00",
    "query=" + "a" * 201,
    "query=a&query=b",
    "unknown=1",
    "last_active=7d",
]
OUTERMOST = ("x-request-id", "date", "cache-control", "x-content-type-options")
"""Headers of the outermost layer, which the application alone does not set."""


async def request(app: Any, query: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """What is answered, without what differs from one request to the next."""
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://instep.test", headers=headers) as client:
        answer = await client.get(f"{LIST}?{query}" if query else LIST)
    body = answer.json()
    body.pop("request_id", None)
    return answer.status_code, body, {it: v for it, v in answer.headers.items() if it not in OUTERMOST}


async def cookie_of(firm: Firm, email: str) -> dict[str, str]:
    """A console session."""
    sign_in(firm, email)
    claims = SessionClaims(user=firm.user_id(email), session="sess_of_" + email.partition("@")[0])
    return {"cookie": f"{SESSION_COOKIE}={await firm.services.authenticator.sessions.open(claims)}"}


async def test_the_fast_path_and_the_route_give_the_same_answer(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    key = {"authorization": f"Bearer {KEY}"}
    for query in [*PLAIN, *PLAIN_AND_REFUSED, *NOT_PLAIN]:
        ours, route = [await request(app, query, **key) for app in (firm.app, firm.app.app)]
        for _, _, headers in (ours, route):
            headers.pop("content-length")  # of a refusal, the request's id is in the body
        assert ours == route, query
        assert query not in PLAIN or ours[0] == 200, query
        assert query not in PLAIN_AND_REFUSED or ours[0] in (400, 422), query


@pytest.mark.parametrize("query", NOT_PLAIN)
def test_other_queries_are_left_to_the_route(query: str) -> None:
    assert parse_plain_query(query.encode()) is None


@pytest.mark.parametrize("query", [*PLAIN, *PLAIN_AND_REFUSED])
def test_plain_queries_are_answered_by_the_fast_path(query: str) -> None:
    assert parse_plain_query(query.encode()) is not None


async def test_every_principal_gets_the_answer_of_the_route(firm: Firm) -> None:
    firm = await furnish(firm)
    everyone = [{}, {"authorization": "Bearer nonsense"}, *[await cookie_of(firm, it) for it in (ADA, DAN, BOB, ZOE)]]
    for query in ("status=active", "limit=1"):
        answers = [(await request(firm.app, query, **it), await request(firm.app.app, query, **it)) for it in everyone]
        assert [ours[:2] for ours, _ in answers] == [route[:2] for _, route in answers]
        assert [ours[0] for ours, _ in answers] == [401, 401, 200, 200, 200, 404]


async def test_only_a_plain_get_of_the_list_takes_the_fast_path(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    api = firm.api()
    assert (await api.post(LIST)).status_code == 405
    assert (await api.get(f"{LIST}/export?format=json")).status_code == 200
    assert (await api.get("/v1/organizations/nowhere/people")).status_code == 404
    assert (await api.get(LIST)).headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("error", [DatabaseUnavailableError("no database"), RuntimeError("a fault of ours")])
async def test_a_failure_is_answered_as_by_the_route(
    sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    firm = await furnish(sqlite_firm)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(repository, "find_members", fail)
    key = {"authorization": f"Bearer {KEY}"}
    app = firm.app if isinstance(error, DatabaseUnavailableError) else _without_raising(firm.app)
    status, body, headers = await request(app, "status=active", **key)
    assert status == (503 if isinstance(error, DatabaseUnavailableError) else 500)
    assert headers["content-type"] == "application/problem+json"
    assert body["code"] == ("temporarily_unavailable" if status == 503 else "unexpected")


def _without_raising(app: Any) -> Any:
    """Starlette answers for a fault, and then raises it for the server's log."""

    async def quiet(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await app(scope, receive, send)

    return quiet


async def test_an_organization_is_found_and_read_in_one_database_visit(
    sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    firm = await furnish(sqlite_firm)
    db, visits = firm.services.db, []
    read = type(db)._read

    def counted(*args: Any, **more: Any) -> Any:
        visits.append(args[-1])
        return read(*args, **more)

    monkeypatch.setattr(type(db), "_read", counted)
    assert (await firm.api().get(f"{LIST}?status=active")).status_code == 200
    assert len(visits) == 1
