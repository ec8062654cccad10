"""Clerk's own scripts are loaded from the emulator."""

import pytest
from playwright.sync_api import Page

from clerk_emulator.wire.keyring import publishable_key
from tests.clerk_emulator.browser.application import MakeApplication


@pytest.mark.parametrize("host", ["swift-emu-1.clerk.accounts.dev", "127.0.0.1:8001"])
def test_clerk_loads_from_the_emulator_and_nobody_is_signed_in(
    make_app: MakeApplication, page: Page, host: str
) -> None:
    app = make_app(publishable_key=publishable_key(host))
    app.visit(page)
    assert page.evaluate("[Clerk.version.split('.')[0], Clerk.loaded, Clerk.status, Clerk.isSignedIn]") == [
        "6",
        True,
        "ready",
        False,
    ]
    assert app.claims(page) is None


def test_a_session_begun_on_the_emulators_own_page_is_there(make_app: MakeApplication, page: Page) -> None:
    app = make_app()
    app.clerk.seed(users=[{"id": "user_ada", "email_address": "ada@example.com", "first_name": "Ada"}])
    app.sign_in(page, "user_ada")
    app.visit(page)
    assert page.evaluate("[Clerk.user.firstName, Clerk.session.status]") == ["Ada", "active"]
    claims = app.claims(page)
    assert claims is not None
    assert claims["sub"] == "user_ada"
