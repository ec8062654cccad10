"""Organizations in Clerk's components: changes arrive in the emulator and publish events."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.clerk_emulator.browser.application import Application, wait_until
from tests.support.browser import NewPage

FIRM = {
    "users": [
        {"id": "user_ada", "email_address": "ada@example.com", "first_name": "Ada"},
        {"id": "user_bo", "email_address": "bo@example.com", "first_name": "Bo"},
        {"id": "user_cy", "email_address": "cy@example.com", "first_name": "Cy"},
    ],
    "organizations": [
        {"id": "org_second", "name": "Second", "created_by": "user_ada"},
        {
            "id": "org_firm",
            "name": "Northwind Law",
            "created_by": "user_ada",
            "members": [{"user": "user_bo", "role": "org:member"}],
            "invitations": [{"email_address": "dee@example.com"}],
        },
    ],
}
SWITCH = "id => Clerk.setActive({organization: id})"


@pytest.fixture
def app(app: Application) -> Application:
    """The application with an organization."""
    app.clerk.seed(**FIRM)
    return app


def enter(app: Application, page: Page, user_id: str, component: str, organization_id: str | None = "org_firm") -> None:
    """Sign a user in, activate the organization, and show a component."""
    app.sign_in(page, user_id)
    app.visit(page)
    page.evaluate(SWITCH, organization_id)
    app.mount(page, component)


def open_members(page: Page) -> None:
    """Open the page of the members."""
    page.get_by_role("button", name="Members", exact=True).click()


def row(page: Page, address: str) -> Locator:
    """Return the row of a member."""
    return page.get_by_role("row").filter(has_text=address)


def event_types(app: Application) -> list[str]:
    """Return the types of the events after the session began."""
    return [type_ for type_, _ in app.events() if not type_.startswith("session.")]


def organization_of(claims: dict[str, Any] | None) -> Any:
    """Return the organization that a token names."""
    assert claims is not None
    return claims.get("o")


def test_switching_the_organization_changes_the_token(app: Application, page: Page) -> None:
    enter(app, page, "user_ada", "OrganizationSwitcher", None)
    assert organization_of(app.claims(page)) is None
    page.get_by_role("button", name="Open organization switcher").click()
    page.get_by_role("button", name="Northwind Law").click()
    wait_until(page, "Clerk.organization?.id === 'org_firm'")
    assert organization_of(app.claims(page)) == {"id": "org_firm", "slg": "northwind-law", "rol": "admin"}
    page.get_by_role("button", name="Open organization switcher").click()
    page.get_by_role("button", name="Second").click()
    wait_until(page, "Clerk.organization?.id === 'org_second'")
    assert organization_of(app.claims(page))["id"] == "org_second"
    session = app.api("GET", "/sessions", user_id="user_ada", status="active")[0]
    assert session["last_active_organization_id"] == "org_second"
    assert event_types(app) == []


def test_an_invited_user_joins_in_the_switcher(app: Application, page: Page) -> None:
    invitation = {"email_address": "cy@example.com", "role": "org:admin", "inviter_user_id": "user_ada"}
    app.api("POST", "/organizations/org_firm/invitations", invitation)
    enter(app, page, "user_cy", "OrganizationSwitcher", None)
    page.get_by_role("button", name="Open organization switcher").click()
    page.get_by_role("button", name="Join").click()
    expect(page.get_by_role("button", name="Join")).to_have_count(0)
    wait_until(page, "Clerk.user.organizationMemberships.length === 1")
    members = app.api("GET", "/organizations/org_firm/memberships", role="org:admin")["data"]
    assert {row["public_user_data"]["user_id"] for row in members} == {"user_ada", "user_cy"}
    assert event_types(app) == [
        "organizationInvitation.created",
        "organizationMembership.created",
        "organizationInvitation.accepted",
    ]


def test_a_user_with_an_address_at_the_domain_requests_to_join_and_is_accepted(
    app: Application, new_page: NewPage
) -> None:
    modes = ["manual_invitation", "automatic_suggestion"]
    eve = {"id": "user_eve", "email_address": "eve@northwind.example"}
    app.clerk.seed(users=[eve], settings={"organization_domains_enabled": True, "enrollment_modes": modes})
    domain = {"name": "northwind.example", "enrollment_mode": "automatic_suggestion"}
    app.api("POST", "/organizations/org_firm/domains", domain)
    pages = new_page(), new_page()
    enter(app, pages[0], "user_eve", "OrganizationSwitcher", None)
    pages[0].get_by_role("button", name="Open organization switcher").click()
    pages[0].get_by_role("button", name="Request to join").click()
    expect(pages[0].get_by_text("Pending approval")).to_be_visible()
    enter(app, pages[1], "user_ada", "OrganizationProfile")
    open_members(pages[1])
    pages[1].get_by_role("tab", name="Requests").click()
    row(pages[1], "eve@northwind.example").get_by_role("button", name="Approve").click()
    expect(row(pages[1], "eve@northwind.example").get_by_role("button", name="Approve")).to_have_count(0)
    members = app.api("GET", "/organizations/org_firm/memberships", role="org:member")["data"]
    assert {member["public_user_data"]["user_id"] for member in members} == {"user_bo", "user_eve"}
    assert event_types(app) == ["organizationDomain.created", "organizationMembership.created"]


def test_an_organization_is_created(app: Application, page: Page) -> None:
    enter(app, page, "user_cy", "CreateOrganization", None)
    page.get_by_label("Name", exact=True).fill("Cy & Sons")
    expect(page.get_by_label("Slug")).to_have_value("cy-sons")
    page.get_by_role("button", name="Create organization").click()
    wait_until(page, "Clerk.organization?.slug === 'cy-sons'")
    assert organization_of(app.claims(page))["rol"] == "admin"
    created = app.api("GET", "/organizations/cy-sons")
    assert (created["name"], created["created_by"]) == ("Cy & Sons", "user_cy")
    assert event_types(app) == ["organization.created", "organizationMembership.created"]


def test_a_person_is_invited(app: Application, page: Page) -> None:
    enter(app, page, "user_ada", "OrganizationProfile")
    open_members(page)
    page.get_by_role("button", name="Invite", exact=True).click()
    page.get_by_role("textbox").press_sequentially("eve@example.com,fay@example.com,")
    page.get_by_role("button", name="Role: Member").click()
    page.get_by_role("option", name="Admin").click()
    page.get_by_role("button", name="Send invitations").click()
    expect(page.get_by_role("tab", name="Invitations")).to_contain_text("3")
    pending = app.api("GET", "/organizations/org_firm/invitations", status="pending")["data"]
    assert {(row["email_address"], row["role"]) for row in pending} == {
        ("dee@example.com", "org:member"),
        ("eve@example.com", "org:admin"),
        ("fay@example.com", "org:admin"),
    }
    assert event_types(app) == ["organizationInvitation.created"] * 2
    assert app.last("organizationInvitation.created")["inviter_id"] == "user_ada"
    assert {mail["to"] for mail in app.clerk.mail} >= {"eve@example.com", "fay@example.com"}


def test_an_invitation_is_revoked(app: Application, page: Page) -> None:
    enter(app, page, "user_ada", "OrganizationProfile")
    open_members(page)
    page.get_by_role("tab", name="Invitations").click()
    row(page, "dee@example.com").get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Revoke invitation").click()
    expect(row(page, "dee@example.com")).to_have_count(0)
    (invitation,) = app.api("GET", "/organizations/org_firm/invitations")["data"]
    assert invitation["status"] == "revoked"
    assert event_types(app) == ["organizationInvitation.revoked"]
    assert app.last("organizationInvitation.revoked")["id"] == invitation["id"]


def test_a_role_is_changed(app: Application, page: Page) -> None:
    enter(app, page, "user_ada", "OrganizationProfile")
    open_members(page)
    row(page, "bo@example.com").get_by_role("button", name="Member").click()
    page.get_by_role("option", name="Admin").click()
    expect(row(page, "bo@example.com").get_by_role("button", name="Admin")).to_be_visible()
    (member,) = app.api("GET", "/organizations/org_firm/memberships", user_id=["user_bo"])["data"]
    assert member["role"] == "org:admin"
    assert event_types(app) == ["organizationMembership.updated"]
    assert app.last("organizationMembership.updated")["role"] == "org:admin"


def test_a_removed_member_gets_a_token_without_the_organization(app: Application, new_page: NewPage) -> None:
    bo, ada = new_page(), new_page()
    app.sign_in(bo, "user_bo")
    app.visit(bo)
    assert organization_of(app.claims(bo))["id"] == "org_firm"
    enter(app, ada, "user_ada", "OrganizationProfile")
    open_members(ada)
    row(ada, "bo@example.com").get_by_role("button", name="Open menu").click()
    ada.get_by_role("menuitem", name="Remove member").click()
    expect(row(ada, "bo@example.com")).to_have_count(0)
    assert app.api("GET", "/users/user_bo/organization_memberships")["total_count"] == 0
    assert event_types(app) == ["organizationMembership.deleted"]
    assert app.last("organizationMembership.deleted")["public_user_data"]["user_id"] == "user_bo"
    app.visit(bo)
    assert organization_of(app.claims(bo)) is None


def test_members_are_searched(app: Application, page: Page) -> None:
    enter(app, page, "user_ada", "OrganizationProfile")
    open_members(page)
    expect(row(page, "bo@example.com")).to_be_visible()
    page.get_by_role("searchbox").fill("ada@")
    page.get_by_role("searchbox").press("Enter")
    expect(row(page, "bo@example.com")).to_have_count(0)
    expect(row(page, "ada@example.com")).to_be_visible()


def test_a_member_without_permissions_can_read_and_leave(app: Application, page: Page) -> None:
    enter(app, page, "user_bo", "OrganizationProfile")
    open_members(page)
    expect(row(page, "ada@example.com")).to_contain_text("Admin")
    expect(page.get_by_role("button", name="Invite", exact=True)).to_have_count(0)
    expect(page.get_by_role("tab", name="Invitations")).to_have_count(0)
    page.get_by_role("button", name="General").click()
    expect(page.get_by_role("button", name="Delete organization")).to_have_count(0)
    page.get_by_role("button", name="Leave organization").click()
    page.get_by_label('Type "Northwind Law"').fill("Northwind Law")
    page.locator("form").get_by_role("button", name="Leave organization").click()
    wait_until(page, "!Clerk.organization && !Clerk.user.organizationMemberships.length")
    assert event_types(app) == ["organizationMembership.deleted"]
    assert app.api("GET", "/organizations/org_firm", include_members_count=True)["members_count"] == 1


def test_an_organization_is_renamed_and_deleted(app: Application, page: Page) -> None:
    enter(app, page, "user_ada", "OrganizationProfile")
    page.get_by_role("button", name="Update profile").click()
    page.get_by_label("Name", exact=True).fill("Northwind")
    page.get_by_role("button", name="Save").click()
    wait_until(page, "Clerk.organization.name === 'Northwind'")
    page.get_by_role("button", name="Delete organization").click()
    page.get_by_label('Type "Northwind"').fill("Northwind")
    page.locator("form").get_by_role("button", name="Delete organization").click()
    wait_until(page, "!Clerk.organization && Clerk.user.organizationMemberships.length === 1")
    assert [found["id"] for found in app.api("GET", "/organizations")["data"]] == ["org_second"]
    assert event_types(app) == ["organization.updated", "organization.deleted"]
