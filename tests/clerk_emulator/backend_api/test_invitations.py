"""Backend API: invitations to organizations and to the application."""

import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def test_an_address_has_one_pending_invitation_per_organization(backend: Backend) -> None:
    organization, _ = await backend.firm()
    first = await backend.invite(organization, "Bo@example.com")
    path = f"/organizations/{organization['id']}/invitations"
    body = {"email_address": "bo@EXAMPLE.com", "role": "org:member"}
    assert await backend.no("POST", path, body) == (400, "organization_invitation_not_unique")
    await backend("POST", f"{path}/{first['id']}/revoke", {})
    await backend("POST", path, body)


async def test_a_member_is_not_invited(backend: Backend) -> None:
    organization, _ = await backend.firm()
    body = {"email_address": "ada@example.com", "role": "org:member"}
    path = f"/organizations/{organization['id']}/invitations"
    assert await backend.no("POST", path, body) == (400, "already_a_member_in_organization")


async def test_only_a_pending_invitation_is_revoked(backend: Backend, emulator: Emulator) -> None:
    organization, _ = await backend.firm()
    invitation = await backend.invite(organization, expires_in_days=1)
    path = f"/organizations/{organization['id']}/invitations"
    assert await backend.no("POST", f"{path}/orginv_none/revoke") == (404, "resource_not_found")
    emulator.clock.advance(days=1)
    not_pending = (404, "organization_invitation_not_pending")
    assert await backend.no("POST", f"{path}/{invitation['id']}/revoke") == not_pending
    again = await backend.invite(organization)
    assert (await backend("POST", f"{path}/{again['id']}/revoke"))["status"] == "revoked"
    assert await backend.no("POST", f"{path}/{again['id']}/revoke") == not_pending


async def test_statuses_are_filtered_repeatedly_and_follow_the_clock(backend: Backend, emulator: Emulator) -> None:
    organization, _ = await backend.firm(max_allowed_memberships=0)
    old = await backend.invite(organization, "old@example.com", expires_in_days=2)
    gone = await backend.invite(organization, "gone@example.com")
    path = f"/organizations/{organization['id']}/invitations"
    await backend("POST", f"{path}/{gone['id']}/revoke")
    emulator.clock.advance(days=3)
    new = await backend.invite(organization, "new@example.com")

    async def ids(**query: object) -> list[str]:
        return [row["id"] for row in (await backend("GET", path, **query))["data"]]

    assert await ids() == [new["id"], gone["id"], old["id"]]
    assert await ids(status="expired") == [old["id"]]
    assert await ids(status=["pending", "revoked"]) == [new["id"], gone["id"]]
    assert await ids(email_address="GONE@example.com") == [gone["id"]]
    assert await ids(order_by="+email_address") == [gone["id"], new["id"], old["id"]]
    assert (await backend.no("GET", path, status="nonsense"))[0] == 422
    pending = await backend("GET", f"{path}/pending")
    assert [row["id"] for row in pending["data"]] == [new["id"]]
    everywhere = await backend("GET", "/organization_invitations", status="pending")
    assert everywhere["data"][0]["public_organization_data"]["slug"] == "northwind-law"


async def test_bulk_creation_is_all_or_none(backend: Backend) -> None:
    organization, _ = await backend.firm(max_allowed_memberships=0)
    path = f"/organizations/{organization['id']}/invitations"
    good = {"email_address": "a@example.com", "role": "org:member"}
    bad = {"email_address": "ada@example.com", "role": "org:member"}
    assert (await backend.no("POST", f"{path}/bulk", [good, bad]))[1] == "already_a_member_in_organization"
    assert (await backend("GET", path))["total_count"] == 0
    created = await backend("POST", f"{path}/bulk", [good, {**good, "email_address": "b@example.com"}])
    assert created["total_count"] == 2
    many = [{**good, "email_address": f"p{number}@example.com"} for number in range(11)]
    assert (await backend.no("POST", f"{path}/bulk", many))[0] == 422


async def test_only_a_manager_can_be_the_inviter(backend: Backend) -> None:
    organization, admin = await backend.firm(max_allowed_memberships=0)
    bo = await backend.user("bo@example.com")
    path = f"/organizations/{organization['id']}"
    body = {"email_address": "cy@example.com", "role": "org:member", "inviter_user_id": bo["id"]}
    assert await backend.no("POST", f"{path}/invitations", body) == (403, "not_a_member_in_organization")
    await backend("POST", f"{path}/memberships", {"user_id": bo["id"], "role": "org:member"})
    assert await backend.no("POST", f"{path}/invitations", body) == (403, "missing_organization_permission")
    created = await backend("POST", f"{path}/invitations", {**body, "inviter_user_id": admin["id"]})
    assert created["public_inviter_data"]["first_name"] == "Ada"


async def test_application_invitations_have_their_own_errors(backend: Backend) -> None:
    created = await backend("POST", "/invitations", {"email_address": "bo@example.com"})
    assert await backend.no("POST", "/invitations", {"email_address": "bo@example.com"}) == (400, "duplicate_record")
    await backend("POST", "/invitations", {"email_address": "bo@example.com", "ignore_existing": True})
    revoked = await backend("POST", f"/invitations/{created['id']}/revoke")
    assert (revoked["revoked"], revoked["status"]) == (True, "revoked")
    path = f"/invitations/{created['id']}/revoke"
    assert await backend.no("POST", path) == (400, "invitation_already_revoked")
    assert await backend.no("POST", "/invitations/inv_none/revoke") == (404, "resource_not_found")
    assert len(await backend("GET", "/invitations")) == 1
    paged = await backend("GET", "/invitations", paginated="true", status="revoked")
    assert (paged["total_count"], paged["data"][0]["id"]) == (1, created["id"])


async def test_existing_users_are_not_invited_to_the_application(backend: Backend) -> None:
    await backend.user("bo@example.com")
    assert (await backend.no("POST", "/invitations", {"email_address": "bo@example.com"}))[0] == 422
