"""Backend API: organizations and memberships."""

import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def test_the_creator_is_the_first_administrator(backend: Backend) -> None:
    organization, admin = await backend.firm()
    assert organization["slug"] == "northwind-law"
    members = await backend("GET", f"/organizations/{organization['id']}/memberships")
    (member,) = members["data"]
    assert (member["role"], member["public_user_data"]["user_id"]) == ("org:admin", admin["id"])
    assert members["total_count"] == 1
    assert "org:sys_memberships:manage" in member["permissions"]


async def test_slugs_are_unique_and_found(backend: Backend) -> None:
    first, _ = await backend.firm()
    second = await backend("POST", "/organizations", {"name": "Northwind Law"})
    assert second["slug"] != first["slug"]
    assert (await backend("GET", f"/organizations/{second['slug']}"))["id"] == second["id"]
    taken = {"name": "Other", "slug": first["slug"]}
    assert await backend.no("POST", "/organizations", taken) == (422, "form_identifier_exists")
    odd = {"name": "Other", "slug": "Not A Slug"}
    assert await backend.no("POST", "/organizations", odd) == (422, "form_param_format_invalid")


async def test_the_last_administrator_cannot_be_removed(backend: Backend) -> None:
    organization, admin = await backend.firm()
    mine = f"/organizations/{organization['id']}/memberships/{admin['id']}"
    error = (400, "organization_minimum_permissions_needed")
    assert await backend.no("DELETE", mine) == error
    assert await backend.no("PATCH", mine, {"role": "org:member"}) == error
    bo = await backend.user("bo@example.com")
    body = {"user_id": bo["id"], "role": "org:admin"}
    await backend("POST", f"/organizations/{organization['id']}/memberships", body)
    assert (await backend("PATCH", mine, {"role": "org:member"}))["role"] == "org:member"
    assert (await backend("DELETE", mine))["object"] == "organization_membership"


async def test_a_member_cant_join_twice_and_a_role_must_be_known(backend: Backend) -> None:
    organization, admin = await backend.firm()
    path = f"/organizations/{organization['id']}/memberships"
    body = {"user_id": admin["id"], "role": "org:member"}
    assert await backend.no("POST", path, body) == (400, "already_a_member_in_organization")
    bo = await backend.user("bo@example.com")
    assert await backend.no("POST", path, {"user_id": bo["id"], "role": "member"}) == (404, "resource_not_found")
    assert await backend.no("POST", path, {"user_id": bo["id"]}) == (422, "form_param_missing")


async def test_joining_again_creates_another_membership(backend: Backend) -> None:
    organization, _ = await backend.firm()
    bo = await backend.user("bo@example.com")
    path = f"/organizations/{organization['id']}/memberships"
    first = await backend("POST", path, {"user_id": bo["id"], "role": "org:member"})
    await backend("DELETE", f"{path}/{bo['id']}")
    second = await backend("POST", path, {"user_id": bo["id"], "role": "org:member"})
    assert first["id"] != second["id"]


async def test_the_quota_counts_pending_invitations(backend: Backend, emulator: Emulator) -> None:
    organization, _ = await backend.firm(max_allowed_memberships=3)
    path = f"/organizations/{organization['id']}/memberships"
    await backend.invite(organization, "a@example.com")
    bo = await backend.user("bo@example.com")
    await backend("POST", path, {"user_id": bo["id"], "role": "org:member"})
    invitation = {"email_address": "c@example.com", "role": "org:member"}
    full = (403, "organization_membership_quota_exceeded")
    assert await backend.no("POST", f"/organizations/{organization['id']}/invitations", invitation) == full
    cy = await backend.user("cy@example.com")
    assert await backend.no("POST", path, {"user_id": cy["id"], "role": "org:member"}) == full
    emulator.clock.advance(days=31)
    await backend("POST", path, {"user_id": cy["id"], "role": "org:member"})


async def test_members_are_filtered_and_ordered(backend: Backend) -> None:
    organization, admin = await backend.firm(max_allowed_memberships=0)
    path = f"/organizations/{organization['id']}/memberships"
    for name in ("Zoe", "Bo"):
        user = await backend.user(f"{name.lower()}@example.com", first_name=name)
        await backend("POST", path, {"user_id": user["id"], "role": "org:member"})

    async def names(**query: object) -> list[str]:
        found = await backend("GET", path, **query)
        return [row["public_user_data"]["first_name"] for row in found["data"]]

    assert await names() == ["Bo", "Zoe", "Ada"]
    assert await names(order_by="first_name") == ["Ada", "Bo", "Zoe"]
    assert await names(order_by="-email_address") == ["Zoe", "Bo", "Ada"]
    assert await names(role="org:admin") == ["Ada"]
    assert await names(query="zo") == ["Zoe"]
    assert await names(user_id=f"-{admin['id']}") == ["Bo", "Zoe"]
    assert await names(limit=1, offset=1) == ["Zoe"]
    everywhere = await backend("GET", "/organization_memberships", limit=2)
    assert (len(everywhere["data"]), everywhere["total_count"]) == (2, 3)
    mine = await backend("GET", f"/users/{admin['id']}/organization_memberships")
    assert mine["total_count"] == 1


async def test_deleting_an_organization_deletes_its_data(backend: Backend) -> None:
    organization, admin = await backend.firm()
    await backend.invite(organization)
    session = await backend("POST", "/sessions", {"user_id": admin["id"]})
    assert session["last_active_organization_id"] == organization["id"]
    gone = await backend("DELETE", f"/organizations/{organization['id']}")
    assert gone["deleted"] is True
    assert (await backend.no("GET", f"/organizations/{organization['id']}/invitations"))[0] == 404
    assert (await backend("GET", "/organization_memberships"))["total_count"] == 0
    assert (await backend("GET", "/organization_invitations"))["total_count"] == 0
    assert (await backend("GET", f"/sessions/{session['id']}"))["last_active_organization_id"] is None


async def test_counts_are_returned_on_request(backend: Backend) -> None:
    organization, _ = await backend.firm()
    await backend.invite(organization)
    plain = await backend("GET", f"/organizations/{organization['id']}")
    assert "members_count" not in plain
    (listed,) = (await backend("GET", "/organizations", include_members_count="true"))["data"]
    assert (listed["members_count"], listed["pending_invitations_count"]) == (1, 1)


async def test_deleting_a_user_may_leave_an_organization_without_administrator(backend: Backend) -> None:
    organization, admin = await backend.firm()
    await backend("DELETE", f"/users/{admin['id']}")
    query = {"include_missing_member_with_elevated_permissions": "true"}
    found = await backend("GET", f"/organizations/{organization['id']}", **query)
    assert found["missing_member_with_elevated_permissions"] is True


async def test_organization_metadata_follows_the_version(backend: Backend) -> None:
    organization, _ = await backend.firm()
    path, body = f"/organizations/{organization['id']}", {"private_metadata": {"a": 1}}
    newest = {"__clerk_api_version": "2026-05-12"}
    assert await backend.no("PATCH", path, body, **newest) == (422, "form_param_deprecated")
    await backend("PATCH", path, body, __clerk_api_version="2025-11-10")
    merged = await backend("PATCH", f"{path}/metadata", {"private_metadata": {"b": 2}})
    assert merged["private_metadata"] == {"a": 1, "b": 2}
