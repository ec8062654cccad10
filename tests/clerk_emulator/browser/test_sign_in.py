"""Sign-in and sign-out with Clerk's own scripts."""

import time

import pytest
from playwright.sync_api import Page, expect

from clerk_emulator.state.clock import Clock
from tests.clerk_emulator.browser.application import Application, MakeApplication, wait_until
from tests.support.browser import NewPage

PASSWORD = "a good one"
ADA = {"id": "user_ada", "email_address": "ada@example.com", "first_name": "Ada", "password": PASSWORD}
BO = {"id": "user_bo", "email_address": "bo@example.com", "first_name": "Bo", "password": PASSWORD}
REFUSED = ("status of 422",)  # what Chromium says of an answer that says no
BY_PASSWORD = """async ([identifier, password]) => {
    const done = await Clerk.client.signIn.create({identifier, password});
    await Clerk.setActive({session: done.createdSessionId});
    return Clerk.user.firstName;
}"""


def click_continue(page: Page) -> None:
    """Click the button of the step."""
    page.get_by_role("button", name="Continue", exact=True).click()


def test_sign_in_with_a_password_through_clerk_js_and_sign_out(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA])
    app.visit(page)
    assert page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD]) == "Ada"
    claims = app.claims(page)
    assert claims is not None
    assert (claims["sub"], claims["azp"]) == ("user_ada", app.origin)
    app.sign_out(page)
    assert app.claims(page) is None
    assert [type_ for type_, _ in app.events()] == ["session.created", "session.removed"]


def test_a_wrong_password_is_reported_and_the_right_one_signs_in(app: Application, new_page: NewPage) -> None:
    app.clerk.seed(users=[ADA])
    page = new_page(allow=REFUSED)
    app.show(page, "SignIn")
    page.get_by_label("Email address").fill("eve@example.com")
    click_continue(page)
    expect(page.get_by_test_id("form-feedback-error")).to_have_text("No user has this identifier.")
    page.get_by_label("Email address").fill("ada@example.com")
    click_continue(page)
    page.get_by_label("Password", exact=True).fill("a wrong one")
    click_continue(page)
    expect(page.get_by_test_id("form-feedback-error")).to_have_text("The password is incorrect.")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    click_continue(page)
    wait_until(page, "Clerk.user?.firstName === 'Ada'")


def test_by_a_code_from_the_inbox(app: Application, page: Page) -> None:
    app.clerk.seed(users=[{**ADA, "password": None}])
    app.show(page, "SignIn")
    page.get_by_label("Email address").fill("ada@example.com")
    with page.expect_response("**/prepare_first_factor?*"):
        click_continue(page)
    sent = app.clerk.mail[-1]
    assert sent["to"] == "ada@example.com"
    page.get_by_label("Enter verification code").press_sequentially(sent["code"])
    wait_until(page, "Clerk.user?.firstName === 'Ada'")


def test_a_forgotten_password_is_replaced_by_a_code(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA])
    app.show(page, "SignIn")
    page.get_by_label("Email address").fill("ada@example.com")
    click_continue(page)
    page.get_by_text("Forgot password?").click()
    with page.expect_response("**/prepare_first_factor?*"):
        page.get_by_role("button", name="Reset your password").click()
    page.get_by_label("Enter verification code").press_sequentially(app.clerk.mail[-1]["code"])
    page.get_by_label("New password", exact=True).fill("a better one")
    page.get_by_label("Confirm password").fill("a better one")
    expect(page.get_by_role("button", name="Reset Password")).to_be_enabled()
    with page.expect_response("**/reset_password?*"):
        page.get_by_label("Confirm password").press(
            "Enter"
        )  # a click may miss: the hint below the field moves the button
    wait_until(page, "Clerk.user?.firstName === 'Ada'")
    assert app.api("POST", "/users/user_ada/verify_password", {"password": "a better one"})["verified"]


def test_a_user_with_a_second_factor_has_to_verify_it(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA])
    phone = {"phone_number": "+15555550123", "verified": True, "reserved_for_second_factor": True}
    app.api("POST", "/phone_numbers", {"user_id": "user_ada", **phone})
    app.show(page, "SignIn")
    page.get_by_label("Email address").fill("ada@example.com")
    click_continue(page)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    with page.expect_response("**/prepare_second_factor?*"):
        click_continue(page)
    page.get_by_label("Enter verification code").press_sequentially("424242")
    wait_until(page, "Clerk.user?.firstName === 'Ada'")


def test_sign_in_on_the_hosted_page_redirects_back(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA])
    app.origin = app.origin.replace("127.0.0.1", "localhost")  # another host: only the address can bring the browser
    app.visit(page)
    with page.expect_navigation(url=f"{app.clerk.url}/sign-in**"):
        page.evaluate("void Clerk.redirectToSignIn()")
    with page.expect_navigation(url=f"{app.origin}/**"):
        page.get_by_role("button", name="Ada").click()
    page.evaluate("window.ready")
    assert page.evaluate("[Clerk.user.firstName, location.search]") == ["Ada", ""]


