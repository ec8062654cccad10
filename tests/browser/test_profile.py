"""Promises of editing a profile in a browser: every row of the table, and a field that visibly goes back."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Office
from tests.browser.test_members import faults_by_axe
from tests.support.browser import NewPage
from tests.users.firms import ADA, BOB, LOU, clerk_user, furnish, person, recover, silence

SYNC_FAILED = "Failed to sync with Clerk authentication system"
REFUSED = [r"status of (4\d\d|503)"]


@pytest.fixture
def page(office: Office, new_page: NewPage) -> Page:
    """Everyone of the installation, before an admin."""
    office.run(furnish(office.firm))
    page = office.enter(new_page(allow=REFUSED))
    page.goto(f"{office.origin}/users")
    return page


def row(page: Page, name: str) -> Locator:
    """Somebody's row."""
    return page.get_by_role("row", name=name, exact=True)


def open_form(page: Page, whom: str, what: str = "Edit profile") -> Locator:
    """A form about somebody, from their row's menu."""
    page.get_by_role("button", name=f"Actions for {whom}").click()
    page.get_by_role("link", name=what).click()
    return page.get_by_role("dialog")


def save_name(page: Page, whom: str, name: str) -> Locator:
    """Type another first name and save it."""
    form = open_form(page, whom)
    form.get_by_label("First name").fill(name)
    form.get_by_role("button", name="Save").click()
    return form


def stored(office: Office, email: str) -> str | None:
    """Somebody's first name in the database."""
    return office.run(person(office.firm, email)).first_name


def in_clerk(office: Office, email: str) -> str | None:
    """Somebody's first name in Clerk."""
    found = clerk_user(office.firm, office.firm.user_id(email))
    assert found is not None
    return found.first_name


def test_a_name_is_changed_on_both_sides(office: Office, page: Page) -> None:
    save_name(page, "Bob Brown", "Robert")
    expect(row(page, "Robert Brown")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert (stored(office, BOB), in_clerk(office, BOB)) == ("Robert", "Robert")


def test_someone_without_a_clerk_account_is_changed_here_only(office: Office, page: Page) -> None:
    calls = len(office.firm.emulator.request_log.list())
    save_name(page, "Lou", "Louis")
    expect(row(page, "Louis")).to_be_visible()
    assert stored(office, LOU) == "Louis"
    assert len(office.firm.emulator.request_log.list()) == calls


def test_a_failure_of_clerks_is_rolled_back_where_it_was_typed_and_in_the_row(office: Office, page: Page) -> None:
    """The row foretold the new name while it was being saved; then both say the old one, and why."""
    held = page.evaluate_handle(
        """() => { const seen = []; const cell = [...document.querySelectorAll("#rows > tr")]
             .find(row => row.dataset.name === "Bob Brown").querySelector(".person-name bdi");
             new MutationObserver(() => seen.push(cell.textContent)).observe(cell, {childList: true}); return seen; }"""
    )
    office.firm.emulator.fail("UpdateUser", status=500, count=1)
    form = save_name(page, "Bob Brown", "Robert")
    expect(form.get_by_role("alert")).to_contain_text(f"{SYNC_FAILED}: Clerk failed with status 500.")
    field = form.get_by_label("First name")
    expect(field).to_have_value("Bob")
    expect(form).to_contain_text("Reset to the stored value; “Robert” was not saved.")
    assert faults_by_axe(page) == []
    assert held.evaluate("seen => seen") == ["Robert Brown", "Bob Brown"]
    expect(row(page, "Bob Brown")).to_contain_text(SYNC_FAILED)
    assert (stored(office, BOB), in_clerk(office, BOB)) == ("Bob", "Bob")
    form.get_by_role("button", name="Try again").click()
    expect(field).to_have_value("Robert")
    expect(field).to_be_focused()
    form.get_by_role("button", name="Save").click()
    expect(row(page, "Robert Brown")).not_to_contain_text(SYNC_FAILED)
    assert (stored(office, BOB), in_clerk(office, BOB)) == ("Robert", "Robert")


def test_without_a_key_nothing_is_changed(office: Office, page: Page) -> None:
    office.firm.services.clerk._backend._is_configured = False
    form = save_name(page, "Bob Brown", "Robert")
    expect(form.get_by_role("alert")).to_contain_text(f"{SYNC_FAILED}: Clerk authentication not configured.")
    expect(form.get_by_label("First name")).to_have_value("Bob")
    assert stored(office, BOB) == "Bob"


def test_what_a_person_can_mend_stays_as_it_was_typed(office: Office, page: Page) -> None:
    """A name that somebody has, an address that somebody has, one that is none: said beside the field."""
    form = open_form(page, "Ada Adams")
    form.get_by_label("Username").fill("bobby")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("Someone else already uses the username bobby.")
    expect(form.get_by_label("Username")).to_have_value("bobby")
    page.keyboard.press("Escape")
    for typed, said in ((ADA, f"Someone else already uses {ADA}. Nothing was changed."), ("no address", "email")):
        form = open_form(page, "Lou", "Change email")
        form.get_by_label("New email address").fill(typed)
        form.get_by_role("button", name="Change email").click()
        expect(form.get_by_role("alert")).to_contain_text(said)
        expect(form.get_by_label("New email address")).to_have_value(typed)
        page.keyboard.press("Escape")
    assert office.run(person(office.firm, LOU)).email == LOU


def test_the_address_of_someone_in_clerk_requires_an_invitation(office: Office, page: Page) -> None:
    form = open_form(page, "Bob Brown", "Change email")
    form.get_by_label("New email address").fill("robert@example.com")
    form.get_by_role("button", name="Change email").click()
    offer = page.get_by_role("alertdialog", name="Invite robert@example.com and deactivate the old account?")
    expect(offer).to_contain_text(f"{BOB} is deactivated there.")
    offer.get_by_role("link", name="Cancel").click()
    assert office.run(person(office.firm, BOB)).email == BOB


def test_a_lost_answer_is_found_out(office: Office, page: Page) -> None:
    """Where Clerk had done it, at once; where it had not, the page says so and waits until it is done."""
    silence(office.firm, "PATCH", "/users/", after=True)
    save_name(page, "Bob Brown", "Robert")
    expect(row(page, "Robert Brown")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    silence(office.firm, "PATCH", "/users/", after=False)
    save_name(page, "Ada Adams", "Adele")
    expect(page.locator("#toasts")).to_contain_text("We do not know yet whether Clerk did it. Checking...")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(row(page, "Ada Adams")).to_be_visible()
    office.run(recover(office.firm))
    expect(row(page, "Adele Adams")).to_be_visible()
    assert (stored(office, ADA), in_clerk(office, ADA)) == ("Adele", "Adele")
