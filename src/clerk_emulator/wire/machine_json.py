"""JSON of machines, M2M tokens and API keys."""

from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import IssuedKey, Machine
from clerk_emulator.wire.site_config import SiteConfig

JsonObject = dict[str, Any]
CATEGORY = "cl_B7d4PD333AAA"


def machine(instance: Instance, found: Machine) -> JsonObject:
    """Return a machine with its scopes."""
    others = [instance.machines.find(other) for other in found.scopes]
    return {**_key_json(instance, found), "scoped_machines": [_key_json(instance, other) for other in others if other]}


def machine_scope(found: Machine, other: Machine, **more: Any) -> JsonObject:
    """Return a scope: a connection of two machines."""
    return {"object": "machine_scope", "from_machine_id": found.id, "to_machine_id": other.id, **more}


def machine_token(instance: Instance, found: IssuedKey) -> JsonObject:
    """Return an M2M token, without its secret."""
    return {
        "object": "machine_to_machine_token",
        "id": found.id,
        "subject": found.subject,
        "claims": found.claims,
        "scopes": found.scopes,
        **_key_state(instance, found),
    }


def api_key(instance: Instance, found: IssuedKey) -> JsonObject:
    """Return an API key, without its secret."""
    return {
        "object": "api_key",
        "id": found.id,
        "type": "api_key",
        "subject": found.subject,
        "name": found.name,
        "description": found.description,
        "claims": found.claims,
        "scopes": found.scopes,
        "created_by": found.created_by,
        **_key_state(instance, found),
    }


def signed_token(instance: Instance, found: Machine, site: SiteConfig, claims: Any, seconds: float) -> JsonObject:
    """Return a token that the receiver can verify without a request."""
    issued_at = instance.clock.wall() // 1000
    token_id, expires_at = instance.ids.hexadecimal("mt"), issued_at + int(seconds)
    more = claims if isinstance(claims, dict) else {}
    scopes = list(found.scopes)
    fixed = {"iss": site.url, "sub": found.id, "aud": scopes, "jti": token_id, "scopes": " ".join(scopes)}
    times = {"iat": issued_at, "nbf": issued_at - 10, "exp": expires_at}
    now = instance.now
    return {
        "object": "machine_to_machine_token",
        "id": token_id,
        "subject": found.id,
        "claims": claims,
        "scopes": list(found.scopes),
        "token": site.keyring.sign({**more, **fixed, **times}, cat=CATEGORY),
        "revoked": False,
        "revocation_reason": None,
        "expired": False,
        "expiration": now + int(seconds * 1000),
        "last_used_at": None,
        "created_at": now,
        "updated_at": now,
    }


def _key_json(instance: Instance, found: Machine) -> JsonObject:
    return {
        "object": "machine",
        "id": found.id,
        "name": found.name,
        "instance_id": instance.id,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        "default_token_ttl": found.default_token_ttl,
    }


def _key_state(instance: Instance, found: IssuedKey) -> JsonObject:
    return {
        "revoked": found.is_revoked,
        "revocation_reason": found.revocation_reason,
        "expired": found.is_expired(instance.now),
        "expiration": found.expires_at,
        "last_used_at": found.last_used_at,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
