"""The handshake: a browser comes with the address to go back to, and goes back with its cookies."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerk_emulator.frontend.browser import (
    AGES,
    TOKEN_PARAMETER,
    Browser,
    browser_of,
    changed_at,
    origin_of,
    with_parameters,
    with_suffix,
    without_parameters,
)
from clerk_emulator.state import memberships, organizations, sessions
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Session
from clerk_emulator.state.refusals import Problem
from clerk_emulator.wire.answers import refusal
from clerk_emulator.wire.site import Site
from clerk_emulator.wire.tokens import session_token

PARAMETER = "__clerk_handshake"


def handshake(request: Request, instance: Instance, site: Site) -> Response:
    """Answer 307 to the address in `redirect_url`, with the cookies for the application in a signed token."""
    target = request.query_params.get("redirect_url", "")
    if not site.may_redirect_to(target):
        words = "redirect_url has to lead to this machine, or to a host that was allowed."
        return refusal(400, Problem("form_param_value_invalid", "bad redirect_url", words))
    browser = browser_of(request, instance, site)
    session = browser.session
    if session is not None:
        _prepare(instance, session, target, request.query_params.get("organization_id"))
    token = site.keyring.sign({"handshake": cookies(browser, session)})
    address = with_parameters(without_parameters(target, PARAMETER, TOKEN_PARAMETER), **{PARAMETER: token})
    response = browser.remember(RedirectResponse(address, status_code=307))
    response.headers["cache-control"] = "no-store"
    return response


def cookies(browser: Browser, session: Session | None) -> list[str]:
    """Return the Set-Cookie strings for the application."""
    site = browser.site
    token = session_token(browser.instance, session, site) if session else ""
    age = AGES if session else 0
    refresh = sessions.refresh_token(browser.instance, session) if session else ""
    return [
        *(_cookie(name, token, age) for name in with_suffix("__session", site)),
        *(_cookie(name, str(changed_at(browser)), AGES) for name in with_suffix("__client_uat", site)),
        *(_cookie(name, browser.client.token, AGES) for name in with_suffix(TOKEN_PARAMETER, site)),
        f"{_cookie(f'__refresh_{site.cookie_suffix}', refresh, age)}; HttpOnly",
    ]


def _cookie(name: str, value: str, age: int) -> str:
    return f"{name}={value}; Path=/; Max-Age={age}; SameSite=Lax"


def _prepare(instance: Instance, session: Session, target: str, organization_id: str | None) -> None:
    session.origin = origin_of(target)
    found = organizations.find(instance, organization_id) if organization_id else None
    if found is not None and memberships.find(instance, found.id, session.user_id):
        session.last_active_organization_id = found.id
    elif organization_id == "":
        session.last_active_organization_id = None
    sessions.use(instance, session)
