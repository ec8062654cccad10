"""A wall clock that goes back six hours: what was a moment ago is not believed, what is due is due at once."""

import asyncio
from collections.abc import Callable

import pytest

from instep.auth.authenticator import SESSION_COOKIE
from instep.core.clock import HOUR, MINUTE
from instep.domain.errors import ClerkUnavailableError
from instep.domain.models import SessionClaims
from instep.operations import repository
from instep.webhooks import repository as webhooks_repository
from tests.support.deliveries import body
from tests.support.svix import signed
from tests.support.town import SEED
from tests.support.world import DOOR, Firm

pytestmark = pytest.mark.anyio

BACK = -6 * HOUR
PEOPLE = "/v1/organizations/northwind/people"


@pytest.fixture
async def shop(firm: Firm) -> Firm:
    """A firm with people in it, on each database."""
    firm.emulator.seed(SEED)
    await firm.settle()
    return firm


async def sign_in(firm: Firm, email: str) -> tuple[dict[str, str], str]:
    session = (await firm.clerk().post("/v1/sessions", json={"user_id": firm.user_id(email)})).json()
    token = await firm.services.authenticator.sessions.open(
        SessionClaims(user=session["user_id"], session=session["id"])
    )
    return {"cookie": f"{SESSION_COOKIE}={token}"}, session["id"]


async def deliver(firm: Firm, id: str) -> None:
    data = {"id": "user_new", "updated_at": 2, "email_addresses": [], "first_name": "New", "last_name": None}
    data |= {"username": None, "external_id": None, "banned": False, "deprovisioned": False, "public_metadata": {}}
    event = body("user.updated", data | {"primary_email_address_id": None}, instance=firm.emulator.state.id)
    answer = await firm.api(None).post(DOOR, content=event, headers=signed(event, at=firm.clock(), id=id))
    assert answer.status_code == 202


async def until(firm: Firm, holds: Callable[[], bool]) -> None:
    """Let the worker work until `holds`; a minute is more than it ever needs."""
    for _ in range(1_200):
        if holds():
            return
        await asyncio.sleep(0.05)
    pytest.fail("the worker did not come to it")


async def test_e8_a_session_that_ended_at_clerk_is_over(shop: Firm) -> None:
    cookie, session = await sign_in(shop, "dana@example.com")
    assert (await shop.api(None, **cookie).get(PEOPLE)).status_code == 200
    await shop.clerk().post(f"/v1/sessions/{session}/revoke")
    shop.clock.advance(BACK)
    assert (await shop.api(None, **cookie).get(PEOPLE)).status_code == 401


async def test_e8_a_session_that_goes_on_is_asked_about_once_and_not_at_each_request(shop: Firm) -> None:
    cookie, session = await sign_in(shop, "dana@example.com")
    shop.clock.advance(BACK)
    asked: list[str] = []
    source = shop.services.authenticator.sessions.sessions_api
    find = source.find_session

    async def counting(id: str) -> object:
        asked.append(id)
        return await find(id)

    source.find_session = counting  # type: ignore[method-assign,assignment]
    for _ in range(3):
        assert (await shop.api(None, **cookie).get(PEOPLE)).status_code == 200
    assert asked == [session]


async def test_e8_a_session_by_the_break_glass_key_lasts_no_longer(shop: Firm) -> None:
    token = await shop.services.authenticator.sessions.open_break_glass()
    assert (await shop.api(None, cookie=f"{SESSION_COOKIE}={token}").get(PEOPLE)).status_code == 200
    shop.clock.advance(BACK)
    assert (await shop.api(None, cookie=f"{SESSION_COOKIE}={token}").get(PEOPLE)).status_code == 401


async def test_e8_deliveries_that_came_before_are_worked_at_once(shop: Firm) -> None:
    await deliver(shop, "msg_before")
    shop.clock.advance(BACK)
    assert await shop.services.delivery_processor.run_once() == 0
    shop.services.start(has_worker=True)
    db = shop.services.db
    await until(shop, lambda: db.read_sync(webhooks_repository.find_next_due_at) is None)
    row = db.read_sync(webhooks_repository.find_delivery, "msg_before")
    assert row is not None
    assert row.state == "settled"


async def test_e8_an_operation_that_was_put_off_goes_on_soon(shop: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object, **__: object) -> None:
        raise ClerkUnavailableError("Clerk did not answer.", is_without_effect=True)

    with monkeypatch.context() as silence:
        silence.setattr(shop.services.clerk, "create_invitation", silent)
        wanted = {"email": "new@example.com"}
        answer = await shop.api().post("/v1/organizations/northwind/invitations", json=wanted)
    assert answer.status_code == 202
    id = answer.json()["operation"]["id"]
    shop.clock.advance(BACK)
    shop.services.start(has_worker=True)
    db = shop.services.db

    def is_settled() -> bool:
        shop.clock.advance(MINUTE)  # no more than the lease of one that may be under way
        found = db.read_sync(repository.find_operation, id)
        return found is not None and found.state == "settled"

    await until(shop, is_settled)
    assert shop.clock.at < found_at(shop, id)


def found_at(firm: Firm, id: str) -> int:
    """When the operation was asked for, by the clock of before."""
    found = firm.services.db.read_sync(repository.find_operation, id)
    assert found is not None
    return found.asked_at


async def test_e8_a_sync_whose_process_died_bars_no_other(shop: Firm) -> None:
    from instep.sync.repository import take_lease

    assert await shop.services.db.write(take_lease, "syn_dead", now=shop.clock()) is not None
    shop.clock.advance(BACK)
    assert (await shop.services.sync_services.sync.check(actor="test")).state == "done"


async def test_e8_a_plan_is_good_for_fifteen_minutes_and_not_for_six_hours(shop: Firm) -> None:
    plan = await shop.services.sync_services.sync.plan(actor="test")
    shop.clock.advance(BACK)
    refused = await shop.api().post(f"/v1/sync/plans/{plan.id}/apply", json={})
    assert (refused.status_code, refused.json().get("code")) == (409, "plan_expired")


async def test_e8_the_check_on_the_timer_goes_on_and_is_made_once(shop: Firm) -> None:
    sync_services = shop.services.sync_services
    await sync_services.check_when_due()
    shop.clock.advance(BACK)
    for _ in range(3):
        await sync_services.check_when_due()
    runs = (await shop.api().get("/v1/sync")).json()["runs"]
    assert [it["kind"] for it in runs] == ["check", "check"]


async def test_e8_keys_of_clerk_are_fetched_again(shop: Firm) -> None:
    from instep.clerk.jwks import JwksKeySource
    from instep.domain.errors import InvalidSessionError
    from tests.clerk.tokens import jwk

    fetched: list[int] = []

    async def fetch() -> dict[str, object]:
        fetched.append(shop.clock())
        return {"keys": [jwk(kid="another")]}

    keys = JwksKeySource(fetch, clock=shop.clock)
    for _ in range(2):
        with pytest.raises(InvalidSessionError):
            await keys.find("kid")
        shop.clock.advance(BACK)
    assert len(fetched) == 2
