"""Sessions of a user: visible to the user, ended in Clerk and here, never those of another user."""

from typing import Any

import pytest

from instep.auth.authenticator import SESSION_COOKIE
from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.domain.models import SessionClaims
from tests.support.world import Firm
from tests.users.firms import ADA, BOB, LOU, furnish, operations, person, stop_everywhere, users_of

pytestmark = pytest.mark.anyio


async def sign_in(firm: Firm, email: str) -> str:
    """Create a session of a user in Clerk; return its id."""
    async with firm.clerk() as clerk:
        answer = await clerk.post("/v1/sessions", json={"user_id": firm.user_id(email)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def listed(firm: Firm, email: str) -> list[str]:
    answer = await firm.api().get(f"/v1/users/{(await person(firm, email)).id}/sessions")
    assert answer.status_code == 200, answer.text
    return [it["id"] for it in answer.json()["data"]]


async def end(firm: Firm, email: str, **body: Any) -> tuple[int, Any]:
    answer = await firm.api().post(f"/v1/users/{(await person(firm, email)).id}/sessions/end", json=body)
    return answer.status_code, answer.json()


async def test_one_session_ends_in_clerk_and_on_the_console(firm: Firm) -> None:
    await furnish(firm)
    first, second = await sign_in(firm, BOB), await sign_in(firm, BOB)
    assert await listed(firm, BOB) == [second, first]
    cookies = []
    for session in (first, second):
        claims = SessionClaims(user=firm.user_id(BOB), session=session)
        cookies.append(await firm.services.authenticator.sessions.open(claims))
    assert await end(firm, BOB, session=first) == (200, {"ended": 1})
    assert await listed(firm, BOB) == [second]
    statuses = [
        (await firm.api(None, cookie=f"{SESSION_COOKIE}={it}").get(f"/v1/users/{firm.user_id(BOB)}")).status_code
        for it in cookies
    ]
    assert statuses == [401, 200]
    assert [it.state for it in await operations(firm, "user.sessions")] == ["settled"]


async def test_all_sessions_end(firm: Firm) -> None:
    await furnish(firm)
    for _ in range(2):
        await sign_in(firm, BOB)
    other = await sign_in(firm, ADA)
    assert await end(firm, BOB) == (200, {"ended": 2})
    assert await listed(firm, BOB) == []
    assert await listed(firm, ADA) == [other]


async def test_the_session_of_another_user_is_not_found(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    other = await sign_in(firm, ADA)
    status, body = await end(firm, BOB, session=other)
    assert (status, body["code"]) == (404, "session_not_found")
    assert await listed(firm, ADA) == [other]
    assert (await end(firm, LOU))[1]["code"] == "no_clerk_account"


async def test_a_lost_response_is_resolved(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    session = await sign_in(firm, BOB)
    firm.emulator.fail("RevokeSession", status=500, count=1)
    status, body = await end(firm, BOB, session=session)
    assert (status, body["code"]) == (503, "clerk_sync_failed")
    assert await listed(firm, BOB) == [session]


async def test_a_repeated_request_gets_the_same_response(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    session, other = await sign_in(firm, BOB), await sign_in(firm, BOB)
    path, key = f"/v1/users/{(await person(firm, BOB)).id}/sessions/end", {"idempotency-key": "once"}
    answers = [await firm.api().post(path, json={"session": session}, headers=key) for _ in range(2)]
    assert [(it.status_code, it.json()) for it in answers] == [(200, {"ended": 1})] * 2
    assert await listed(firm, BOB) == [other]
    assert len(await operations(firm, "user.sessions")) == 1


async def test_ending_all_sessions_survives_any_crash(firm: Firm) -> None:
    await furnish(firm)
    bob = await person(firm, BOB)

    async def prepare(_n: int) -> object:
        return [await sign_in(firm, BOB) for _ in range(2)]

    async def act(_n: int) -> object:
        return await users_of(firm).revoke_sessions(BREAK_GLASS_PRINCIPAL, bob.id)

    async def hold(_n: int, was_kept: bool) -> None:
        assert (await listed(firm, BOB) == []) is was_kept

    assert await stop_everywhere(firm, act, hold, kind="user.sessions", prepare=prepare) > 5
