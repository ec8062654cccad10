"""Hosted sign-up page."""

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.frontend_api.browser import Browser, load_browser, redirect_target
from clerk_emulator.frontend_api.sign_in_page import redirect_to_target
from clerk_emulator.state import sign_ups
from clerk_emulator.state.auth_attempts import SignUp
from clerk_emulator.state.errors import ApiError
from clerk_emulator.state.instance import Instance
from clerk_emulator.wire.html_pages import render_page
from clerk_emulator.wire.site_config import SiteConfig

FIELDS = ("email_address", "password", "first_name", "last_name")


def show(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """Show the page; redirect a signed-in user."""
    browser = load_browser(request, instance, site)
    target = redirect_target(request, site)
    if "again" in request.query_params:
        browser.client.sign_up_id = None
    return redirect_to_target(browser, target) if browser.session else _render_form(browser, target)


async def submit(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """Start a sign-up, or check the code; the right one signs the new user in and redirects."""
    browser = load_browser(request, instance, site)
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    target = fields.get("redirect_url", "")
    try:
        attempt = _submit_step(browser, fields)
    except ApiError as error:
        return _render_form(browser, target, problem=error.problems[0].long_message, fields=fields)
    return redirect_to_target(browser, target) if attempt.session_id else _render_form(browser, target)


def _submit_step(browser: Browser, fields: dict[str, str]) -> SignUp:
    instance, client = browser.instance, browser.client
    if "code" not in fields:
        attempt = sign_ups.start(instance, client, {name: fields.get(name) or None for name in FIELDS})
        sign_ups.prepare_verification(instance, attempt, "email_code")
        return attempt
    attempt = sign_ups.get(instance, client, client.sign_up_id or "")
    sign_ups.attempt_code(instance, attempt, "email_code", fields["code"].strip())
    return attempt


def _render_form(browser: Browser, target: str, *, problem: str = "", fields: dict[str, str] | None = None) -> Response:
    attempt = browser.instance.sign_ups.find(browser.client.sign_up_id)
    is_begun = attempt is not None and not attempt.missing(browser.instance.settings.sign_up_requires)
    response = render_page(
        "sign_up.html",
        status=422 if problem else 200,
        title="Check your email" if is_begun else "Create your account",
        address=attempt.email_address if attempt is not None and is_begun else "",
        requires=browser.instance.settings.sign_up_requires,
        values={name: value for name, value in (fields or {}).items() if name != "password"},
        problem=problem,
        redirect_url=target,
    )
    return browser.set_cookies(response)
