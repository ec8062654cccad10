"""API keys of users and organizations."""

from typing import Any

from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import IssuedKey

PREFIX = "ak_"


def get(instance: Instance, key_id: str) -> IssuedKey:
    """Return a key, or raise an ApiError."""
    found = instance.api_keys.find(key_id)
    if found is None:
        raise not_found_error("API key", key_id)
    return found


def create(instance: Instance, draft: dict[str, Any]) -> IssuedKey:
    """Create an API key of a user or an organization."""
    _require_subject(instance, draft["subject"])
    now = instance.now
    seconds = draft.get("seconds_until_expiration")
    key = IssuedKey(
        id=instance.ids.hexadecimal("ak"),
        subject=draft["subject"],
        secret=instance.ids.secret(PREFIX),
        name=draft["name"],
        description=draft.get("description"),
        claims=draft.get("claims"),
        scopes=draft.get("scopes") or [],
        created_by=draft.get("created_by"),
        expires_at=None if seconds is None else now + int(seconds * 1000),
        created_at=now,
        updated_at=now,
    )
    instance.api_keys.add(key)
    return key


def update(instance: Instance, key: IssuedKey, changes: dict[str, Any]) -> IssuedKey:
    """Update an API key."""
    if changes.get("subject"):
        _require_subject(instance, changes["subject"])
    for name in ("claims", "scopes", "description", "subject"):
        if name in changes and (changes[name] is not None or name in ("claims", "description")):
            setattr(key, name, changes[name])
    if changes.get("seconds_until_expiration") is not None:
        key.expires_at = instance.now + int(changes["seconds_until_expiration"] * 1000)
    instance.touch(key)
    return key


def verify(instance: Instance, secret: str) -> IssuedKey:
    """Return the valid key with this secret, or raise an ApiError."""
    for key in instance.api_keys:
        if key.secret == secret and not key.is_revoked and not key.is_expired(instance.now):
            key.last_used_at = instance.now
            return key
    raise not_found_error("API key", "with this secret")


def _require_subject(instance: Instance, subject: str) -> None:
    if subject not in instance.users and subject not in instance.organizations and subject not in instance.machines:
        message = f"There is no {subject}."
        raise ApiError(
            400, ErrorDetail("form_param_value_invalid", "unknown subject", message, {"param_name": "subject"})
        )
