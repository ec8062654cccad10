"""Clerk's sign-in handshake: redirect URLs, cookies and the handshake response."""

import binascii
import hashlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from instep.clerk.session_tokens import SessionTokenVerifier
from instep.domain.errors import InvalidSessionError
from instep.domain.models import HandshakeSignedIn, HandshakeSignedOut, SessionClaims

API_VERSION = "2026-05-12"
SESSION_COOKIE = "__session"
HANDSHAKE_COOKIE = "__clerk_handshake"
DEV_BROWSER_COOKIE = "__clerk_db_jwt"
PRODUCTION_KEY_PREFIX = "pk_live_"
DEVELOPMENT_KEY_PREFIX = "pk_test_"


class _HandshakePayload(Struct):
    handshake: list[str]


_decode_handshake = msgspec.json.Decoder(_HandshakePayload).decode


@dataclass(frozen=True)
class ClerkHandshake:
    """Sign-in at one Clerk instance. `frontend_api` and `sign_in_page` are URLs without a trailing slash."""

    publishable_key: str
    frontend_api: str
    sign_in_page: str
    verifier: SessionTokenVerifier

    @property
    def is_development(self) -> bool:
        """Return whether this is a development instance."""
        return self.publishable_key.startswith(DEVELOPMENT_KEY_PREFIX)

    def build_handshake_url(self, return_url: str, *, dev_browser: str | None = None) -> str:
        """Return the URL that redirects the browser back to `return_url` with its session."""
        is_browser_unknown = self.is_development and dev_browser is None
        query = {
            "redirect_url": return_url,
            "__clerk_api_version": API_VERSION,
            "suffixed_cookies": "true",
            "__clerk_hs_reason": "dev-browser-missing" if is_browser_unknown else "session-token-and-uat-missing",
        }
        return (
            f"{self.frontend_api}/v1/client/handshake?{urlencode(query | self._build_dev_browser_params(dev_browser))}"
        )

    def build_sign_in_url(self, return_url: str, *, dev_browser: str | None = None) -> str:
        """Return the URL of Clerk's sign-in page; it redirects to `return_url` afterwards."""
        separator = "&" if "?" in self.sign_in_page else "?"
        query = urlencode({"redirect_url": return_url} | self._build_dev_browser_params(dev_browser))
        return f"{self.sign_in_page}{separator}{query}"

    def list_session_tokens(self, cookies: str) -> list[str]:
        """Return the session tokens of a raw Cookie header: this instance's first, then those of any."""
        return _find_cookie_values(
            parse_cookie_header(cookies), SESSION_COOKIE, derive_cookie_suffix(self.publishable_key)
        )

    def find_dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        """Return the token that identifies the browser to a development instance.

        A cookie without this instance's suffix is ignored: another application on the host may have set it, and Clerk
        rejects tokens of other instances.
        """
        if not self.is_development:
            return None
        if found := query.get(DEV_BROWSER_COOKIE):
            return found
        name = f"{DEV_BROWSER_COOKIE}_{derive_cookie_suffix(self.publishable_key)}"
        return next((value for found, value in parse_cookie_header(cookies) if found == name and value), None)

    async def verify(self, token: str) -> SessionClaims:
        """Verify a session token. See SessionTokenVerifier.verify."""
        return await self.verifier.verify(token)

    async def complete(self, query: Mapping[str, str], cookies: str) -> HandshakeSignedIn | HandshakeSignedOut:
        """Return the result of a handshake from the query (development) or a cookie (production).

        1. Verify the handshake token's signature. 2. Read its cookies. 3. Verify the session token among them.

        Raises:
            InvalidSessionError: `no_handshake` without a handshake token; others as SessionTokenVerifier.
            ClerkUnavailableError: Clerk's keys can't be fetched.
        """
        token = query.get(HANDSHAKE_COOKIE) or next(
            (v for name, v in parse_cookie_header(cookies) if name == HANDSHAKE_COOKIE and v), None
        )
        if token is None:
            raise InvalidSessionError("Clerk sent no handshake response.", code="no_handshake")
        set_cookies = list(_iterate_set_cookies(await self.verifier.open(token)))
        suffix = derive_cookie_suffix(self.publishable_key)
        dev_browser = (
            next(iter(_find_cookie_values(set_cookies, DEV_BROWSER_COOKIE, suffix)), None)
            if self.is_development
            else None
        )
        sessions = _find_cookie_values(set_cookies, SESSION_COOKIE, suffix)
        if not sessions:
            return HandshakeSignedOut(dev_browser=dev_browser)
        return HandshakeSignedIn(claims=await self.verifier.verify(sessions[0]), dev_browser=dev_browser)

    def _build_dev_browser_params(self, dev_browser: str | None) -> dict[str, str]:
        return {DEV_BROWSER_COOKIE: dev_browser} if dev_browser and self.is_development else {}


