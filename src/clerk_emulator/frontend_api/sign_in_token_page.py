"""Page that signs a user in by a sign-in token."""

from starlette.responses import RedirectResponse, Response

from clerk_emulator.frontend_api.browser import Browser, redirect_to_application
from clerk_emulator.state import sign_in_tokens
from clerk_emulator.state.errors import ApiError
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import SignInToken
from clerk_emulator.wire.html_pages import render_page
from clerk_emulator.wire.organization_json import ACCEPT_PATH


def show(instance: Instance, token: SignInToken, target: str) -> Response:
    """Ask for confirmation, so that a link preview does not use the token."""
    try:
        user = sign_in_tokens.require_usable(instance, token)
    except ApiError as error:
        return _render_unusable(error)
    return render_page(
        "one_time.html",
        title="Sign in",
        name=user.identifier or user.id,
        ticket=token.ticket,
        action=ACCEPT_PATH,
        redirect_url=target,
    )


def submit(browser: Browser, token: SignInToken, target: str) -> Response:
    """Sign the user in and redirect."""
    instance = browser.instance
    try:
        sign_in_tokens.redeem(instance, token, browser.client)
    except ApiError as error:
        return _render_unusable(error)
    if target and browser.site.is_redirect_allowed(target):
        return redirect_to_application(browser, target, __clerk_status="complete")
    return browser.set_cookies(RedirectResponse("/sign-in", status_code=303))


def _render_unusable(error: ApiError) -> Response:
    text = error.problems[0].long_message
    return render_page("message.html", status=410, title="This link is not valid", text=text)
