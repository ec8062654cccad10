"""Directories (SCIM): provisioning, and manual changes that they prevent."""

from typing import Any

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Json, Receiver
from tests.clerk_emulator.specification import error_codes, specifications_are_here

pytestmark = pytest.mark.anyio


@pytest.fixture
async def control(browser: httpx2.AsyncClient) -> Any:
    async def call(method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        response = await browser.request(method, f"/_emulator{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    return call


async def provision(control: Any, **data: Any) -> tuple[Json, Json]:
    """Add a directory and provision a user through it."""
    directory = await control("POST", "/directories", {"name": "Okta"})
    draft = {"email_address": "dee@example.com", "first_name": "Dee", "external_id": "00u1", **data}
    return directory, await control("POST", f"/directories/{directory['id']}/users", draft)


async def test_a_directory_creates_a_user_with_a_verified_address(
    control: Any, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    directory, user = await provision(control)
    assert (user["first_name"], user["deprovisioned"]) == ("Dee", False)
    assert user["email_addresses"][0]["verification"]["strategy"] == "scim"
    assert (await control("GET", "/directories"))["data"][0]["users"] == [user["id"]]
    await emulator.webhooks.drain()
    event_types = {"directory_id": directory["id"], "directory_enabled": True, "external_id": "00u1"}
    assert receiver.data("user.created")["scim"] == event_types
    assert "scim" not in await backend("GET", f"/users/{user['id']}"), "only webhooks say it"


async def test_deprovisioning_ends_sessions_sends_one_update_and_is_reversible(
    control: Any, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    firm, admin = await backend.firm()
    await backend("POST", "/sessions", {"user_id": admin["id"]})
    assert "deprovisioned" not in admin, "an instance without directories has no such field"
    await emulator.webhooks.drain()
    receiver.got.clear()
    gone = await control("POST", "/users/ada@example.com/deprovision")
    assert gone["deprovisioned"] is True
    await emulator.webhooks.drain()
    assert receiver.types == ["session.revoked", "user.updated"]
    assert receiver.data("user.updated")["deprovisioned"] is True
    members = await backend("GET", f"/organizations/{firm['id']}/memberships")
    assert members["data"][0]["public_user_data"]["deprovisioned"] is True
    assert (await backend("GET", f"/users/{admin['id']}"))["deprovisioned"] is True
    assert await backend.no("POST", "/sessions", {"user_id": admin["id"]}) == (400, "deprovisioned")
    error = await backend.http.post("/sign-in", data={"user_id": admin["id"]})
    assert "deactivated" in error.text
    back = await control("POST", f"/users/{admin['id']}/reprovision")
    assert back["deprovisioned"] is False
    assert back["updated_at"] > gone["updated_at"]
    await backend("POST", "/sessions", {"user_id": admin["id"]})


async def test_a_directory_changes_and_takes_over_users(control: Any, backend: Backend) -> None:
    directory, user = await provision(control)
    path = f"/directories/{directory['id']}/users"
    changed = await control(
        "POST", path, {"user": user["id"], "last_name": "Lake", "email_address": "lake@example.com"}
    )
    assert (changed["last_name"], changed["first_name"]) == ("Lake", "Dee")
    assert [one["email_address"] for one in changed["email_addresses"]] == ["lake@example.com"]
    other = await backend.user("eve@example.com")
    taken = await control("POST", path, {"email_address": "eve@example.com", "active": False})
    assert (taken["id"], taken["deprovisioned"]) == (other["id"], True)
    same = await control("POST", path, {"email_address": "eve@example.com", "active": False})
    assert same["updated_at"] == taken["updated_at"], "nothing changed, nothing is sent"


async def test_manual_changes_of_managed_data_are_rejected_as_in_the_error_catalogue(
    control: Any, backend: Backend
) -> None:
    directory, user = await provision(control)
    firm, _ = await backend.firm()
    path, one = f"/organizations/{firm['id']}/memberships/{user['id']}", f"/users/{user['id']}"
    data = {"user": user["id"], "organization": firm["id"], "role": "org:member"}
    await control("POST", f"/directories/{directory['id']}/memberships", data)
    address = user["email_addresses"][0]["id"]
    extra = await backend("POST", "/email_addresses", {"user_id": user["id"], "email_address": "x@example.com",
                                                       "verified": True})  # fmt: skip
    calls: list[tuple[str, str, str, Json | None]] = [
        ("user_managed_by_scim", "DELETE", one, None),
        ("attribute_managed_by_scim", "PATCH", one, {"first_name": "Di"}),
        ("attribute_managed_by_scim", "PATCH", one, {"primary_email_address_id": extra["id"]}),
        ("attribute_managed_by_scim", "DELETE", f"/email_addresses/{address}", None),
        ("attribute_managed_by_scim", "PUT", f"{one}/email_address", {"email_address": "y@example.com"}),
        ("organization_membership_managed_by_scim", "PATCH", path, {"role": "org:admin"}),
        ("organization_membership_managed_by_scim", "DELETE", path, None),
    ]
    for code, method, where, body in calls:
        assert await backend.no(method, where, body) == (409, code)
        assert not specifications_are_here() or (409, code) in error_codes()
    same = await backend("PATCH", one, {"first_name": "Dee", "username": "dee_lake"})
    assert same["username"] == "dee_lake", "the same name and an attribute that is not mapped"
    await backend("PATCH", f"{one}/metadata", {"public_metadata": {"a": 1}})
    await control("POST", f"/directories/{directory['id']}/memberships", {**data, "role": "org:admin"})
    await control("PATCH", f"/directories/{directory['id']}", {"enabled": False})
    await backend("PATCH", path, {"role": "org:member"})
    await backend("DELETE", one)


async def test_disabling_or_deleting_a_directory_activates_its_users(control: Any, backend: Backend) -> None:
    directory, user = await provision(control, active=False)
    assert user["deprovisioned"] is True
    await control("PATCH", f"/directories/{directory['id']}", {"enabled": False})
    assert (await backend("GET", f"/users/{user['id']}"))["deprovisioned"] is False
    await control("PATCH", f"/directories/{directory['id']}", {"enabled": True})
    await control("POST", f"/users/{user['id']}/deprovision")
    await control("DELETE", f"/directories/{directory['id']}")
    assert "deprovisioned" not in await backend("GET", f"/users/{user['id']}")
    assert (await control("GET", "/directories"))["data"] == []


async def test_directories_are_seeded_and_part_of_snapshots(control: Any, backend: Backend, emulator: Emulator) -> None:
    emulator.seed(
        {
            "directories": [{"name": "Entra"}],
            "users": [
                {"email_address": "dee@example.com", "directory": "Entra", "external_id": "7"},
                {"email_address": "eve@example.com", "directory": "Entra", "deprovisioned": True},
            ],
        }
    )
    kept = await control("GET", "/snapshot")
    await control("POST", "/reset")
    assert (await control("GET", "/directories"))["data"] == []
    await control("POST", "/restore", kept)
    states = {
        user["email_addresses"][0]["email_address"]: user["deprovisioned"] for user in await backend("GET", "/users")
    }
    assert states == {"dee@example.com": False, "eve@example.com": True}
    for user in ({"deprovisioned": True}, {"directory": "Okta"}):
        invalid = {"users": [{"email_address": "x@example.com", **user}]}
        assert "directory" in (await control("POST", "/seed", invalid, status=422))["error"]


async def test_invalid_provisioning_is_rejected(control: Any, backend: Backend) -> None:
    directory, user = await provision(control)
    firm, _ = await backend.firm()
    path = f"/directories/{directory['id']}"
    member = {"user": user["id"], "organization": firm["id"], "role": "org:member"}
    for method, where, body, status in (
        ("POST", "/directories", {"name": ""}, 422),
        ("POST", "/directories", {"title": "x"}, 422),
        ("PATCH", path, {"enabled": "no"}, 422),
        ("PATCH", "/directories/none", {"enabled": True}, 404),
        ("DELETE", "/directories/none", None, 404),
        ("POST", "/directories/none/users", {"email_address": "a@b.example"}, 404),
        ("POST", f"{path}/users", {}, 422),
        ("POST", f"{path}/users", {"email_address": "nonsense"}, 422),
        ("POST", f"{path}/users", {"email_address": "a@b.example", "active": 1}, 422),
        ("POST", f"{path}/users", {"email_address": 1}, 422),
        ("POST", f"{path}/users", {"user": "user_unknown"}, 404),
        ("POST", f"{path}/memberships", {"user": user["id"]}, 422),
        ("POST", f"{path}/memberships", {**member, "role": "org:king"}, 422),
        ("POST", f"{path}/memberships", {**member, "organization": "org_none"}, 422),
        ("POST", "/users/user_unknown/deprovision", None, 404),
    ):
        assert "error" in await control(method, where, body, status=status), (method, where, body)


async def test_users_are_deprovisioned_and_reprovisioned_on_the_page(
    browser: httpx2.AsyncClient, backend: Backend
) -> None:
    user = await backend.user()
    assert "Deprovision" in (await browser.get("/_emulator/pages/users")).text
    for action, holds in (("deprovision", True), ("reprovision", False)):
        done = await browser.post(f"/_emulator/pages/users/{action}", data={"id": user["id"]})
        assert done.status_code == 303
        assert (await backend("GET", f"/users/{user['id']}"))["deprovisioned"] is holds
    missing = await browser.post("/_emulator/pages/users/deprovision", data={"id": "user_none"})
    assert (missing.status_code, "There is no such user." in missing.text) == (422, True)
