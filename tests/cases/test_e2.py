"""E2: a right key always works; wrong ones are limited."""

import pytest

from instep.auth.rate_limits import MAX_ATTEMPTS_PER_CLIENT, MAX_ATTEMPTS_TOTAL
from tests.support.asgi import send_raw
from tests.support.world import KEY, OURS, Firm

pytestmark = pytest.mark.anyio


async def guess(firm: Firm, times: int) -> list[int]:
    """Send wrong keys and return the statuses."""
    return [(await firm.api(f"wrong {n}").get("/v1/users")).status_code for n in range(times)]


async def test_e2_the_right_key_works_while_others_guess(sqlite_firm: Firm) -> None:
    statuses = await guess(sqlite_firm, MAX_ATTEMPTS_TOTAL + MAX_ATTEMPTS_PER_CLIENT)
    assert statuses[:MAX_ATTEMPTS_PER_CLIENT] == [401] * MAX_ATTEMPTS_PER_CLIENT
    assert set(statuses[MAX_ATTEMPTS_PER_CLIENT:]) == {429}
    assert (await sqlite_firm.api(KEY).get("/v1/users")).status_code == 200
    headers = {"origin": OURS, "sec-fetch-site": "same-origin"}
    form = await sqlite_firm.api(None, **headers).post("/sign-in/key", data={"key": KEY})
    assert form.status_code == 303


async def test_e2_a_wrong_key_too_many_says_when_to_come_back(sqlite_firm: Firm) -> None:
    await guess(sqlite_firm, MAX_ATTEMPTS_PER_CLIENT)
    answer = await sqlite_firm.api("wrong").get("/v1/users")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_tries")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    page = await sqlite_firm.api("wrong", accept="text/html").get("/users")
    assert (page.status_code, 1 <= int(page.headers["retry-after"]) <= 60) == (429, True)
    headers = {"origin": OURS, "sec-fetch-site": "same-origin"}
    form = await sqlite_firm.api(None, **headers).post("/sign-in/key", data={"key": "wrong"})
    assert (form.status_code, 1 <= int(form.headers["retry-after"]) <= 60) == (429, True)


async def test_e2_a_wrong_key_too_many_is_refused_before_its_body(sqlite_firm: Firm) -> None:
    headers = {"authorization": "Bearer wrong", "content-type": "application/json"}
    statuses = [
        await send_raw(sqlite_firm.app, "POST", "/v1/users", headers, [b"{" * 1000] * 100)
        for _ in range(MAX_ATTEMPTS_PER_CLIENT + 1)
    ]
    assert [it.status for it in statuses] == [401] * MAX_ATTEMPTS_PER_CLIENT + [429]
    assert {it.read for it in statuses} == {0}
