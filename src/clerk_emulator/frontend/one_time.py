"""The page behind a sign-in token: a link that signs one user in, once."""

from starlette.responses import RedirectResponse, Response

from clerk_emulator.frontend.browser import Browser, back_to_application
from clerk_emulator.state import sign_in_tokens
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import SignInToken
from clerk_emulator.state.refusals import Refused
from clerk_emulator.wire.organizations import ACCEPT_PATH
from clerk_emulator.wire.pages import page


def show(instance: Instance, token: SignInToken, target: str) -> Response:
    """Ask whether to sign in, so that nothing happens where a program only looks at the link."""
    try:
        user = sign_in_tokens.require_usable(instance, token)
    except Refused as refused:
        return _over(refused)
    return page(
        "one_time.html",
        title="Sign in",
        name=user.identifier or user.id,
        ticket=token.ticket,
        action=ACCEPT_PATH,
        redirect_url=target,
    )


def submit(browser: Browser, token: SignInToken, target: str) -> Response:
    """Sign the user in and go on."""
    instance = browser.instance
    try:
        sign_in_tokens.use(instance, token, browser.client)
    except Refused as refused:
        return _over(refused)
    if target and browser.site.may_redirect_to(target):
        return back_to_application(browser, target, __clerk_status="complete")
    return browser.remember(RedirectResponse("/sign-in", status_code=303))


def _over(refused: Refused) -> Response:
    text = refused.problems[0].long_message
    return page("message.html", status=410, title="This link is of no use", text=text)
