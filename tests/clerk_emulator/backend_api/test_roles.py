"""Backend API: roles, permissions and role sets."""

import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def test_a_custom_role_is_assigned_to_a_member(backend: Backend) -> None:
    firm, _ = await backend.firm()
    bo = await backend.user("bo@example.com")
    read = await backend("POST", "/organization_permissions", {"name": "Read", "key": "org:files:read"})
    body = {"name": "Clerk", "key": "org:clerk", "permissions": [read["id"]], "include_in_initial_role_set": True}
    role = await backend("POST", "/organization_roles", body)
    path = f"/organizations/{firm['id']}/memberships"
    member = await backend("POST", path, {"user_id": bo["id"], "role": "org:clerk"})
    assert member["permissions"] == ["org:files:read"]
    await backend("PATCH", f"/organization_roles/{role['id']}", {"key": "org:law_clerk"})
    assert (await backend("GET", path, role="org:law_clerk"))["total_count"] == 1
    assert await backend.no("DELETE", f"/organization_roles/{role['id']}") == (
        422,
        "organization_role_assigned_members",
    )


async def test_a_role_outside_of_the_organizations_set_is_unknown_there(backend: Backend) -> None:
    firm, _ = await backend.firm()
    bo = await backend.user("bo@example.com")
    await backend("POST", "/organization_roles", {"name": "Guest", "key": "org:guest"})
    path, body = f"/organizations/{firm['id']}/memberships", {"user_id": bo["id"], "role": "org:guest"}
    assert await backend.no("POST", path, body) == (404, "resource_not_found")
    guests = {"default_role_key": "org:guest", "creator_role_key": "org:admin", "roles": ["org:guest", "org:admin"]}
    created = await backend("POST", "/role_sets", {"name": "Guests", **guests})
    assert created["key"] == "role_set:guests"
    await backend("PATCH", f"/organizations/{firm['id']}", {"role_set_key": created["key"]})
    assert (await backend("POST", path, body))["role"] == "org:guest"
    (item,) = [
        row for row in (await backend("GET", f"/role_sets/{created['id']}"))["roles"] if row["key"] == "org:guest"
    ]
    assert item["members_count"] == 1


async def test_replacing_a_set_needs_a_mapping_for_roles_that_members_have(
    backend: Backend, emulator: Emulator
) -> None:
    await backend("POST", "/organization_roles", {"name": "Guest", "key": "org:guest"})
    guests = {"default_role_key": "org:guest", "creator_role_key": "org:guest", "roles": ["org:guest"]}
    created = await backend("POST", "/role_sets", {"name": "Guests", **guests})
    firm, _ = await backend.firm(role_set_key=created["key"])
    path, body = f"/role_sets/{created['id']}/replace", {"dest_role_set_key": "role_set:default"}
    assert await backend.no("POST", path, body) == (422, "organization_role_set_reassignment_mappings_missing")
    await backend("POST", path, {**body, "reassignment_mappings": {"org:guest": "org:admin"}})
    (member,) = (await backend("GET", f"/organizations/{firm['id']}/memberships"))["data"]
    assert member["role"] == "org:admin"
    types = [message.type for message in emulator.webhooks.log.messages.values()]
    assert types[-1] == "organizationMembership.updated"


async def test_system_permissions_and_the_creator_role_cannot_be_removed(backend: Backend) -> None:
    (system,) = (await backend("GET", "/organization_permissions", query="sys_profile:delete"))["data"]
    path = f"/organization_permissions/{system['id']}"
    assert await backend.no("DELETE", path) == (403, "organization_system_permission_not_modifiable")
    (admin,) = (await backend("GET", "/organization_roles", query="org:admin"))["data"]
    path = f"/organization_roles/{admin['id']}"
    assert await backend.no("DELETE", path) == (422, "organization_role_default_creator_role")
    error = await backend.no("DELETE", f"{path}/permissions/{system['id']}")
    assert error == (422, "organization_missing_creator_role_permissions")
