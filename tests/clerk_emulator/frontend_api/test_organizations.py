"""Frontend API: organizations, their visibility, permissions and events."""

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Json, Receiver
from tests.clerk_emulator.frontend_api.browser_script import PATH, BrowserScript

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"
PNG = b"\x89PNG\r\n\x1a\n"


class Firm:
    """An organization with an administrator, Ada, and a member, Bo, each in a browser; Cy is no member."""

    def __init__(self, backend: Backend, ada: BrowserScript, bo: BrowserScript, cy: BrowserScript) -> None:
        self.backend, self.ada, self.bo, self.cy = backend, ada, bo, cy
        self.people: dict[str, Json] = {}
        self.id = ""

    @property
    def path(self) -> str:
        return f"/organizations/{self.id}"

    async def begin(self) -> None:
        for name in ("ada", "bo", "cy"):
            self.people[name] = await self.backend.user(f"{name}@example.com", password=PASSWORD)
            await getattr(self, name).sign_in(f"{name}@example.com", PASSWORD)
        created = await self.ada("POST", "/organizations", name="Northwind Law")
        self.id = created["id"]
        await self.ada("POST", f"{self.path}/memberships", user_id=self.people["bo"]["id"], role="org:member")


@pytest.fixture
async def firm(emulator: Emulator, backend: Backend, receiver: Receiver) -> Firm:
    def script() -> BrowserScript:
        transport = httpx2.ASGITransport(emulator)
        return BrowserScript(httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001"))

    firm = Firm(backend, script(), script(), script())
    await firm.begin()
    await emulator.webhooks.drain()
    receiver.got.clear()
    return firm


async def test_the_creator_becomes_a_member(firm: Firm, emulator: Emulator, receiver: Receiver) -> None:
    assert await firm.cy("GET", "/me/organization_creation_defaults") == {"form": None, "advisory": None}
    created = await firm.cy("POST", "/organizations", name="Cy & Sons", slug="cy-sons")
    assert (created["slug"], created["members_count"]) == ("cy-sons", 1)
    mine = await firm.cy("GET", "/me/organization_memberships", paginated="true")
    assert [(row["organization"]["id"], row["role"]) for row in mine["data"]] == [(created["id"], "org:admin")]
    assert "org:sys_memberships:manage" in mine["data"][0]["permissions"]
    await emulator.webhooks.drain()
    assert receiver.types == ["organization.created", "organizationMembership.created"]


async def test_creating_organizations_depends_on_the_user(firm: Firm) -> None:
    cy = firm.people["cy"]["id"]
    await firm.backend("PATCH", f"/users/{cy}", {"create_organizations_limit": 1})
    await firm.cy("POST", "/organizations", name="One")
    assert await firm.cy.no("POST", "/organizations", name="Two") == (403, "org_creation_limit_exceeded")
    await firm.backend("PATCH", f"/users/{cy}", {"create_organization_enabled": False})
    error = await firm.cy.no("POST", "/organizations", name="Two")
    assert error == (403, "user_create_organization_not_enabled")
    assert await firm.ada.no("POST", "/organizations") == (422, "form_param_missing")
    assert await firm.ada.no("POST", "/organizations", name="x", slug="Not A Slug") == (
        422,
        "form_param_format_invalid",
    )
    await firm.backend("PATCH", "/instance/organization_settings", {"slug_disabled": True})
    assert await firm.ada.no("POST", "/organizations", name="x", slug="x") == (403, "organization_slugs_disabled")


async def test_non_members_get_the_error_of_a_missing_organization(firm: Firm) -> None:
    hidden, closed = (404, "organization_not_found_or_unauthorized"), (403, "not_a_member_in_organization")
    for organization in (firm.path, "/organizations/org_unknown"):
        for path in ("", "/invitations"):
            assert await firm.cy.no("GET", organization + path) == hidden, path
        for path in ("/memberships", "/roles", "/invitations/pending", "/membership_requests"):
            assert await firm.cy.no("GET", organization + path) == closed, path
    assert await firm.cy.no("DELETE", f"/me/organization_memberships/{firm.id}") == hidden


async def test_a_member_can_only_read(firm: Firm) -> None:
    missing = (403, "missing_organization_permission")
    ada = firm.people["ada"]["id"]
    assert (await firm.bo("GET", firm.path))["name"] == "Northwind Law"
    assert (await firm.bo("GET", f"{firm.path}/memberships", paginated="true"))["total_count"] == 2
    assert (await firm.bo("GET", f"{firm.path}/roles"))["total_count"] == 2
    for method, path, fields in (
        ("PATCH", "", {"name": "Mine"}),
        ("DELETE", "", {}),
        ("PUT", "/logo", {}),
        ("DELETE", "/logo", {}),
        ("PATCH", f"/memberships/{ada}", {"role": "org:member"}),
        ("DELETE", f"/memberships/{ada}", {}),
        ("POST", "/memberships", {"user_id": firm.people["cy"]["id"], "role": "org:admin"}),
        ("GET", "/invitations", {}),
        ("GET", "/invitations/pending", {}),
        ("POST", "/invitations", {"email_address": "dee@example.com", "role": "org:member"}),
        ("POST", "/invitations/bulk", {"email_address": "dee@example.com", "role": "org:member"}),
        ("POST", "/invitations/orginv_x/revoke", {}),
        ("GET", "/membership_requests", {}),
        ("POST", "/membership_requests/x/accept", {}),
        ("POST", "/membership_requests/x/reject", {}),
    ):
        assert await firm.bo.no(method, firm.path + path, **fields) == missing, (method, path)


async def test_signed_out_requests_are_rejected(firm: Firm) -> None:
    await firm.ada("DELETE", "/client/sessions")
    for method, path in (
        ("GET", firm.path),
        ("POST", "/organizations"),
        ("GET", f"{firm.path}/memberships"),
        ("POST", f"{firm.path}/invitations"),
        ("GET", "/me/organization_memberships"),
        ("GET", "/me/organization_invitations"),
        ("GET", "/me/organization_suggestions"),
    ):
        assert await firm.ada.no(method, path) == (401, "signed_out"), path


async def test_an_organization_is_updated_and_deleted(firm: Firm, emulator: Emulator, receiver: Receiver) -> None:
    changed = await firm.ada("PATCH", firm.path, name="Northwind", slug="northwind")
    assert (changed["name"], changed["slug"]) == ("Northwind", "northwind")
    assert await firm.ada.no("DELETE", f"{firm.path}/logo") == (404, "image_not_found")
    await firm.backend("PATCH", firm.path, {"admin_delete_enabled": False})
    assert await firm.ada.no("DELETE", firm.path) == (403, "organization_admin_delete_not_enabled")
    await firm.backend("PATCH", firm.path, {"admin_delete_enabled": True})
    gone = await firm.ada("DELETE", firm.path)
    assert gone == {"object": "organization", "id": firm.id, "slug": "northwind", "deleted": True}
    client = await firm.bo.client()
    assert client["sessions"][0]["user"]["organization_memberships"] == []
    assert client["sessions"][0]["last_active_organization_id"] is None
    await emulator.webhooks.drain()
    assert receiver.types == [*["organization.updated"] * 3, "organization.deleted"]


async def test_a_logo_is_set_and_deleted(firm: Firm, emulator: Emulator, receiver: Receiver) -> None:
    files = {"file": ("logo.png", PNG, "image/png")}
    answer = await firm.ada.http.post(f"{PATH}{firm.path}/logo", params={"_method": "PUT"}, files=files)
    image = answer.json()["response"]["logo_url"]
    assert (await firm.ada("GET", firm.path))["image_url"] == image
    assert (await firm.ada.http.get(image)).content == PNG
    assert (await firm.ada("DELETE", f"{firm.path}/logo"))["deleted"]
    assert not (await firm.ada("GET", firm.path))["has_image"]
    await emulator.webhooks.drain()
    assert receiver.types == ["organization.updated"] * 2


async def test_members_are_found_by_role_and_by_a_part_of_their_address(firm: Firm) -> None:
    path = f"{firm.path}/memberships"

    async def found(**query: str) -> list[str]:
        answer = await firm.ada("GET", path, paginated="true", **query)
        assert answer["total_count"] >= len(answer["data"])
        return [row["public_user_data"]["identifier"] for row in answer["data"]]

    assert await found() == ["bo@example.com", "ada@example.com"]
    assert await found(limit="1", offset="1") == ["ada@example.com"]
    assert await found(role="org:member") == ["bo@example.com"]
    assert await found(query="ADA") == ["ada@example.com"]
    assert len(await firm.ada("GET", path)) == 2, "without `paginated` it is a bare list"


async def test_a_member_changes_role_and_is_removed(firm: Firm, emulator: Emulator, receiver: Receiver) -> None:
    ada, bo = firm.people["ada"]["id"], firm.people["bo"]["id"]
    kept = (400, "organization_minimum_permissions_needed")
    assert await firm.ada.no("PATCH", f"{firm.path}/memberships/{ada}", role="org:member") == kept
    assert await firm.ada.no("DELETE", f"{firm.path}/memberships/{ada}") == kept
    assert await firm.ada.no("DELETE", f"/me/organization_memberships/{firm.id}") == kept
    assert await firm.ada.no("PATCH", f"{firm.path}/memberships/{bo}", role="org:king") == (404, "resource_not_found")
    assert (await firm.ada("PATCH", f"{firm.path}/memberships/{bo}", role="org:admin"))["role"] == "org:admin"
    left = await firm.ada("DELETE", f"/me/organization_memberships/{firm.id}")
    assert (left["object"], left["deleted"]) == ("organization_membership", True)
    assert await firm.ada.no("GET", firm.path) == (404, "organization_not_found_or_unauthorized")
    await firm.bo("POST", f"{firm.path}/memberships", user_id=ada, role="org:member")
    out = await firm.bo("DELETE", f"{firm.path}/memberships/{ada}")
    assert out["public_user_data"]["user_id"] == ada
    await emulator.webhooks.drain()
    assert [type_.partition(".")[2] for type_ in receiver.types] == ["updated", "deleted", "created", "deleted"]


async def test_an_invitation_is_created_listed_and_revoked(firm: Firm, emulator: Emulator, receiver: Receiver) -> None:
    path = f"{firm.path}/invitations"
    created = await firm.ada("POST", path, email_address="dee@example.com", role="org:member")
    assert (created["status"], created["url"]) == ("pending", None)
    ticket = emulator.state.organization_invitations.find(created["id"]).ticket  # type: ignore[union-attr]
    again = await firm.ada.no("POST", path, email_address="dee@example.com", role="org:member")
    assert again == (400, "organization_invitation_not_unique")
    member = await firm.ada.no("POST", path, email_address="bo@example.com", role="org:member")
    assert member == (400, "already_a_member_in_organization")
    listed = await firm.ada.raw("GET", path, status="pending", limit="10", offset="0")
    assert [row["id"] for row in listed.json()["response"]["data"]] == [created["id"]]
    assert ticket not in listed.text
    assert (await firm.ada("POST", f"{path}/{created['id']}/revoke"))["status"] == "revoked"
    assert await firm.ada.no("POST", f"{path}/{created['id']}/revoke") == (404, "organization_invitation_not_pending")
    assert (await firm.ada("GET", f"{path}/pending"))["total_count"] == 0
    assert (await firm.ada("GET", path, status="revoked"))["total_count"] == 1
    await emulator.webhooks.drain()
    assert receiver.types == ["organizationInvitation.created", "organizationInvitation.revoked"]
    assert receiver.data("organizationInvitation.created")["inviter_id"] == firm.people["ada"]["id"]


async def test_bulk_invitations_are_all_or_none(firm: Firm) -> None:
    path = f"{firm.path}/invitations/bulk"
    addresses = ["dee@example.com", "eve@example.com"]
    error = await firm.ada.no("POST", path, email_address=[*addresses, "bo@example.com"], role="org:member")
    assert error == (400, "already_a_member_in_organization")
    too_many = [f"u{number}@example.com" for number in range(11)]
    assert (await firm.ada.no("POST", path, email_address=too_many, role="org:member"))[0] == 422
    created = await firm.ada("POST", path, email_address=addresses, role="org:member")
    assert {row["email_address"] for row in created} == set(addresses)
    over = await firm.ada.no("POST", path, email_address=["f@example.com", "g@example.com"], role="org:member")
    assert over == (403, "organization_membership_quota_exceeded")


async def test_the_invitee_sees_the_invitation_and_joins(firm: Firm, emulator: Emulator, receiver: Receiver) -> None:
    created = await firm.ada("POST", f"{firm.path}/invitations", email_address="cy@example.com", role="org:admin")
    mine = await firm.cy("GET", "/me/organization_invitations", status="pending")
    assert [row["public_organization_data"]["name"] for row in mine["data"]] == ["Northwind Law"]
    accept = f"/me/organization_invitations/{created['id']}/accept"
    assert await firm.bo.no("POST", accept) == (404, "organization_invitation_not_found")
    assert (await firm.cy("POST", accept))["status"] == "accepted"
    assert (await firm.cy("GET", firm.path))["members_count"] == 3
    assert (await firm.cy("GET", "/me/organization_suggestions"))["total_count"] == 0
    assert await firm.cy.no("POST", "/me/organization_suggestions/x/accept") == (404, "resource_not_found")
    await emulator.webhooks.drain()
    kinds = ["organizationInvitation.created", "organizationMembership.created", "organizationInvitation.accepted"]
    assert receiver.types == kinds


async def test_a_domain_is_verified_by_one_of_its_addresses(firm: Firm, emulator: Emulator, receiver: Receiver) -> None:
    path = f"{firm.path}/domains"
    assert await firm.bo.no("GET", path) == (403, "missing_organization_permission")
    assert await firm.cy.no("GET", path) == (403, "not_a_member_in_organization")
    assert await firm.ada.no("POST", path, name="northwind.example") == (403, "organization_domains_not_enabled")
    emulator.state.settings.organization_domains_enabled = True
    created = await firm.ada("POST", path, name="northwind.example")
    assert (created["verification"], created["enrollment_mode"]) == (None, "manual_invitation")
    one = f"{path}/{created['id']}"
    invalid = await firm.ada.no(
        "POST", f"{one}/prepare_affiliation_verification", affiliation_email_address="ada@example.com"
    )
    assert invalid == (422, "organization_domain_mismatch")
    assert await firm.ada.no("POST", f"{one}/attempt_affiliation_verification", code="1") == (
        400,
        "verification_missing",
    )
    begun = await firm.ada(
        "POST",
        f"{one}/prepare_affiliation_verification",
        affiliation_email_address="ada+clerk_test@northwind.example",
    )
    assert begun["verification"]["status"] == "unverified"
    assert await firm.ada.no("POST", f"{one}/attempt_affiliation_verification", code="1") == (
        422,
        "form_code_incorrect",
    )
    done = await firm.ada("POST", f"{one}/attempt_affiliation_verification", code="424242")
    assert (done["verification"]["status"], done["verification"]["strategy"]) == ("verified", "email_code")
    assert (await firm.ada("GET", path, verified="true"))["total_count"] == 1
    error = await firm.ada.no("POST", f"{one}/update_enrollment_mode", enrollment_mode="automatic_suggestion")
    assert error == (403, "organization_domain_enrollment_mode_not_enabled")
    await firm.ada("POST", f"{one}/update_enrollment_mode", enrollment_mode="manual_invitation")
    assert (await firm.ada("GET", one))["id"] == created["id"]
    assert (await firm.ada("DELETE", one))["deleted"]
    assert await firm.ada.no("GET", one) == (404, "resource_not_found")
    await emulator.webhooks.drain()
    kinds = ["organizationDomain.created", *["organizationDomain.updated"] * 3, "organizationDomain.deleted"]
    assert receiver.types == kinds
