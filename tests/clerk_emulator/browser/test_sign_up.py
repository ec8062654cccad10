"""Sign-up with Clerk's own scripts."""

from playwright.sync_api import Page, expect

from tests.clerk_emulator.browser.application import Application, wait_until

PASSWORD = "a good one"
ADA = {"id": "user_ada", "email_address": "ada@example.com", "first_name": "Ada"}
FIRM = {"id": "org_firm", "name": "Northwind Law", "created_by": "user_ada"}


def click_continue(page: Page) -> None:
    """Click the button of the step."""
    page.get_by_role("button", name="Continue", exact=True).click()


def invite(app: Application, address: str) -> str:
    """Invite an address to the organization and return the link in the inbox."""
    body = {"email_address": address, "role": "org:member", "redirect_url": f"{app.origin}/join"}
    app.api("POST", "/organizations/org_firm/invitations", body)
    letter = app.clerk.mail[-1]
    assert letter["to"] == address
    return str(letter["link"])


def test_sign_up_with_name_address_password_and_code(app: Application, page: Page) -> None:
    app.clerk.seed(settings={"sign_up_requires": ["first_name", "password"]})
    app.show(page, "SignUp")
    page.get_by_label("First name").fill("Cy")
    page.get_by_label("Email address").fill("cy@example.com")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    with page.expect_response("**/prepare_verification?*"):
        click_continue(page)
    page.get_by_label("Enter verification code").press_sequentially(app.clerk.mail[-1]["code"])
    wait_until(page, "Clerk.user?.firstName === 'Cy'")
    assert [type_ for type_, _ in app.events()] == ["user.created", "session.created"]


def test_an_invitation_is_accepted_by_its_ticket(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA], organizations=[FIRM], settings={"ticket_links": "application"})
    link = invite(app, "bo@example.com")
    page.goto(link)
    page.evaluate("window.show('SignUp', {})")
    expect(page.get_by_label("Email address")).to_have_count(0)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    click_continue(page)
    wait_until(page, "Clerk.organization?.name === 'Northwind Law'")
    claims = app.claims(page)
    assert claims is not None
    assert (claims["o"]["id"], claims["o"]["rol"]) == ("org_firm", "member")
    event_types = [type_ for type_, _ in app.events()]
    assert event_types[-4:] == [
        "user.created",
        "organizationMembership.created",
        "organizationInvitation.accepted",
        "session.created",
    ]
    assert app.last("organizationInvitation.accepted")["user_id"] == claims["sub"]


def test_an_existing_user_accepts_an_invitation_by_signing_in(app: Application, page: Page) -> None:
    bo = {"id": "user_bo", "email_address": "bo@example.com"}
    app.clerk.seed(users=[ADA, bo], organizations=[FIRM], settings={"ticket_links": "application"})
    page.goto(invite(app, "bo@example.com"))
    assert "__clerk_status=sign_in" in page.url
    page.evaluate("window.show('SignIn', {})")
    wait_until(page, "Clerk.organization?.name === 'Northwind Law'")
    assert page.evaluate("Clerk.user.id") == "user_bo"


def test_waitlist_mode_adds_new_users_to_the_waitlist(app: Application, page: Page) -> None:
    app.clerk.seed(settings={"sign_up_mode": "waitlist"})
    app.show(page, "Waitlist")
    page.get_by_label("Email address").fill("cy@example.com")
    with page.expect_response("**/v1/waitlist?*"):
        page.get_by_role("button", name="Join the waitlist").click()
    expect(page.get_by_text("Thanks for joining the waitlist!")).to_be_visible()
    assert [row["email_address"] for row in app.api("GET", "/waitlist_entries")["data"]] == ["cy@example.com"]
    assert app.last("waitlistEntry.created")["status"] == "pending"
