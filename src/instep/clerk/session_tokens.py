"""Verification of Clerk session tokens and normalization of their claims."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.api_jws import PyJWS
from jwt.exceptions import InvalidAlgorithmError, InvalidSignatureError, PyJWTError
from msgspec import Struct

from instep.clerk.jwks import SigningKeySource
from instep.core.clock import SECOND, Clock
from instep.core.clock import now as system_now
from instep.domain.errors import InvalidSessionError
from instep.domain.models import SessionClaims

LEEWAY = 5 * SECOND  # clocks differ; Clerk's SDKs allow the same
MAX_TOKEN_LENGTH = (
    32_768  # characters; a browser sends at most 4,096 in one cookie, a handshake contains several cookies
)
UNKNOWN_ACTOR = "unknown"  # `act` without `sub`: an impersonation whose actor Clerk does not name
MAX_SHOWN_ORIGIN_LENGTH = 200  # characters of an origin in a message
MAX_TIMESTAMP = 253_402_300_799  # seconds: the end of the year 9999
OPAQUE_TOKEN_PREFIXES = ("ak_", "oat_", "mt_", "m2m_")
ACCEPTED_CATEGORIES = (
    None,  # tokens from before categories existed
    "cl_B7d4PD111AAA",  # session tokens
    "cl_I7d4PD111III",  # no information: instances with this setting put it on every token
)
_jws = PyJWS(algorithms=["RS256"])


class _OrganizationClaim(Struct):
    id: str
    rol: str | None = None
    per: str | None = None
    fpm: str | None = None


class _ActorClaim(Struct):
    sub: str | None = None


class _Claims(Struct):
    """The claims that are read. A v1 token has the `org_` claims, a v2 token `o` and `fea`."""

    iss: str
    sub: str
    exp: int | float
    nbf: int | float
    sid: str | None = None
    azp: str | None = None
    sts: str | None = None
    v: int | float | str | None = None
    o: _OrganizationClaim | None = None
    fea: str | None = None
    org_id: str | None = None
    org_role: str | None = None
    org_permissions: list[str] | None = None
    act: _ActorClaim | None = None


_decode_claims = msgspec.json.Decoder(_Claims).decode


@dataclass(frozen=True)
class SessionTokenVerifier:
    """Verifies the session tokens of one Clerk instance.

    `issuers`: the URL of its Frontend API (two behind a proxy). `authorized_parties`: the origins of valid tokens.

    `azp` is the Origin of the request that created the token. Clerk omits it if that request had none: at every
    top-level navigation, so in every handshake, and in tokens created by the Backend API. A missing one is accepted, as
    Clerk's "manual JWT verification" says; an unknown one is rejected.
    """

    keys: SigningKeySource
    issuers: frozenset[str]
    authorized_parties: frozenset[str]
    clock: Clock = system_now

    async def verify(self, token: str) -> SessionClaims:
        """Verify a session token and return its claims.

        Raises:
            InvalidSessionError: the token is not valid; `code` is the reason.
            ClerkUnavailableError: Clerk's keys can't be fetched.
        """
        claims = _parse_claims(await self.open(token))
        self._check_issuer_and_party(claims)
        check_validity_period(claims.exp, claims.nbf, self.clock())
        return normalize_claims(claims)

    async def open(self, token: str) -> bytes:
        """Return the payload of any token that Clerk signed like a session token. Raises as `verify` does."""
        header = read_header(token)
        return verify_signature(token, await self.keys.find(header.get("kid")))

    def _check_issuer_and_party(self, claims: _Claims) -> None:
        if claims.iss.rstrip("/") not in self.issuers:
            raise InvalidSessionError("The token comes from another Clerk instance.", code="issuer")
        if claims.azp is not None and claims.azp not in self.authorized_parties:
            raise InvalidSessionError(
                f"The token was made for another origin: {_format_origin(claims.azp)}", code="party"
            )
        if claims.sts == "pending":
            raise InvalidSessionError("The sign-in is not finished at Clerk.", code="pending")
        if not (claims.sub.startswith("user_") and (claims.sid or "").startswith("sess_")):
            raise InvalidSessionError("This is not a person's session token.", code="machine_token")


def _format_origin(origin: str) -> str:
    """Return an origin for use in a message: truncated, and without control characters."""
    return ascii(origin[:MAX_SHOWN_ORIGIN_LENGTH])


def read_header(token: str) -> dict[str, Any]:
    """Return the unverified header of a token that may be a session token. Raises InvalidSessionError."""
    if token.startswith(OPAQUE_TOKEN_PREFIXES):
        raise InvalidSessionError("Machine tokens are not accepted here.", code="machine_token")
    if not token.isascii() or len(token) > MAX_TOKEN_LENGTH:
        raise InvalidSessionError("This is not a session token.", code="malformed")
    try:
        header = _jws.get_unverified_header(token)
    except PyJWTError as error:
        raise InvalidSessionError("This is not a session token.", code="malformed") from error
    if header.get("alg") != "RS256":
        raise InvalidSessionError("The token is not signed with RS256.", code="algorithm")
    if header.get("typ", "JWT") != "JWT" or header.get("cat") not in ACCEPTED_CATEGORIES:
        raise InvalidSessionError("Machine tokens are not accepted here.", code="machine_token")
    return header


def verify_signature(token: str, key: RSAPublicKey) -> bytes:
    """Verify a token's signature and return its payload. Raises InvalidSessionError. Pure."""
    try:
        payload: bytes = _jws.decode(token, key, algorithms=["RS256"])
    except InvalidSignatureError as error:
        raise InvalidSessionError("The token's signature is wrong.", code="signature") from error
    except InvalidAlgorithmError as error:
        raise InvalidSessionError("The token is not signed with RS256.", code="algorithm") from error
    except PyJWTError as error:
        raise InvalidSessionError("This is not a session token.", code="malformed") from error
    return payload


