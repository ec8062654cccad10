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
    """Signing in at one Clerk instance. `frontend_api` and `sign_in_page` are URLs without a slash at the end."""

    publishable_key: str
    frontend_api: str
    sign_in_page: str
    verifier: SessionTokenVerifier

    @property
    def is_development(self) -> bool:
        """Whether the instance is one for development."""
        return self.publishable_key.startswith(DEVELOPMENT_KEY_PREFIX)

    def handshake_url(self, back: str, *, dev_browser: str | None = None) -> str:
        """Where to send the browser so that it comes back to `back` and tells who is signed in in it."""
        is_unknown = self.is_development and dev_browser is None
        query = {
            "redirect_url": back,
            "__clerk_api_version": API_VERSION,
            "suffixed_cookies": "true",
            "__clerk_hs_reason": "dev-browser-missing" if is_unknown else "session-token-and-uat-missing",
        }
        return (
            f"{self.frontend_api}/v1/client/handshake?{urlencode(query | self._build_dev_browser_params(dev_browser))}"
        )

    def sign_in_url(self, back: str, *, dev_browser: str | None = None) -> str:
        """Clerk's sign-in page, which leads to `back` once someone has signed in."""
        mark = "&" if "?" in self.sign_in_page else "?"
        query = urlencode({"redirect_url": back} | self._build_dev_browser_params(dev_browser))
        return f"{self.sign_in_page}{mark}{query}"

    def session_tokens(self, cookies: str) -> list[str]:
        """The session tokens in a raw Cookie header: those of this instance first, then those of any."""
        return _find_cookie_values(
            parse_cookie_header(cookies), SESSION_COOKIE, derive_cookie_suffix(self.publishable_key)
        )

    def dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        """The token that says which browser this is to a development instance.

        A cookie without this instance's suffix is left alone: another application on this host may have set it, and
        Clerk refuses the token of another instance.
        """
        if not self.is_development:
            return None
        if found := query.get(DEV_BROWSER_COOKIE):
            return found
        name = f"{DEV_BROWSER_COOKIE}_{derive_cookie_suffix(self.publishable_key)}"
        return next((value for found, value in parse_cookie_header(cookies) if found == name and value), None)

    async def verify(self, token: str) -> SessionClaims:
        """See Verifier.verify."""
        return await self.verifier.verify(token)

    async def answer(self, query: Mapping[str, str], cookies: str) -> HandshakeSignedIn | HandshakeSignedOut:
        """What the browser brought back: in its address (development) or as a cookie (production).

        1. Verify the handshake token's signature. 2. Take its cookies. 3. Verify the session token among them.
        Raises InvalidSessionError (`no_handshake` where it brought nothing, else as Verifier), and ClerkUnavailableError.
        """
        token = query.get(HANDSHAKE_COOKIE) or next(
            (v for name, v in parse_cookie_header(cookies) if name == HANDSHAKE_COOKIE and v), None
        )
        if token is None:
            raise InvalidSessionError("Clerk sent no answer.", code="no_handshake")
        given = list(_iterate_set_cookies(await self.verifier.open(token)))
        suffix = derive_cookie_suffix(self.publishable_key)
        browser = (
            next(iter(_find_cookie_values(given, DEV_BROWSER_COOKIE, suffix)), None) if self.is_development else None
        )
        sessions = _find_cookie_values(given, SESSION_COOKIE, suffix)
        if not sessions:
            return HandshakeSignedOut(dev_browser=browser)
        return HandshakeSignedIn(claims=await self.verifier.verify(sessions[0]), dev_browser=browser)

    def _build_dev_browser_params(self, dev_browser: str | None) -> dict[str, str]:
        return {DEV_BROWSER_COOKIE: dev_browser} if dev_browser and self.is_development else {}


def _iterate_set_cookies(payload: bytes) -> Iterator[tuple[str, str]]:
    """The names and values of the Set-Cookie lines in a handshake."""
    try:
        lines = _decode_handshake(payload).handshake
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSessionError("Clerk's answer can't be read.", code="malformed") from error
    for line in lines:
        yield from parse_cookie_header(line.partition(";")[0])


def _find_cookie_values(cookies: list[tuple[str, str]], name: str, suffix: str) -> list[str]:
    """The values of a cookie of Clerk's: with this instance's suffix first, then without one; each value once."""
    ordered = [value for wanted in (f"{name}_{suffix}", name) for found, value in cookies if found == wanted and value]
    return list(dict.fromkeys(ordered))


def parse_cookie_header(header: str) -> list[tuple[str, str]]:
    """The names and values of a Cookie header (RFC 6265, 5.4), in its order.

    Reads what browsers send, not what the grammar allows: quotes and JSON in one cookie do not spoil the others, as
    they do with http.cookies. A name may come twice (another path, another domain).
    """
    pairs = (part.partition("=") for part in header.split(";"))
    return [(name.strip(), value.strip().strip('"')) for name, _, value in pairs if name.strip()]


def derive_cookie_suffix(publishable_key: str) -> str:
    """What Clerk hangs on its cookies' names so that two instances on one host do not meet."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return urlsafe_b64encode(digest).decode()[:8]


def derive_frontend_api_url(publishable_key: str) -> str:
    """The URL of the frontend API that a publishable key names; http on this very machine, else https.

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
    """Clerk's own sign-in page for an instance: on its account portal; for the emulator, beside the frontend API."""
    parts = urlsplit(frontend_api)
    if is_loopback(parts.hostname or ""):
        return f"{frontend_api.rstrip('/')}/sign-in"
    host = parts.netloc.replace("clerk.accounts.", "accounts.", 1)
    if host == parts.netloc:
        host = host.replace("clerk.", "accounts.", 1)
    return f"{parts.scheme}://{host}/sign-in"


def is_loopback(host: str) -> bool:
    """Whether a host name means this very machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
