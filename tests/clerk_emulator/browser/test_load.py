"""Clerk's own scripts load from the emulator."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from clerk_emulator.wire.keyring import publishable_key
from tests.clerk_emulator.browser.application import MakeApplication

GUIDE = Path(__file__).parents[3] / "docs" / "emulator.md"


@pytest.mark.parametrize("host", ["swift-emu-1.clerk.accounts.dev", "127.0.0.1:8001"])
def test_clerk_js_loads_signed_out(make_app: MakeApplication, page: Page, host: str) -> None:
    app = make_app(publishable_key=publishable_key(host))
    app.visit(page)
    assert page.evaluate("[Clerk.version.split('.')[0], Clerk.loaded, Clerk.status, Clerk.isSignedIn]") == [
        "6",
        True,
        "ready",
        False,
    ]
    assert app.claims(page) is None


def test_a_session_from_the_hosted_page_is_active(make_app: MakeApplication, page: Page) -> None:
    app = make_app()
    app.clerk.seed(users=[{"id": "user_ada", "email_address": "ada@example.com", "first_name": "Ada"}])
    app.sign_in(page, "user_ada")
    app.visit(page)
    assert page.evaluate("[Clerk.user.firstName, Clerk.session.status]") == ["Ada", "active"]
    claims = app.claims(page)
    assert claims is not None
    assert claims["sub"] == "user_ada"


def test_the_page_of_the_guide_shows_the_signed_in_user(make_app: MakeApplication, page: Page) -> None:
    app = make_app()
    app.clerk.seed(users=[{"id": "user_ada", "email_address": "ada@example.com"}])
    (html,) = re.findall(r"```html\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    app.html = f"<!doctype html><link rel=icon href='data:,'>{html}"
    app.html = app.html.replace("http://127.0.0.1:8001/__clerk", "{fapi}").replace("pk_test_...", "{key}")
    page.goto(app.origin)
    expect(page.get_by_label("Email address")).to_be_visible()
    app.sign_in(page, "user_ada")
    page.goto(app.origin)
    expect(page.get_by_role("button", name="Open user menu")).to_be_visible()
