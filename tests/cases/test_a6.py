"""A check compares contents: two sides that differ are never called equal, whatever their versions say."""

from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from instep.core.clock import DAY
from instep.mirror.tables import memberships, organizations, users
from tests.cases.support import acme
from tests.support.svix import signed
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def ahead_by_a_year(firm: Firm) -> str:
    """Have an event with a version of next year applied for Ben, then a real change; return his Clerk id."""
    await acme(firm)
    ben = firm.user_id("ben@example.com")
    await firm.clerk().patch(f"/v1/users/{ben}", json={"first_name": "Ben"})
    (message,) = [it for it in firm.emulator.webhooks.log.messages.values() if it.type == "user.updated"]
    at = (await firm.clerk().get(f"/v1/users/{ben}")).json()["updated_at"]
    body = message.body.replace(f'"updated_at":{at}', f'"updated_at":{at + 365 * DAY}').encode()
    assert body != message.body.encode()
    headers = signed(body, at=firm.clock.at, id="msg_ahead")
    assert (await firm.api(None).post("/webhooks/clerk", content=body, headers=headers)).status_code == 202
    await firm.settle()
    await firm.clerk().patch(f"/v1/users/{ben}", json={"first_name": "Benedict"})
    await firm.settle()
    return ben


async def first_name(firm: Firm, user: str) -> str:
    return str((await firm.api().get(f"/v1/users/{user}")).json()["first_name"])


async def test_a6_a_version_ahead_of_clerk_is_found_and_clerks_side_is_taken(firm: Firm) -> None:
    ben = await ahead_by_a_year(firm)
    assert await first_name(firm, ben) == "Ben"
    checked = (await firm.api().post("/v1/sync/check")).json()
    assert checked["run"]["counts"] == {"version_ahead": 1}
    (finding,) = checked["findings"]
    assert "Version ahead of Clerk" in finding["note"]
    assert finding["differences"] == [
        {"field": "first_name", "clerk": "Benedict", "here": "Ben", "belongs_to": "clerk"}
    ]
    plan = (await firm.api().post("/v1/sync/plans")).json()["run"]["id"]
    assert (await firm.api().post(f"/v1/sync/plans/{plan}/apply")).json()["counts"] == {"applied": 1}
    assert await first_name(firm, ben) == "Benedict"
    assert (await firm.api().post("/v1/sync/check")).json()["run"]["counts"] == {}


async def test_a6_after_the_apply_webhooks_count_again(sqlite_firm: Firm) -> None:
    ben = await ahead_by_a_year(sqlite_firm)
    plan = (await sqlite_firm.api().post("/v1/sync/plans")).json()["run"]["id"]
    await sqlite_firm.api().post(f"/v1/sync/plans/{plan}/apply")
    await sqlite_firm.clerk().patch(f"/v1/users/{ben}", json={"first_name": "Benno"})
    await sqlite_firm.settle()
    assert await first_name(sqlite_firm, ben) == "Benno"


async def test_a6_what_clerk_changed_after_the_plan_is_what_is_taken(sqlite_firm: Firm) -> None:
    ben = await ahead_by_a_year(sqlite_firm)
    plan = (await sqlite_firm.api().post("/v1/sync/plans")).json()["run"]["id"]
    await sqlite_firm.clerk().patch(f"/v1/users/{ben}", json={"first_name": "Later"})
    await sqlite_firm.settle()
    await sqlite_firm.api().post(f"/v1/sync/plans/{plan}/apply")
    assert await first_name(sqlite_firm, ben) == "Later"


@pytest.mark.parametrize(
    ("table", "wrong"),
    [(users, {"last_name": "Wrong"}), (organizations, {"name": "Wrong"}), (memberships, {"role": "x"})],
)
async def test_a6_every_kind_is_compared_by_content(firm: Firm, table: sa.Table, wrong: dict[str, Any]) -> None:
    await acme(firm)
    ahead = sa.update(table).values(version=table.c.version + 365 * DAY)
    firm.services.db.write_sync(lambda conn: conn.execute(ahead))
    assert (await firm.api().post("/v1/sync/check")).json()["run"]["counts"] == {}
    one = sa.select(sa.func.min(table.c.id)).scalar_subquery()
    firm.services.db.write_sync(lambda conn: conn.execute(sa.update(table).where(table.c.id == one).values(**wrong)))
    plan = (await firm.api().post("/v1/sync/plans")).json()["run"]
    assert plan["counts"] == {"version_ahead": 1}
    applied = (await firm.api().post(f"/v1/sync/plans/{plan['id']}/apply")).json()
    assert applied["counts"] == {"applied": 1}
    assert (await firm.api().post("/v1/sync/check")).json()["run"]["counts"] == {}


async def test_a6_a_change_during_the_scan_is_no_difference(sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    firm = sqlite_firm
    await acme(firm)
    user, left = firm.user_id("ben@example.com"), ["Bo", "Bob"]
    send = firm.services.clerk._backend._http.request

    async def request(method: str, path: str, **more: Any) -> httpx2.Response:
        answer = await send(method, path, **more)
        if path == "users" and left:  # Clerk changes after it has answered, and its webhook is faster than the scan
            await firm.clerk().patch(f"/v1/users/{user}", json={"first_name": left.pop()})
            await firm.settle()
        return answer

    monkeypatch.setattr(firm.services.clerk._backend._http, "request", request)
    assert (await firm.api().post("/v1/sync/check")).json()["run"]["counts"] == {}
    assert left == []


async def test_a6_somebody_deleted_during_the_scan_is_no_difference(
    sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    firm = sqlite_firm
    await acme(firm)
    left = [firm.user_id("ben@example.com")]
    send = firm.services.clerk._backend._http.request

    async def request(method: str, path: str, **more: Any) -> httpx2.Response:
        answer = await send(method, path, **more)
        if path == "users" and left and b'"user_' in answer.content:
            await firm.clerk().delete(f"/v1/users/{left.pop()}")
            await firm.settle()
        return answer

    monkeypatch.setattr(firm.services.clerk._backend._http, "request", request)
    found = (await firm.api().post("/v1/sync/check")).json()["run"]["counts"]
    assert left == []
    assert "dead_here" not in found
