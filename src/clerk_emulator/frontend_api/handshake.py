"""Handshake: redirect a browser back to the application with session cookies."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerk_emulator.frontend_api.browser import (
    COOKIE_MAX_AGE,
    TOKEN_PARAMETER,
    Browser,
    add_query_parameters,
    cookie_names,
    load_browser,
    remove_query_parameters,
    signed_in_since,
    url_origin,
)
from clerk_emulator.state import memberships, organizations, sessions
from clerk_emulator.state.errors import ErrorDetail
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Session
from clerk_emulator.wire.responses import error_response
from clerk_emulator.wire.session_tokens import create_session_token
from clerk_emulator.wire.site_config import SiteConfig

HANDSHAKE_PARAMETER = "__clerk_handshake"


def handshake(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """Redirect (307) to `redirect_url` with the application's cookies in a signed token."""
    target = request.query_params.get("redirect_url", "")
    if not site.is_redirect_allowed(target):
        message = "redirect_url must point to this machine or to an allowed host."
        return error_response(400, ErrorDetail("form_param_value_invalid", "invalid redirect_url", message))
    browser = load_browser(request, instance, site)
    session = browser.session
    if session is not None:
        _set_active_organization(instance, session, target, request.query_params.get("organization_id"))
    token = site.keyring.sign({"handshake": build_cookies(browser, session)})
    address = add_query_parameters(
        remove_query_parameters(target, HANDSHAKE_PARAMETER, TOKEN_PARAMETER), **{HANDSHAKE_PARAMETER: token}
    )
    response = browser.set_cookies(RedirectResponse(address, status_code=307))
    response.headers["cache-control"] = "no-store"
    return response


def build_cookies(browser: Browser, session: Session | None) -> list[str]:
    """Return the Set-Cookie strings for the application."""
    site = browser.site
    token = create_session_token(browser.instance, session, site) if session else ""
    age = COOKIE_MAX_AGE if session else 0
    refresh = sessions.get_refresh_token(browser.instance, session) if session else ""
    return [
        *(_cookie(name, token, age) for name in cookie_names("__session", site)),
        *(_cookie(name, str(signed_in_since(browser)), COOKIE_MAX_AGE) for name in cookie_names("__client_uat", site)),
        *(_cookie(name, browser.client.token, COOKIE_MAX_AGE) for name in cookie_names(TOKEN_PARAMETER, site)),
        f"{_cookie(f'__refresh_{site.cookie_suffix}', refresh, age)}; HttpOnly",
    ]


def _cookie(name: str, value: str, age: int) -> str:
    return f"{name}={value}; Path=/; Max-Age={age}; SameSite=Lax"


def _set_active_organization(instance: Instance, session: Session, target: str, organization_id: str | None) -> None:
    session.origin = url_origin(target)
    found = organizations.find(instance, organization_id) if organization_id else None
    if found is not None and memberships.find(instance, found.id, session.user_id):
        session.last_active_organization_id = found.id
    elif organization_id == "":
        session.last_active_organization_id = None
    sessions.record_activity(instance, session)
