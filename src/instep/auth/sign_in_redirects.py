"""Sign-in by redirect: the provider port, safe return paths and the cookies in between."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from instep.domain.models import HandshakeSignedIn, HandshakeSignedOut, SessionClaims

HOME_PATH = "/"
HOST_COOKIE_PREFIX = "__Host-"
STATE_COOKIE = "instep_sign_in"
DEV_BROWSER_COOKIE = "instep_dev_browser"
ATTEMPTS_COOKIE_PREFIX = "instep_tries_"
STATE_LIFETIME_SECONDS = 3_600  # seconds between the redirect to Clerk and the return
ATTEMPTS_LIFETIME_SECONDS = 60  # seconds; a redirect loop takes less, a person more
MAX_REDIRECT_ATTEMPTS = 3  # a sign-in needs two: one before Clerk's page, one after it
MAX_RETURN_PATH_LENGTH = 1_500  # characters; it is nested in two URLs
_SIGN_IN_PATHS = ("/sign-in", "/sign-out")


def sanitize_return_path(text: str | None) -> str:
    """Return a path of this site to redirect to; the home page for anything that may lead to another site.

    Clerk's query parameters (`__clerk...`) are removed, because they contain tokens.
    """
    if not text or not text.startswith("/") or not text.isprintable() or len(text) > MAX_RETURN_PATH_LENGTH:
        return HOME_PATH
    try:
        parts = urlsplit(text)
        query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        return HOME_PATH
    is_external = text.startswith("//") or "\\" in text or parts.scheme or parts.netloc or " " in text
    if is_external or any(
        parts.path == own_path or parts.path.startswith(f"{own_path}/") for own_path in _SIGN_IN_PATHS
    ):
        return HOME_PATH
    kept = [(name, value) for name, value in query if not name.startswith("__clerk")]
    rest = parts.query if len(kept) == len(query) else urlencode(kept)
    return f"{parts.path}?{rest}" if rest else parts.path


def get_return_path(request: Request) -> str:
    """Return the path and query of a request, sanitized."""
    raw = request.url.path
    return sanitize_return_path(f"{raw}?{request.url.query}" if request.url.query else raw)


def is_page_navigation(request: Request) -> bool:
    """Return whether a browser requests a whole page, which may redirect to sign-in (Fetch Metadata)."""
    destination = request.headers.get("sec-fetch-dest")
    if request.method != "GET" or request.headers.get("hx-request"):
        return False
    return destination in ("document", "iframe") if destination else "text/html" in request.headers.get("accept", "")


def get_sign_in_state(cookies: Mapping[str, str]) -> str:
    """Return the value that ties a sign-in to this browser, shared by its open pages; a new one if missing."""
    known = cookies.get(STATE_COOKIE, "")
    return known if len(known) == 43 and known.isascii() else secrets.token_urlsafe(32)


def get_attempts_cookie_name(path: str) -> str:
    """Return the name of the cookie that counts redirects through Clerk for a path."""
    return ATTEMPTS_COOKIE_PREFIX + sha256(path.encode("utf-8", "replace")).hexdigest()[:8]


def get_attempt_count(cookies: Mapping[str, str], path: str) -> int:
    """Return the number of recent redirects through Clerk for a path."""
    value = cookies.get(get_attempts_cookie_name(path), "")
    return int(value) if value in ("0", "1", "2", "3") else 0


@dataclass(frozen=True)
class CookieJar:
    """Own cookies of a browser.

    Over https each name has the prefix `__Host-` (RFC 6265bis, 4.1.3.2), so that no other host of the domain and nobody
    on an unencrypted connection can set one. Callers use the names without it.
    """

    is_secure: bool

    def get_name(self, name: str) -> str:
        """Return the name in the browser."""
        return f"{HOST_COOKIE_PREFIX}{name}" if self.is_secure else name

    def read(self, request: Request) -> dict[str, str]:
        """Return the cookies that can be trusted as ours."""
        if not self.is_secure:
            return request.cookies
        return {
            name.removeprefix(HOST_COOKIE_PREFIX): value
            for name, value in request.cookies.items()
            if name.startswith(HOST_COOKIE_PREFIX)
        }

    def set(self, response: Response, name: str, value: str, *, max_age: int | None = None) -> None:
        """Set a cookie, for `max_age` seconds or until the browser is closed."""
        response.set_cookie(
            self.get_name(name),
            value,
            max_age=max_age,
            path="/",
            secure=self.is_secure,
            httponly=True,
            samesite="lax",
        )

    def delete(self, response: Response, name: str) -> None:
        """Delete a cookie."""
        response.delete_cookie(self.get_name(name), path="/", secure=self.is_secure, httponly=True, samesite="lax")

    def clear_attempts(self, request: Request, response: Response) -> None:
        """Reset the counts of redirects through Clerk."""
        for name in self.read(request):
            if name.startswith(ATTEMPTS_COOKIE_PREFIX):
                self.delete(response, name)


class SignInProvider(Protocol):
    """Sign-in at the provider by redirecting the browser there and back."""

    def build_handshake_url(self, return_url: str, *, dev_browser: str | None = None) -> str:
        """Return the URL that redirects the browser back to `return_url` with its session."""

    def build_sign_in_url(self, return_url: str, *, dev_browser: str | None = None) -> str:
        """Return the URL of the provider's sign-in page; it redirects to `return_url` afterwards."""

    def list_session_tokens(self, cookies: str) -> list[str]:
        """Return the session tokens of a raw Cookie header, most likely first."""

    def find_dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        """Return the token that identifies the browser to a development instance; None in production."""

    async def verify(self, token: str) -> SessionClaims:
        """Verify a session token. Raises InvalidSessionError, ClerkUnavailableError."""

    async def complete(self, query: Mapping[str, str], cookies: str) -> HandshakeSignedIn | HandshakeSignedOut:
        """Return the result of a handshake. Raises InvalidSessionError, ClerkUnavailableError."""