def test_a_temporary_failure_is_shown_and_recovered_from(app: Application, new_page: NewPage) -> None:
    app.clerk.seed(users=[ADA])
    page = new_page(allow=("status of 503",))
    app.visit(page)
    app.clerk.fail("frontend/createSignIn", status=503)
    lost = "([identifier, password]) => Clerk.client.signIn.create({identifier, password}).catch(one => one.status)"
    assert page.evaluate(lost, ["ada@example.com", PASSWORD]) == 503
    assert page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD]) == "Ada"


def test_sign_in_with_a_sign_in_token(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA])
    ticket = app.api("POST", "/sign_in_tokens", {"user_id": "user_ada"})["token"]
    app.show(page, "SignIn", f"/?__clerk_ticket={ticket}")
    wait_until(page, "Clerk.user?.firstName === 'Ada'")


def test_two_browsers_have_separate_sessions(app: Application, new_page: NewPage) -> None:
    app.clerk.seed(users=[ADA, BO])
    pages = {"Ada": new_page(), "Bo": new_page()}
    for name, page in pages.items():
        app.visit(page)
        assert page.evaluate(BY_PASSWORD, [f"{name.lower()}@example.com", PASSWORD]) == name
    for name, page in pages.items():
        app.visit(page)
        assert page.evaluate("Clerk.client.sessions.map(one => one.user.firstName)") == [name]
    app.sign_out(pages["Ada"])
    app.visit(pages["Bo"])
    assert pages["Bo"].evaluate("Clerk.user.firstName") == "Bo"


def test_an_expired_token_is_renewed(make_app: MakeApplication, page: Page) -> None:
    ahead = [0]
    app = make_app(clock=Clock(lambda: time.time_ns() // 1_000_000 + ahead[0]))
    app.clerk.seed(users=[ADA])
    page.clock.install()
    app.visit(page)
    page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD])
    first = app.claims(page)
    ahead[0] += 65_000
    page.clock.fast_forward(65_000)
    token = page.evaluate("Clerk.session.getToken()")
    second = app.clerk.emulator.site.keyring.read(token)
    assert first is not None
    assert second is not None
    assert second["sid"] == first["sid"]
    assert second["iat"] >= first["exp"]


def test_reverification_within_a_session(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA])
    app.visit(page)
    page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD])
    app.clerk.advance(minutes=20)
    app.visit(page)
    assert page.evaluate("Clerk.session.factorVerificationAge") == [20, -1]
    prove = """async password => {
        await Clerk.session.startVerification({level: "first_factor"});
        const done = await Clerk.session.attemptFirstFactorVerification({strategy: "password", password});
        await Clerk.session.getToken({skipCache: true});
        return [done.status, done.session.user.firstName, Clerk.session.factorVerificationAge];
    }"""
    assert page.evaluate(prove, PASSWORD) == ["complete", "Ada", [0, -1]]


def test_a_session_revoked_in_clerk_ends_in_the_browser(app: Application, new_page: NewPage) -> None:
    app.clerk.seed(users=[ADA])
    page = new_page(allow=("status of 401",))
    app.visit(page)
    page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD])
    app.api("POST", f"/sessions/{page.evaluate('Clerk.session.id')}/revoke")
    page.evaluate("Clerk.session.getToken({skipCache: true}).catch(() => null)")
    wait_until(page, "!Clerk.session")


def test_two_users_in_one_browser_with_multi_session(app: Application, page: Page) -> None:
    app.clerk.seed(users=[ADA, BO], settings={"multi_session": True})
    app.visit(page)
    page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD])
    assert page.evaluate(BY_PASSWORD, ["bo@example.com", PASSWORD]) == "Bo"
    names = "Clerk.client.signedInSessions.map(one => one.user.firstName).sort()"
    assert page.evaluate(names) == ["Ada", "Bo"]
    page.evaluate("Clerk.setActive({session: Clerk.client.sessions.find(one => one.user.firstName === 'Ada')})")
    claims = app.claims(page)
    assert claims is not None
    assert claims["sub"] == "user_ada"
    app.sign_out(page, "{sessionId: Clerk.session.id}")
    assert page.evaluate(names) == ["Bo"]


def test_an_unknown_browser_gets_a_new_token(app: Application, new_page: NewPage) -> None:
    page = new_page(allow=("status of 401",))
    app.origin = app.origin.replace("127.0.0.1", "localhost")  # another host: no cookie of the emulator's comes along
    app.clerk.seed(users=[ADA])
    app.visit(page)
    page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD])
    assert page.request.post(f"{app.clerk.url}/_emulator/reset").ok
    page.context.clear_cookies(domain="127.0.0.1")
    app.clerk.seed(users=[ADA])
    app.visit(page)
    assert page.evaluate("Clerk.isSignedIn") is False
    assert page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD]) == "Ada"


@pytest.mark.parametrize("where", ["another host", "the same origin"])
def test_sign_in_works_from_any_page_origin(app: Application, page: Page, where: str) -> None:
    app.clerk.seed(users=[ADA])
    if where == "another host":
        app.origin = app.origin.replace("127.0.0.1", "localhost")
    else:
        app.proxy = "/__clerk"
    app.visit(page)
    page.evaluate(BY_PASSWORD, ["ada@example.com", PASSWORD])
    app.visit(page)
    assert page.evaluate("Clerk.user.firstName") == "Ada"
