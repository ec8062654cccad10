"""Signing keys of a Clerk instance: a cached JWKS or one static PEM key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import PyJWTError

from instep.core.clock import HOUR, SECOND, Clock, is_recent
from instep.core.clock import now as system_now
from instep.core.errors import InstepError
from instep.domain.errors import ClerkUnavailableError, InvalidSessionError

MIN_FETCH_INTERVAL = (
    10 * SECOND
)  # between two fetches: tokens with made-up key ids must not turn into a flood towards Clerk
MAX_KEY_AGE = HOUR  # a key that Clerk has withdrawn is believed no longer than this
MIN_KEY_BITS = 2048  # RFC 7518, 3.3
FetchJwks = Callable[[], Awaitable[dict[str, Any]]]


class SigningKeySource(Protocol):
    """Source of the keys that verify token signatures."""

    async def find(self, kid: str | None) -> RSAPublicKey:
        """Return the key with this id.

        Raises:
            InvalidSessionError: `unknown_key`.
            ClerkUnavailableError: the keys can't be fetched.
        """


class JwksKeySource:
    """Keys of a JSON Web Key Set (RFC 7517), fetched for an unknown key id and once an hour.

    At most one fetch per MIN_FETCH_INTERVAL; concurrent requests share it. While Clerk is unavailable, known keys stay
    valid. A response without a usable key is a failure: a proxy may send one, and Clerk always has a signing key.
    """

    def __init__(self, fetch: FetchJwks, *, clock: Clock = system_now) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at: int | None = None
        self._tried_at: int | None = None
        self._failure: str | None = None
        self._lock = asyncio.Lock()

    async def find(self, kid: str | None) -> RSAPublicKey:
        """Return the key with this id. See SigningKeySource.find."""
        if self._needs_refresh(kid):
            async with self._lock:
                if self._needs_refresh(kid):
                    await self._refresh()
        key = self._keys.get(kid or "")
        if key is not None:
            return key
        if self._failure is not None:
            raise ClerkUnavailableError(f"Clerk's keys can't be fetched: {self._failure}")
        raise InvalidSessionError("The token is signed with a key that Clerk does not have.", code="unknown_key")

    def _needs_refresh(self, kid: str | None) -> bool:
        now = self._clock()
        if self._tried_at is not None and is_recent(self._tried_at, now, MIN_FETCH_INTERVAL):
            return False
        return (
            (kid or "") not in self._keys
            or self._fetched_at is None
            or not is_recent(self._fetched_at, now, MAX_KEY_AGE)
        )

    async def _refresh(self) -> None:
        try:
            found = parse_jwks(await self._fetch())
            if not found:
                raise ClerkUnavailableError("The key set has no usable key.")
            self._keys, self._failure = found, None
            self._fetched_at = self._clock()
        except InstepError as error:
            self._failure = str(error)
        self._tried_at = self._clock()


class StaticKeySource:
    """A PEM key used for all tokens regardless of their `kid`; nothing is fetched.

    Raises ValueError unless it is the PEM of an RSA public key of at least MIN_KEY_BITS.
    """

    def __init__(self, pem: str) -> None:
        key = load_pem_public_key(pem.replace("\\n", "\n").strip().encode())
        if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
            raise ValueError(f"not an RSA key of {MIN_KEY_BITS} bits")
        self._key = key

    async def find(self, kid: str | None) -> RSAPublicKey:
        """Return the key; never raises."""
        return self._key


def parse_jwks(document: object) -> dict[str, RSAPublicKey]:
    """Return the usable signing keys of a key set by id; anything else in it is ignored."""
    listed = document.get("keys") if isinstance(document, dict) else None
    found = {}
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict) and isinstance(kid := item.get("kid"), str) and (key := _parse_key(item)):
            found[kid] = key
    return found


def _parse_key(item: dict[str, Any]) -> RSAPublicKey | None:
    if item.get("kty") != "RSA" or item.get("use", "sig") != "sig" or item.get("alg", "RS256") != "RS256":
        return None
    try:
        key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": item["n"], "e": item["e"]})
    except (PyJWTError, KeyError, ValueError, TypeError, AttributeError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_KEY_BITS else None
