"""A database that another process keeps locked: reading goes on, everything else gives up in time."""

from typing import Any

import httpx2
import pytest

from instep.auth.authenticator import SESSION_COOKIE
from instep.core.clock import MINUTE
from instep.core.db import BEST_EFFORT_WRITE_TIMEOUT, REQUEST_WAIT_BUDGET
from instep.domain.models import SessionClaims
from instep.webhooks.receiver import DATABASE_TIMEOUT as DELIVERY_WAIT
from tests.support.deliveries import body
from tests.support.locked import locked
from tests.support.svix import signed
from tests.support.town import SEED
from tests.support.world import DOOR, Firm

pytestmark = pytest.mark.anyio

PEOPLE = "/v1/organizations/northwind/people"
SVIX_GIVES_UP = 15.0


@pytest.fixture
async def busy(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> Firm:
    """A firm with people in it, whose requests wait for the database a moment only."""
    firm.emulator.seed(SEED)
    await firm.settle()
    monkeypatch.setattr("instep.core.db.BEST_EFFORT_WRITE_TIMEOUT", 0.1)
    firm.app.database_wait = 0.3
    firm.services.receiver.database_wait = 0.2
    return firm


async def signed_in(firm: Firm, email: str) -> dict[str, str]:
    """The cookie of somebody who signed in through Clerk."""
    session = (await firm.clerk().post("/v1/sessions", json={"user_id": firm.user_id(email)})).json()
    token = await firm.services.authenticator.sessions.open(
        SessionClaims(user=session["user_id"], session=session["id"])
    )
    return {"cookie": f"{SESSION_COOKIE}={token}"}


async def make_key(firm: Firm) -> str:
    answer = await firm.api().post("/v1/keys", json={"name": "report", "scopes": ["read"]})
    secret: str = answer.json()["secret"]
    return secret


def url_of(firm: Firm) -> str:
    return firm.services.db.engine.url.render_as_string(hide_password=False)


async def deliver(firm: Firm, id: str) -> httpx2.Response:
    event = body("user.updated", {"id": "user_new", "updated_at": 2, "email_addresses": []}, instance=None)
    return await firm.api(None).post(DOOR, content=event, headers=signed(event, at=firm.clock(), id=id))


async def test_e5_a_key_and_a_session_due_for_a_check_read_while_nothing_can_be_written(busy: Firm) -> None:
    key, cookie = await make_key(busy), await signed_in(busy, "dana@example.com")
    busy.clock.advance(2 * MINUTE)
    with locked(url_of(busy)):
        assert (await busy.api(key).get(PEOPLE)).status_code == 200
        assert (await busy.api(None, **cookie).get(PEOPLE)).status_code == 200
        assert (await busy.api(None, **cookie).get("/organizations/northwind/members")).status_code == 200
        assert (await busy.api(None).get("/metrics")).status_code == 200


async def test_e5_a_session_that_ended_at_clerk_is_over_though_that_can_not_be_written(busy: Firm) -> None:
    cookie = await signed_in(busy, "dana@example.com")
    listed = await busy.clerk().get("/v1/sessions", params={"user_id": busy.user_id("dana@example.com")})
    for session in listed.json():
        await busy.clerk().post(f"/v1/sessions/{session['id']}/revoke")
    busy.clock.advance(2 * MINUTE)
    with locked(url_of(busy)):
        for _ in range(3):
            assert (await busy.api(None, **cookie).get(PEOPLE)).status_code == 401


async def test_e5_an_edit_gives_up_with_503_and_says_when_to_try_again(busy: Firm) -> None:
    invitation: Any = {"email": "new@example.com", "role": "org:member"}
    with locked(url_of(busy)):
        refused = await busy.api().post("/v1/organizations/northwind/invitations", json=invitation)
    assert (refused.status_code, refused.json()["code"]) == (503, "temporarily_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    again = await busy.api().post("/v1/organizations/northwind/invitations", json=invitation)
    assert again.status_code == 201


async def test_e5_a_delivery_is_answered_503_and_taken_when_clerk_sends_it_again(busy: Firm) -> None:
    with locked(url_of(busy)):
        refused = await deliver(busy, "msg_1")
        ready = await busy.api(None).get("/health/ready")
    assert (refused.status_code, ready.status_code) == (503, 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert (await deliver(busy, "msg_1")).status_code == 202
    assert (await busy.api(None).get("/health/ready")).status_code == 200


def test_e5_the_waits_that_are_shipped_end_in_time() -> None:
    assert REQUEST_WAIT_BUDGET + BEST_EFFORT_WRITE_TIMEOUT <= 10
    assert 2 * DELIVERY_WAIT < SVIX_GIVES_UP  # a delivery may wait for the commit before its own