def _parse_claims(payload: bytes) -> _Claims:
    try:
        return _decode_claims(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSessionError("The token's claims can't be read.", code="malformed") from error


def check_validity_period(exp: float, nbf: float, now: int) -> None:
    """Check that a token is valid at `now` (Unix ms); `exp` and `nbf` are seconds (RFC 7519, 4.1.4 and 4.1.5).

    Raises InvalidSessionError `expired`, `early`, or `malformed` for a time after the year 9999.
    """
    if max(exp, nbf) > MAX_TIMESTAMP:
        raise InvalidSessionError("The token's times can't be read.", code="malformed")
    if exp * SECOND <= now - LEEWAY:
        raise InvalidSessionError("The token has expired.", code="expired")
    if nbf * SECOND > now + LEEWAY:
        raise InvalidSessionError("The token is not valid yet.", code="early")


def normalize_claims(claims: _Claims) -> SessionClaims:
    """Convert the claims of either version to SessionClaims (CLERK.md, 4). Pure."""
    organization, role, permissions = _get_v2_organization(claims) if claims.v == 2 else _get_v1_organization(claims)
    return SessionClaims(
        user=claims.sub,
        session=claims.sid or "",
        organization=organization,
        role=role,
        permissions=frozenset(permissions),
        expires_at=int(claims.exp * SECOND),
        actor=(claims.act.sub or UNKNOWN_ACTOR) if claims.act else None,
    )


def _get_v1_organization(claims: _Claims) -> tuple[str | None, str | None, Iterable[str]]:
    return claims.org_id, claims.org_role, claims.org_permissions or ()


def _get_v2_organization(claims: _Claims) -> tuple[str | None, str | None, Iterable[str]]:
    organization = claims.o
    if organization is None:
        return None, None, ()
    role = (
        None
        if not organization.rol
        else organization.rol
        if organization.rol.startswith("org:")
        else f"org:{organization.rol}"
    )
    return (
        organization.id,
        role,
        unpack_permissions(features=claims.fea or "", names=organization.per or "", maps=organization.fpm or ""),
    )


def unpack_permissions(*, features: str, names: str, maps: str) -> list[str]:
    """Return the permissions that a v2 token packs into three claims.

    The i-th number of `maps` (`o.fpm`) belongs to the i-th feature of the organization in `features` (`fea`); its
    j-th bit, lowest first, to the j-th of `names` (`o.per`). Invalid numbers grant nothing.
    """
    parts = (part.strip().partition(":") for part in features.split(","))
    organization_features = [name for scope, _, name in parts if scope in ("o", "ou", "uo")]
    bitmasks = [int(part) if part.isdecimal() and len(part) < 1000 else 0 for part in map(str.strip, maps.split(","))]
    permission_names = [name.strip() for name in names.split(",")] if names else []
    return [
        f"org:{feature}:{name}"
        for feature, bitmask in zip(organization_features, bitmasks, strict=False)
        for index, name in enumerate(permission_names)
        if bitmask >> index & 1
    ]
