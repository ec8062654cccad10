"""The desk below /_emulator/."""

import json
from typing import Any

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.control.routes import ROUTES
from clerk_emulator.webhooks import signing
from tests.clerk_emulator.people import Backend, Receiver

pytestmark = pytest.mark.anyio


@pytest.fixture
async def desk(browser: httpx2.AsyncClient) -> Any:
    async def call(method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = await browser.request(method, f"/_emulator{path}", json=body, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    return call


async def test_the_state_is_readable_and_reset(desk: Any, backend: Backend) -> None:
    await backend.firm()
    assert (await desk("GET", "/state"))["totals"]["memberships"] == 1
    before = (await desk("GET", "/keys"))["secret_key"]
    await desk("POST", "/reset")
    after = await desk("GET", "/state")
    assert after["totals"]["users"] == 0
    assert len(after["roles"]) == 2
    assert (await desk("GET", "/keys"))["secret_key"] == before


async def test_the_keys_are_all_there(desk: Any, emulator: Emulator) -> None:
    keys = await desk("GET", "/keys")
    assert keys["publishable_key"] == "pk_test_MTI3LjAuMC4xOjgwMDEk" == emulator.publishable_key
    assert keys["frontend_api_url"] == "http://127.0.0.1:8001"
    assert keys["proxy_url"] == "http://127.0.0.1:8001/__clerk"
    assert keys["pem"].startswith("-----BEGIN PUBLIC KEY-----")


async def test_the_clock_is_set_and_advanced(desk: Any) -> None:
    assert (await desk("POST", "/clock", {"now": "2030-01-01T00:00:00Z"}))["now"] == 1_893_456_000_000
    assert (await desk("POST", "/clock/advance", {"days": 1, "hours": 2}))["iso"].startswith("2030-01-02T02:00")
    assert (await desk("POST", "/clock/set", {"stopped": True}))["stopped"] is True


async def test_endpoints_come_and_go(desk: Any) -> None:
    secret = "whsec_" + "QUJD" * 8
    made = await desk("POST", "/endpoints", {"url": "http://127.0.0.1:9/x", "secret": secret})
    assert made["secret"] == secret
    assert (await desk("GET", "/endpoints"))["data"] == [made]
    await desk("DELETE", f"/endpoints/{made['id']}")
    assert (await desk("GET", "/endpoints"))["data"] == []


async def test_an_example_goes_to_one_endpoint_signed_with_its_secret_from_a_foreign_instance(
    desk: Any, browser: httpx2.AsyncClient, emulator: Emulator, receiver: Receiver
) -> None:
    other = Receiver()
    emulator.webhooks.connect("http://other.test/", transport=httpx2.ASGITransport(other))
    endpoint = next(iter(emulator.webhooks.endpoints))
    emulator.faults.add({"event": "*", "do": "drop"})
    for body in ({}, {"type": "role.updated"}):
        await desk("POST", f"/endpoints/{endpoint}/example", body)
    await emulator.webhooks.drain()
    assert (receiver.types, other.types) == (["user.created", "role.updated"], [])
    headers, sent = receiver.got[0]
    seconds = int(headers["svix-timestamp"])
    assert headers == {**headers, **signing.build_headers(receiver.secret, headers["svix-id"], seconds, sent)}
    assert seconds == emulator.clock.wall() // 1000, "signed now, whatever the payload's timestamp"
    assert json.loads(sent)["instance_id"] == "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S" != emulator.state.id
    assert not len(emulator.state.users), "nothing has happened"
    for path, wish, status in (
        ("ep_unknown", {}, 404),
        (endpoint, {"type": "user.danced"}, 422),
        (endpoint, {"type": ["user.created"]}, 422),
        (endpoint, {"event": "user.created"}, 422),
    ):
        answer = await browser.post(f"/_emulator/endpoints/{path}/example", json=wish)
        assert answer.status_code == status, wish


async def test_deliveries_are_drained_filtered_and_replayed(desk: Any, backend: Backend, receiver: Receiver) -> None:
    user = await backend.user()
    await backend("DELETE", f"/users/{user['id']}")
    assert (await desk("POST", "/deliveries/drain"))["waiting"] == 0
    found = await desk("GET", "/deliveries", event="user.deleted", status="succeeded")
    (delivery,) = found["data"]
    whole = await desk("GET", f"/deliveries/{delivery['id']}")
    assert whole["body"]["type"] == "user.deleted"
    await desk("POST", f"/deliveries/{delivery['id']}/replay")
    await desk("POST", "/deliveries/drain")
    assert receiver.ids[-1] == receiver.ids[-2] == delivery["message_id"]


async def test_events_are_read_on_from_where_one_was(desk: Any, backend: Backend, receiver: Receiver) -> None:
    await backend.user("a@example.com")
    first = (await desk("GET", "/events"))["data"][-1]
    await backend.user("b@example.com")
    more = await desk("GET", "/events", after=first["id"], type="user.created")
    assert more["total_count"] == 1
    await desk("POST", f"/events/{first['id']}/replay")
    await desk("POST", "/deliveries/drain")
    assert receiver.ids.count(first["id"]) == 2


async def test_faults_and_requests(desk: Any, backend: Backend) -> None:
    wish = {"operation": "ListOrganizationInvitations", "status": 500, "count": 2}
    made = await desk("POST", "/faults", wish)
    assert (await desk("GET", "/faults"))["data"] == [made]
    await desk("DELETE", f"/faults/{made['id']}")
    await desk("POST", "/faults", wish)
    await desk("DELETE", "/faults")
    assert (await desk("GET", "/faults"))["data"] == []
    await backend.user()
    found = await desk("GET", "/requests", operationId="CreateUser")
    assert (found["data"][0]["status"], found["data"][0]["method"]) == (200, "POST")


async def test_settings_are_changed(desk: Any) -> None:
    changed = await desk("POST", "/settings", {"cascade_events": True, "max_allowed_memberships": 0})
    assert (changed["cascade_events"], changed["max_allowed_memberships"]) == (True, 0)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/seed", {"nonsense": 1}, 422),
        ("POST", "/seed", [], 422),
        ("POST", "/faults", {"operation": "Nonsense", "status": 500}, 422),
        ("POST", "/faults", {"operation": {"a": 1}, "status": 500}, 422),
        ("POST", "/endpoints", {"url": "ftp://x"}, 422),
        ("POST", "/endpoints", {"url": "http://x", "secret": "nonsense"}, 422),
        ("POST", "/endpoints", {"url": "http://["}, 422),
        ("POST", "/clock", {"now": "soon"}, 422),
        ("POST", "/clock", {"now": 10**20}, 422),
        ("POST", "/clock/advance", {"days": "many"}, 422),
        ("POST", "/clock/advance", {"days": 10**12}, 422),
        ("POST", "/clock/advance", [], 422),
        ("POST", "/settings", {"cascade_events": "yes"}, 422),
        ("POST", "/settings", {"nonsense": 1}, 422),
        ("POST", "/reset", [1], 422),
        ("DELETE", "/endpoints/ep_none", None, 404),
        ("DELETE", "/faults/fault_none", None, 404),
        ("POST", "/deliveries/dlv_none/replay", None, 404),
        ("POST", "/events/msg_none/replay", None, 404),
        ("GET", "/deliveries/dlv_none", None, 404),
        ("GET", "/nowhere", None, 404),
        ("GET", "/state?limit=many", None, 422),
    ],
)
async def test_what_makes_no_sense_is_a_clear_answer(
    browser: httpx2.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    response = await browser.request(method, f"/_emulator{path}", json=body)
    assert response.status_code == status
    assert response.json()["error"]


async def test_a_body_that_is_no_json_is_a_clear_answer(browser: httpx2.AsyncClient) -> None:
    assert (await browser.post("/_emulator/seed", content=b"{")).status_code == 422
    assert (await browser.post("/_emulator/seed", content=b"\xff")).status_code == 422


async def test_pages_of_other_sites_cant_reach_the_desk(browser: httpx2.AsyncClient) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert (await browser.post("/_emulator/reset", headers=headers)).status_code == 403


async def test_the_pages_of_the_desk_open(browser: httpx2.AsyncClient, backend: Backend, receiver: Receiver) -> None:
    organization, _ = await backend.firm()
    await backend.invite(organization)
    await browser.post("/_emulator/faults", json={"event": "*", "do": "double"})
    await browser.post("/_emulator/deliveries/drain")
    overview = await browser.get("/")
    for name in ("users", "organizations", "invitations", "deliveries", "requests", "faults"):
        assert f'href="/_emulator/pages/{name}"' in overview.text
        page = await browser.get(f"/_emulator/pages/{name}")
        assert (page.status_code, "Nothing yet." in page.text) == (200, False), name
    assert (await browser.get("/_emulator/pages/nonsense")).status_code == 404
    assert all(f"/_emulator{path}" for _, path, _ in ROUTES)
