"""Session tokens, version 2."""

from typing import Any

from clerk_emulator.state import memberships
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Session
from clerk_emulator.wire.omitted_fields import remove_omitted_claims
from clerk_emulator.wire.site_config import SiteConfig

LIFETIME = 60
LEEWAY = 10
CATEGORY = "cl_B7d4PD111AAA"
MINUTE = 60_000


def create_session_token(
    instance: Instance, session: Session, site: SiteConfig, *, origin: str | None = None, lifetime: int = LIFETIME
) -> str:
    """Return a signed session token. Its times are those of the wall clock, which verifiers use.

    `origin` is the Origin header of the request that creates the token, None without one.
    """
    claims = session_claims(instance, session, site.url, lifetime) | authorized_party(instance, session, origin)
    return site.keyring.sign(remove_omitted_claims(instance.settings, claims), cat=CATEGORY)


def authorized_party(instance: Instance, session: Session, origin: str | None) -> dict[str, str]:
    """Return the claim `azp`: the Origin of the request that creates the token; no claim without one.

    A top-level navigation has no Origin, so tokens of a handshake have no `azp` (clerk/javascript#8231, #7332,
    #9249), nor have those of the Backend API. `Settings.azp_without_origin` adds the application there too.
    """
    azp = origin or (session.origin if instance.settings.azp_without_origin else None)
    return {"azp": azp} if azp else {}


def session_claims(instance: Instance, session: Session, issuer: str, lifetime: int) -> dict[str, Any]:
    """Return the claims of a session token, without `azp`."""
    issued_at = instance.clock.wall() // 1000
    claims: dict[str, Any] = {
        "exp": issued_at + lifetime,
        "fva": factor_ages(instance, session),
        "iat": issued_at,
        "iss": issuer,
        "jti": instance.ids.secret()[:20],
        "nbf": issued_at - LEEWAY,
        "sid": session.id,
        "sts": "active",
        "sub": session.user_id,
        "v": 2,
    }
    if session.actor:
        claims["act"] = session.actor
    return {**claims, **_organization_claims(instance, session)}


def factor_ages(instance: Instance, session: Session) -> list[int]:
    """Return the minutes since each factor was verified; -1: never."""
    verified_times = (session.factor_verified_at, session.second_factor_verified_at)
    return [-1 if verified_at is None else (instance.now - verified_at) // MINUTE for verified_at in verified_times]


def _organization_claims(instance: Instance, session: Session) -> dict[str, Any]:
    organization = instance.organizations.find(session.last_active_organization_id)
    if organization is None:
        return {}
    membership = memberships.find(instance, organization.id, session.user_id)
    if membership is None:
        return {}
    claims = {"id": organization.id, "slg": organization.slug, "rol": membership.role.removeprefix("org:")}
    role = instance.roles.get(membership.role)
    features, permissions, maps = permission_map(role.permissions if role else [])
    if not features:
        return {"o": claims}
    claims |= {"per": ",".join(permissions), "fpm": ",".join(map(str, maps))}
    return {"o": claims, "fea": ",".join(f"o:{feature}" for feature in features)}


def permission_map(keys: list[str]) -> tuple[list[str], list[str], list[int]]:
    """Return features, permissions, and for each feature the bits of its permissions; without system permissions."""
    pairs = [
        (parts[1], parts[2])
        for parts in (key.split(":") for key in keys)
        if len(parts) == 3 and not parts[1].startswith("sys_")
    ]
    features = sorted({feature for feature, _ in pairs})
    permissions = sorted({permission for _, permission in pairs})
    maps = [
        sum(1 << position for position, permission in enumerate(permissions) if (feature, permission) in pairs)
        for feature in features
    ]
    return features, permissions, maps
