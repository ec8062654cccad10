"""Browser client of a request: its cookies and allowed redirects."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerk_emulator.state import sessions
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, Session
from clerk_emulator.wire.site_config import SiteConfig, is_loopback

COOKIE = "__client"
TOKEN_PARAMETER = "__clerk_db_jwt"  # noqa: S105 - the name of a parameter
COOKIE_MAX_AGE = 10 * 365 * 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """A browser with its client and its request."""

    instance: Instance
    site: SiteConfig
    client: Client

    @property
    def session(self) -> Session | None:
        """Return the active session of this browser."""
        return sessions.active_session(self.instance, self.client)

    def set_cookies(self, response: Response) -> Response:
        """Set the client cookie, and notify applications on this host of the change."""
        response.set_cookie(COOKIE, self.client.token, max_age=COOKIE_MAX_AGE, httponly=True, samesite="lax")
        for name in cookie_names("__client_uat", self.site):
            response.set_cookie(name, str(signed_in_since(self)), max_age=COOKIE_MAX_AGE, samesite="lax")
        if self.session is None:
            for name in cookie_names("__session", self.site):
                response.delete_cookie(name, samesite="lax")
        return response


def read_client_token(request: Request, instance: Instance) -> str | None:
    """Return the token of a known client: from the cookie, else the query, else the header of a native app."""
    candidates = (
        request.cookies.get(COOKIE),
        request.query_params.get(TOKEN_PARAMETER),
        request.headers.get("authorization", "").removeprefix("Bearer "),
    )
    return next((token for token in candidates if sessions.find_client(instance, token) is not None), None)


def refresh_cookies(browser: Browser, request: Request, response: Response) -> None:
    """Set the client cookie if it differs, and the time since a user is signed in."""
    if request.cookies.get(COOKIE) != browser.client.token:
        response.set_cookie(COOKIE, browser.client.token, max_age=COOKIE_MAX_AGE, httponly=True, samesite="lax")
    for name in cookie_names("__client_uat", browser.site):
        if request.cookies.get(name) != str(signed_in_since(browser)):
            response.set_cookie(name, str(signed_in_since(browser)), max_age=COOKIE_MAX_AGE, samesite="lax")


def clear_cookies(site: SiteConfig, response: Response) -> None:
    """Delete the client's cookies."""
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
    for name in cookie_names("__client_uat", site):
        response.set_cookie(name, "0", max_age=COOKIE_MAX_AGE, samesite="lax")


def load_browser(request: Request, instance: Instance, site: SiteConfig) -> Browser:
    """Return the browser of a request: by its cookie, else by the token in the query, else a new one."""
    client = sessions.find_client(instance, request.cookies.get(COOKIE)) or sessions.find_client(
        instance, request.query_params.get(TOKEN_PARAMETER)
    )
    return Browser(instance=instance, site=site, client=client or sessions.create_client(instance))


def signed_in_since(browser: Browser) -> int:
    """Return the time since a user is signed in, in seconds; 0 if none is."""
    return browser.client.changed_at_wall if browser.session else 0


def cookie_names(name: str, site: SiteConfig) -> tuple[str, str]:
    """Return the name of a cookie without and with the suffix of the instance."""
    return name, f"{name}_{site.cookie_suffix}"


def add_query_parameters(address: str, **parameters: str) -> str:
    """Return the URL with query parameters set."""
    parts = urlsplit(address)
    stored = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True)]
    rest = [pair for pair in stored if pair[0] not in parameters]
    return urlunsplit(parts._replace(query=urlencode([*rest, *parameters.items()])))


def remove_query_parameters(address: str, *names: str) -> str:
    """Return the URL without some query parameters, otherwise unchanged."""
    parts = urlsplit(address)
    stored = [piece for piece in parts.query.split("&") if piece.partition("=")[0] not in names]
    return urlunsplit(parts._replace(query="&".join(stored)))


def url_origin(address: str) -> str:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def redirect_target(request: Request, site: SiteConfig) -> str:
    """Return the address to redirect to afterwards: from the query, else the application of the Referer.

    Clerk's script writes the address behind the `#`, which servers never receive.
    """
    referer = request.headers.get("referer", "")
    is_application = url_origin(referer) not in (site.url, str(request.base_url).rstrip("/"))
    fallback = referer if is_application and site.is_redirect_allowed(referer) else ""
    return request.query_params.get("redirect_url", "") or fallback


def is_cross_site(request: Request) -> bool:
    """Return whether a page of another site, not on this machine, sent the request."""
    origin = request.headers.get("origin")
    if not origin or origin == "null":
        return origin == "null" and request.headers.get("sec-fetch-site") == "cross-site"
    host = urlsplit(origin).hostname or ""
    return not is_loopback(host) and origin != str(request.base_url).rstrip("/")


def redirect_to_application(browser: Browser, address: str, **parameters: str) -> Response:
    """Redirect the browser with the token by which the application's handshake finds it on another host."""
    parameters[TOKEN_PARAMETER] = browser.client.token
    return browser.set_cookies(RedirectResponse(add_query_parameters(address, **parameters), status_code=303))
