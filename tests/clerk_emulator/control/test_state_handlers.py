"""The control API: mail, snapshots, generated data, and its OpenAPI document."""

from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from clerk_emulator import Emulator
from clerk_emulator.control.routes import ROUTES
from clerk_emulator.state import snapshot
from tests.clerk_emulator.clients import Backend, Receiver

pytestmark = pytest.mark.anyio


@pytest.fixture
async def control(browser: httpx2.AsyncClient) -> Any:
    async def call(method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = await browser.request(method, f"/_emulator{path}", json=body, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    return call


async def test_the_inbox_has_the_link_of_an_invitation_and_it_works(
    control: Any, backend: Backend, browser: httpx2.AsyncClient, emulator: Emulator
) -> None:
    firm, admin = await backend.firm()
    await backend.invite(firm, "bo@example.com", inviter_user_id=admin["id"])
    (letter,) = (await control("GET", "/mail", to="bo@example.com"))["data"]
    assert letter["slug"] == "organization_invitation"
    ticket = letter["link"].partition("ticket=")[2]
    await browser.post(letter["link"].partition("?")[0], data={"ticket": ticket})
    assert len(emulator.state.memberships) == 2
    await control("DELETE", "/mail")
    assert (await control("GET", "/mail"))["total_count"] == 0


async def test_codes_are_random_and_in_the_inbox(control: Any, backend: Backend) -> None:
    user = await backend.user()
    body = {"user_id": user["id"], "email_address": "new@example.com"}
    path = f"/email_addresses/{(await backend('POST', '/email_addresses', body))['id']}"
    proofs = [await backend("POST", f"{path}/prepare_verification") for _ in range(2)]
    second, first = (await control("GET", "/mail", to="new@example.com"))["data"]
    assert first["code"] != second["code"]
    tried = {"verification_id": proofs[1]["id"], "code": second["code"]}
    assert (await backend("POST", f"{path}/attempt_verification", tried))["status"] == "verified"


async def test_notify_false_sends_no_mail(control: Any, backend: Backend) -> None:
    firm, _ = await backend.firm()
    await backend.invite(firm, "bo@example.com", notify=False)
    await backend.invite(firm, "cy+clerk_test@example.com")
    assert (await control("GET", "/mail"))["total_count"] == 0


async def test_mail_events_are_published_if_enabled(control: Any, backend: Backend, emulator: Emulator) -> None:
    await control("POST", "/settings", {"mail_events": True})
    firm, _ = await backend.firm()
    await backend.invite(firm)
    assert [message.type for message in emulator.webhooks.log.messages.values()][-1] == "email.created"


async def test_a_snapshot_restores_everything(
    control: Any, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    firm, admin = await backend.firm()
    await backend.invite(firm)
    await backend("POST", "/phone_numbers", {"user_id": admin["id"], "phone_number": "+4915551234567"})
    await backend("POST", "/sign_in_tokens", {"user_id": admin["id"]})
    before = snapshot.dump(emulator.state)
    whole = await control("GET", "/snapshot")
    await control("POST", "/snapshots", {"name": "before"})
    await backend("DELETE", f"/users/{admin['id']}")
    assert (await control("POST", "/snapshots/before/restore"))["totals"]["users"] == 1
    assert snapshot.dump(emulator.state) == before
    await control("POST", "/reset")
    await control("POST", "/restore", whole)
    assert snapshot.dump(emulator.state) == before
    assert (await control("GET", "/snapshots"))["data"] == ["before"]
    await control("DELETE", "/snapshots/before")


async def test_an_invalid_snapshot_changes_nothing(browser: httpx2.AsyncClient, backend: Backend) -> None:
    await backend.user()
    bodies: list[Any] = [{}, {"state": {}}, {"state": {"id": 1, "users": [{"nonsense": 1}]}}, {"state": []}]
    for body in bodies:
        assert (await browser.post("/_emulator/restore", json=body)).status_code == 422
    assert (await browser.post("/_emulator/snapshots/none/restore")).status_code == 404
    assert (await backend("GET", "/users/count"))["total_count"] == 1


async def test_data_is_generated_in_bulk(control: Any, backend: Backend) -> None:
    data = {"users": 300, "organizations": 7, "memberships": 1500}
    assert (await control("POST", "/generate", data))["generated"] == data
    assert (await backend("GET", "/users/count"))["total_count"] == 300
    assert (await backend("GET", "/organization_memberships"))["total_count"] == 1500
    firm = (await backend("GET", "/organizations", include_members_count="true"))["data"][0]
    members = await backend("GET", f"/organizations/{firm['id']}/memberships", limit=500)
    assert members["total_count"] == len({row["public_user_data"]["user_id"] for row in members["data"]})
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await backend("GET", "/users", limit=100, **cursor)
        seen += [user["id"] for user in page]
        if len(page) < 100:
            break
        cursor = {"starting_after": page[-1]["id"]}
    assert len(set(seen)) == 300
    assert (await control("POST", "/generate", {"users": 5}))["generated"]["users"] == 5


@pytest.mark.parametrize("data", [{"users": -1}, {"users": "many"}, {"memberships": 3}, {"people": 1}])
async def test_invalid_counts_generate_nothing(browser: httpx2.AsyncClient, data: Any) -> None:
    assert (await browser.post("/_emulator/generate", json=data)).status_code == 422


async def test_the_openapi_document_has_every_path(control: Any) -> None:
    document = await control("GET", "/openapi.json")
    described = {
        (method.upper(), path.removeprefix("/_emulator")) for path, item in document["paths"].items() for method in item
    }
    assert described == {(method, path) for method, path, _ in ROUTES}
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)
    for operation in operations:
        for content in operation.get("requestBody", {}).get("content", {}).values():
            Draft202012Validator.check_schema(content["schema"])


async def test_the_default_role_is_one_of_the_roles_and_the_same_for_settings_and_role_set(
    control: Any, backend: Backend, browser: httpx2.AsyncClient, emulator: Emulator
) -> None:
    await control("POST", "/seed", {"roles": [{"key": "org:guest", "name": "Guest"}]})
    await control("POST", "/settings", {"default_role": "org:guest", "invitation_days": 3})
    (roles,) = (await backend("GET", "/role_sets"))["data"]
    assert roles["default_role"]["key"] == "org:guest"
    await backend("PATCH", f"/role_sets/{roles['key']}", {"default_role_key": "org:member"})
    assert (await control("GET", "/settings"))["default_role"] == "org:member"
    answer = await browser.post("/_emulator/settings", json={"default_role": "org:king", "invitation_days": 9})
    assert (answer.status_code, "org:king" in answer.json()["error"]) == (422, True)
    assert (await control("GET", "/settings"))["invitation_days"] == 3, "all or none"


async def test_a_reset_restores_the_initial_profile(private_key: str) -> None:
    emulator = Emulator(private_key=private_key, profile="minimal")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001") as http:
        kept = (await http.get("/_emulator/settings")).json()
        assert (kept["profile"], kept["omitted"]) == ("minimal", ["*"])
        await http.post("/_emulator/settings", json={"profile": "default"})
        assert (await http.get("/_emulator/settings")).json()["omitted"] == []
        await http.post("/_emulator/reset")
        assert (await http.get("/_emulator/settings")).json() == kept
        error = await http.post("/_emulator/settings", json={"omitted": ["user.nothing"]})
        assert (error.status_code, "user.nothing" in error.json()["error"]) == (422, True)


async def test_omittable_names_are_listed(control: Any) -> None:
    rows = {row["name"]: row for row in (await control("GET", "/omittable"))["data"]}
    assert rows["session_token.azp"] == {"name": "session_token.azp", "minimal": True, "reason": None}
    assert rows["deleted.id"]["minimal"] is False
    assert rows["deleted.id"]["reason"]
    for name in rows:
        assert (await control("POST", "/settings", {"omitted": [name]}))["omitted"] == [name]
