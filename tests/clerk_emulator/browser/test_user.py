"""The user button and the user profile of Clerk's components."""

import pytest
from playwright.sync_api import Page, expect

from tests.clerk_emulator.browser.application import Application, wait_until

ADA = {
    "id": "user_ada",
    "email_address": "ada@example.com",
    "first_name": "Ada",
    "last_name": "North",
    "password": "a good one",
}


@pytest.fixture
def app(app: Application) -> Application:
    """The application with one user."""
    app.clerk.seed(users=[ADA])
    return app


def event_types(app: Application) -> list[str]:
    """Return the types of the events after the session began."""
    return [type_ for type_, _ in app.events() if type_ != "session.created"]


def test_the_user_button_shows_the_user_and_signs_out(app: Application, page: Page) -> None:
    app.sign_in(page, "user_ada")
    app.show(page, "UserButton")
    page.get_by_role("button", name="Open user menu").click()
    menu = page.get_by_role("dialog")
    expect(menu).to_contain_text("Ada North")
    expect(menu).to_contain_text("ada@example.com")
    menu.get_by_role("button", name="Sign out").click()
    wait_until(page, "!Clerk.user")
    assert app.claims(page) is None
    assert [session["status"] for session in app.api("GET", "/sessions", user_id="user_ada")] == ["removed"]
    assert event_types(app) == ["session.removed"]


def test_the_user_profile_is_updated(app: Application, page: Page) -> None:
    app.sign_in(page, "user_ada")
    app.show(page, "UserButton")
    page.get_by_role("button", name="Open user menu").click()
    page.get_by_role("button", name="Manage account").click()
    page.get_by_role("button", name="Update profile").click()
    page.get_by_label("First name").fill("Ada M.")
    page.get_by_role("button", name="Save").click()
    wait_until(page, "Clerk.user.firstName === 'Ada M.'")
    assert app.api("GET", "/users/user_ada")["first_name"] == "Ada M."
    assert event_types(app) == ["user.updated"]


def test_an_address_is_added_by_a_code_from_the_inbox(app: Application, page: Page) -> None:
    app.sign_in(page, "user_ada")
    app.show(page, "UserProfile")
    page.get_by_role("button", name="Add email address").click()
    page.get_by_label("Email address").fill("new@example.com")
    with page.expect_response("**/prepare_verification?*"):
        page.get_by_role("button", name="Add", exact=True).click()
    (letter,) = app.clerk.mail
    assert letter["to"] == "new@example.com"
    page.get_by_label("Enter verification code").press_sequentially(letter["code"])
    wait_until(page, "Clerk.user.emailAddresses.every(one => one.verification.status === 'verified')")
    addresses = app.api("GET", "/users/user_ada")["email_addresses"]
    assert {row["email_address"]: row["verification"]["status"] for row in addresses} == {
        "ada@example.com": "verified",
        "new@example.com": "verified",
    }
    assert event_types(app) == ["user.updated", "user.updated"]


def test_a_password_is_changed_and_other_devices_are_signed_out(app: Application, page: Page) -> None:
    elsewhere = app.api("POST", "/sessions", {"user_id": "user_ada"})["id"]
    app.sign_in(page, "user_ada")
    app.show(page, "UserProfile")
    page.get_by_role("button", name="Security").click()
    page.get_by_role("button", name="Update password").click()
    page.get_by_label("Current password").fill("a good one")
    page.get_by_label("New password").fill("a better one")
    page.get_by_label("Confirm password").fill("a better one")
    expect(page.get_by_role("button", name="Save")).to_be_enabled()
    with page.expect_response("**/change_password?*") as answer:
        page.get_by_label("Confirm password").press("Enter")  # words that appear may move the button away
    assert answer.value.ok
    assert app.api("POST", "/users/user_ada/verify_password", {"password": "a better one"})["verified"]
    assert app.api("GET", f"/sessions/{elsewhere}")["status"] == "revoked", "as the form proposes"
    assert event_types(app) == ["user.updated", "session.revoked"]


def test_the_account_is_deleted(app: Application, page: Page) -> None:
    app.sign_in(page, "user_ada")
    app.show(page, "UserProfile")
    page.get_by_role("button", name="Security").click()
    page.get_by_role("button", name="Delete account").click()
    page.get_by_label('Type "Delete account"').fill("Delete account")
    page.locator("form").get_by_role("button", name="Delete account").click()
    wait_until(page, "!Clerk.user")
    assert app.api("GET", "/users") == []
    assert event_types(app)[-1] == "user.deleted"
