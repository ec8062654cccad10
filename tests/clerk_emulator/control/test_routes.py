"""The control API below /_emulator/."""

import json
from typing import Any

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.control.routes import ROUTES
from clerk_emulator.webhooks import signing
from tests.clerk_emulator.clients import Backend, Receiver

pytestmark = pytest.mark.anyio


@pytest.fixture
async def control(browser: httpx2.AsyncClient) -> Any:
    async def call(method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = await browser.request(method, f"/_emulator{path}", json=body, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    return call


async def test_the_state_is_readable_and_reset(control: Any, backend: Backend) -> None:
    await backend.firm()
    assert (await control("GET", "/state"))["totals"]["memberships"] == 1
    before = (await control("GET", "/keys"))["secret_key"]
    await control("POST", "/reset")
    after = await control("GET", "/state")
    assert after["totals"]["users"] == 0
    assert len(after["roles"]) == 2
    assert (await control("GET", "/keys"))["secret_key"] == before


async def test_keys_are_complete(control: Any, emulator: Emulator) -> None:
    keys = await control("GET", "/keys")
    assert keys["publishable_key"] == "pk_test_MTI3LjAuMC4xOjgwMDEk" == emulator.publishable_key
    assert keys["frontend_api_url"] == "http://127.0.0.1:8001"
    assert keys["proxy_url"] == "http://127.0.0.1:8001/__clerk"
    assert keys["pem"].startswith("-----BEGIN PUBLIC KEY-----")


async def test_the_clock_is_set_and_advanced(control: Any) -> None:
    assert (await control("POST", "/clock", {"now": "2030-01-01T00:00:00Z"}))["now"] == 1_893_456_000_000
    assert (await control("POST", "/clock/advance", {"days": 1, "hours": 2}))["iso"].startswith("2030-01-02T02:00")
    assert (await control("POST", "/clock/set", {"stopped": True}))["stopped"] is True


async def test_endpoints_are_added_and_removed(control: Any) -> None:
    secret = "whsec_" + "QUJD" * 8
    created = await control("POST", "/endpoints", {"url": "http://127.0.0.1:9/x", "secret": secret})
    assert created["secret"] == secret
    assert (await control("GET", "/endpoints"))["data"] == [created]
    await control("DELETE", f"/endpoints/{created['id']}")
    assert (await control("GET", "/endpoints"))["data"] == []


async def test_an_example_goes_to_one_endpoint_signed_with_its_secret_from_a_foreign_instance(
    control: Any, browser: httpx2.AsyncClient, emulator: Emulator, receiver: Receiver
) -> None:
    other = Receiver()
    emulator.webhooks.connect("http://other.test/", transport=httpx2.ASGITransport(other))
    endpoint = next(iter(emulator.webhooks.endpoints))
    emulator.faults.add({"event": "*", "do": "drop"})
    for body in ({}, {"type": "role.updated"}):
        await control("POST", f"/endpoints/{endpoint}/example", body)
    await emulator.webhooks.drain()
    assert (receiver.types, other.types) == (["user.created", "role.updated"], [])
    headers, sent = receiver.got[0]
    seconds = int(headers["svix-timestamp"])
    assert headers == {**headers, **signing.build_headers(receiver.secret, headers["svix-id"], seconds, sent)}
    assert seconds == emulator.clock.wall() // 1000, "signed now, whatever the payload's timestamp"
    assert json.loads(sent)["instance_id"] == "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S" != emulator.state.id
    assert not len(emulator.state.users), "nothing has happened"
    for path, data, status in (
        ("ep_unknown", {}, 404),
        (endpoint, {"type": "user.danced"}, 422),
        (endpoint, {"type": ["user.created"]}, 422),
        (endpoint, {"event": "user.created"}, 422),
    ):
        answer = await browser.post(f"/_emulator/endpoints/{path}/example", json=data)
        assert answer.status_code == status, data


async def test_deliveries_are_drained_filtered_and_replayed(control: Any, backend: Backend, receiver: Receiver) -> None:
    user = await backend.user()
    await backend("DELETE", f"/users/{user['id']}")
    assert (await control("POST", "/deliveries/drain"))["waiting"] == 0
    found = await control("GET", "/deliveries", event="user.deleted", status="succeeded")
    (delivery,) = found["data"]
    whole = await control("GET", f"/deliveries/{delivery['id']}")
    assert whole["body"]["type"] == "user.deleted"
    await control("POST", f"/deliveries/{delivery['id']}/replay")
    await control("POST", "/deliveries/drain")
    assert receiver.ids[-1] == receiver.ids[-2] == delivery["message_id"]


async def test_events_are_listed_after_a_message(control: Any, backend: Backend, receiver: Receiver) -> None:
    await backend.user("a@example.com")
    first = (await control("GET", "/events"))["data"][-1]
    await backend.user("b@example.com")
    more = await control("GET", "/events", after=first["id"], type="user.created")
    assert more["total_count"] == 1
    await control("POST", f"/events/{first['id']}/replay")
    await control("POST", "/deliveries/drain")
    assert receiver.ids.count(first["id"]) == 2


async def test_faults_and_requests(control: Any, backend: Backend) -> None:
    data = {"operation": "ListOrganizationInvitations", "status": 500, "count": 2}
    created = await control("POST", "/faults", data)
    assert (await control("GET", "/faults"))["data"] == [created]
    await control("DELETE", f"/faults/{created['id']}")
    await control("POST", "/faults", data)
    await control("DELETE", "/faults")
    assert (await control("GET", "/faults"))["data"] == []
    await backend.user()
    found = await control("GET", "/requests", operationId="CreateUser")
    assert (found["data"][0]["status"], found["data"][0]["method"]) == (200, "POST")


async def test_settings_are_changed(control: Any) -> None:
    changed = await control("POST", "/settings", {"cascade_events": True, "max_allowed_memberships": 0})
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
async def test_invalid_input_is_explained(
    browser: httpx2.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    response = await browser.request(method, f"/_emulator{path}", json=body)
    assert response.status_code == status
    assert response.json()["error"]


async def test_an_invalid_json_body_is_explained(browser: httpx2.AsyncClient) -> None:
    assert (await browser.post("/_emulator/seed", content=b"{")).status_code == 422
    assert (await browser.post("/_emulator/seed", content=b"\xff")).status_code == 422


async def test_requests_from_other_sites_are_rejected(browser: httpx2.AsyncClient) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert (await browser.post("/_emulator/reset", headers=headers)).status_code == 403


async def test_all_pages_open(browser: httpx2.AsyncClient, backend: Backend, receiver: Receiver) -> None:
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
