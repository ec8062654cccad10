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
STATE_LIFETIME_SECONDS = 3_600  # seconds between leaving for Clerk and coming back
ATTEMPTS_LIFETIME_SECONDS = 60  # seconds: a browser that is sent round comes back in seconds, a person in more
MAX_REDIRECT_ATTEMPTS = 3  # signing in takes two: one that finds nobody, one after Clerk's page
MAX_RETURN_PATH_LENGTH = 1_500  # characters; it travels inside an address inside an address
_SIGN_IN_PATHS = ("/sign-in", "/sign-out")


def sanitize_return_path(text: str | None) -> str:
    """A path of our own site to go on to; the start page for anything that might lead elsewhere.

    Parameters of Clerk's (`__clerk...`) are taken out: they hold tokens.
    """
    if not text or not text.startswith("/") or not text.isprintable() or len(text) > MAX_RETURN_PATH_LENGTH:
        return HOME_PATH
    try:
        parts = urlsplit(text)
        query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        return HOME_PATH
    is_elsewhere = text.startswith("//") or "\\" in text or parts.scheme or parts.netloc or " " in text
    if is_elsewhere or any(parts.path == ours or parts.path.startswith(f"{ours}/") for ours in _SIGN_IN_PATHS):
        return HOME_PATH
    kept = [(name, value) for name, value in query if not name.startswith("__clerk")]
    rest = parts.query if len(kept) == len(query) else urlencode(kept)
    return f"{parts.path}?{rest}" if rest else parts.path


def get_return_path(request: Request) -> str:
    """The path and query of a request, as `own_path` allows them."""
    raw = request.url.path
    return sanitize_return_path(f"{raw}?{request.url.query}" if request.url.query else raw)


def is_page_navigation(request: Request) -> bool:
    """Whether a browser asks for a whole page, so that it can be sent elsewhere to sign in (Fetch Metadata)."""
    destination = request.headers.get("sec-fetch-dest")
    if request.method != "GET" or request.headers.get("hx-request"):
        return False
    return destination in ("document", "iframe") if destination else "text/html" in request.headers.get("accept", "")


def get_sign_in_state(cookies: Mapping[str, str]) -> str:
    """What tells that a sign-in was begun in this browser: the same for all its open pages, made up where new."""
    known = cookies.get(STATE_COOKIE, "")
    return known if len(known) == 43 and known.isascii() else secrets.token_urlsafe(32)


def get_attempts_cookie_name(path: str) -> str:
    """The name of the cookie that counts how often the way to `path` led through Clerk just now."""
    return ATTEMPTS_COOKIE_PREFIX + sha256(path.encode("utf-8", "replace")).hexdigest()[:8]


def get_attempt_count(cookies: Mapping[str, str], path: str) -> int:
    """How often the way to `path` led through Clerk just now."""
    value = cookies.get(get_attempts_cookie_name(path), "")
    return int(value) if value in ("0", "1", "2", "3") else 0


@dataclass(frozen=True)
class CookieJar:
    """Our cookies in a browser. Over https each name has the prefix `__Host-` (RFC 6265bis, 4.1.3.2): then no other
    host of the domain, and nobody on an unencrypted line, can plant one. Code outside uses the names without it.
    """

    is_secure: bool

    def name_of(self, name: str) -> str:
        """Return the name that the browser knows."""
        return f"{HOST_COOKIE_PREFIX}{name}" if self.is_secure else name

    def read(self, request: Request) -> dict[str, str]:
        """Return the cookies that are ours to believe."""
        if not self.is_secure:
            return request.cookies
        return {
            name.removeprefix(HOST_COOKIE_PREFIX): value
            for name, value in request.cookies.items()
            if name.startswith(HOST_COOKIE_PREFIX)
        }

    def set(self, response: Response, name: str, value: str, *, max_age: int | None = None) -> None:
        """Have the browser keep a value, for `max_age` seconds or until it is closed."""
        response.set_cookie(
            self.name_of(name),
            value,
            max_age=max_age,
            path="/",
            secure=self.is_secure,
            httponly=True,
            samesite="lax",
        )

    def delete(self, response: Response, name: str) -> None:
        """Have the browser forget a value."""
        response.delete_cookie(self.name_of(name), path="/", secure=self.is_secure, httponly=True, samesite="lax")

    def clear_attempts(self, request: Request, response: Response) -> None:
        """Count the ways through Clerk anew."""
        for name in self.read(request):
            if name.startswith(ATTEMPTS_COOKIE_PREFIX):
                self.delete(response, name)


class SignInProvider(Protocol):
    """Signing in at the provider, by sending the browser there and back."""

    def handshake_url(self, back: str, *, dev_browser: str | None = None) -> str:
        """Where to send the browser to learn who is signed in in it; it comes back to `back`."""

    def sign_in_url(self, back: str, *, dev_browser: str | None = None) -> str:
        """The provider's sign-in page, which leads to `back` afterwards."""

    def session_tokens(self, cookies: str) -> list[str]:
        """The session tokens in a raw Cookie header, the most likely first."""

    def dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        """What tells a development instance which browser this is; None elsewhere."""

    async def verify(self, token: str) -> SessionClaims:
        """What a session token says. Raises InvalidSessionError; ClerkUnavailableError where it can't be told."""

    async def answer(self, query: Mapping[str, str], cookies: str) -> HandshakeSignedIn | HandshakeSignedOut:
        """What the browser brought back from the handshake. Raises InvalidSessionError, ClerkUnavailableError."""