def _iterate_set_cookies(payload: bytes) -> Iterator[tuple[str, str]]:
    """Iterate over the names and values of the Set-Cookie headers in a handshake."""
    try:
        lines = _decode_handshake(payload).handshake
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSessionError("Clerk's handshake response can't be read.", code="malformed") from error
    for line in lines:
        yield from parse_cookie_header(line.partition(";")[0])


def _find_cookie_values(cookies: list[tuple[str, str]], name: str, suffix: str) -> list[str]:
    """Return the distinct values of one of Clerk's cookies: with this instance's suffix first, then without."""
    ordered = [value for wanted in (f"{name}_{suffix}", name) for found, value in cookies if found == wanted and value]
    return list(dict.fromkeys(ordered))


def parse_cookie_header(header: str) -> list[tuple[str, str]]:
    """Return the names and values of a Cookie header (RFC 6265, 5.4) in its order.

    Accepts what browsers send beyond the grammar: quotes and JSON in one cookie do not break the others, as they do
    with http.cookies. A name may occur twice (another path, another domain).
    """
    pairs = (part.partition("=") for part in header.split(";"))
    return [(name.strip(), value.strip().strip('"')) for name, _, value in pairs if name.strip()]


def derive_cookie_suffix(publishable_key: str) -> str:
    """Return the suffix of Clerk's cookie names that separates instances on one host."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return urlsafe_b64encode(digest).decode()[:8]


def derive_frontend_api_url(publishable_key: str) -> str:
    """Return the URL of the Frontend API in a publishable key; http on a loopback host, otherwise https.

    The key is `pk_test_` or `pk_live_` and the base64 of `host$`, padded or not. Raises ValueError for any other.
    """
    encoded = publishable_key.removeprefix(PRODUCTION_KEY_PREFIX).removeprefix(DEVELOPMENT_KEY_PREFIX)
    try:
        decoded = b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True).decode("ascii")
        host = urlsplit(f"//{decoded.removesuffix('$')}").hostname
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a publishable key") from error
    if encoded == publishable_key or not decoded.endswith("$") or not host or set(decoded[:-1]) & set("$/?#@\\ "):
        raise ValueError("not a publishable key")
    if "." not in host and not is_loopback(host):
        raise ValueError("not a publishable key")
    return f"{'http' if is_loopback(host) else 'https'}://{decoded[:-1]}"


def derive_sign_in_page_url(frontend_api: str) -> str:
    """Return the sign-in page of an instance: on its account portal, or beside the emulator's Frontend API."""
    parts = urlsplit(frontend_api)
    if is_loopback(parts.hostname or ""):
        return f"{frontend_api.rstrip('/')}/sign-in"
    host = parts.netloc.replace("clerk.accounts.", "accounts.", 1)
    if host == parts.netloc:
        host = host.replace("clerk.", "accounts.", 1)
    return f"{parts.scheme}://{host}/sign-in"


def is_loopback(host: str) -> bool:
    """Return whether a host name means this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
