"""The pages for signing up, without a script: who, then the code that was sent."""

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.frontend.browser import Browser, browser_of, target_of
from clerk_emulator.frontend.sign_in import leave
from clerk_emulator.state import sign_ups
from clerk_emulator.state.attempts import SignUp
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.refusals import Refused
from clerk_emulator.wire.pages import page
from clerk_emulator.wire.site import Site

FIELDS = ("email_address", "password", "first_name", "last_name")


def show(request: Request, instance: Instance, site: Site) -> Response:
    """Show the page; one who is signed in goes on at once."""
    browser = browser_of(request, instance, site)
    target = target_of(request, site)
    if "again" in request.query_params:
        browser.client.sign_up_id = None
    return leave(browser, target) if browser.session else _form(browser, target)


async def submit(request: Request, instance: Instance, site: Site) -> Response:
    """Begin, or take the code; with a right one the newcomer is signed in and goes on."""
    browser = browser_of(request, instance, site)
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    target = fields.get("redirect_url", "")
    try:
        attempt = _step(browser, fields)
    except Refused as refused:
        return _form(browser, target, problem=refused.problems[0].long_message, fields=fields)
    return leave(browser, target) if attempt.session_id else _form(browser, target)


def _step(browser: Browser, fields: dict[str, str]) -> SignUp:
    instance, client = browser.instance, browser.client
    if "code" not in fields:
        attempt = sign_ups.begin(instance, client, {name: fields.get(name) or None for name in FIELDS})
        sign_ups.prepare(instance, attempt, "email_code")
        return attempt
    attempt = sign_ups.get(instance, client, client.sign_up_id or "")
    sign_ups.attempt_code(instance, attempt, "email_code", fields["code"].strip())
    return attempt


def _form(browser: Browser, target: str, *, problem: str = "", fields: dict[str, str] | None = None) -> Response:
    attempt = browser.instance.sign_ups.find(browser.client.sign_up_id)
    is_begun = attempt is not None and not attempt.missing(browser.instance.settings.sign_up_requires)
    shown = page(
        "sign_up.html",
        status=422 if problem else 200,
        title="Check your mail" if is_begun else "Create your account",
        address=attempt.email_address if attempt is not None and is_begun else "",
        requires=browser.instance.settings.sign_up_requires,
        values={name: value for name, value in (fields or {}).items() if name != "password"},
        problem=problem,
        redirect_url=target,
    )
    return browser.remember(shown)
