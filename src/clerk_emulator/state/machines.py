"""Machines, their scopes and M2M tokens."""

from typing import Any

from clerk_emulator.state.errors import ApiError, ErrorDetail, invalid_value_error, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import IssuedKey, Machine

SECRET_PREFIX = "ak_"  # noqa: S105 - a prefix
TOKEN_PREFIX = "mt_"  # noqa: S105 - a prefix


def get(instance: Instance, machine_id: str) -> Machine:
    """Return a machine, or raise an ApiError."""
    found = instance.machines.find(machine_id)
    if found is None:
        raise not_found_error("machine", machine_id)
    return found


def find_by_secret(instance: Instance, secret: str) -> Machine | None:
    """Return the machine with this secret key, or with a recently rotated one."""
    for row in instance.machines:
        is_previous = row.previous_secret_key == secret and row.previous_valid_until > instance.now
        if row.secret_key == secret or is_previous:
            return row
    return None


def create(instance: Instance, draft: dict[str, Any]) -> Machine:
    """Create a machine."""
    others = [get(instance, machine_id) for machine_id in draft.get("scoped_machines") or []]
    now = instance.now
    machine = Machine(
        id=instance.ids.new("mch"),
        name=draft["name"],
        secret_key=instance.ids.secret(SECRET_PREFIX),
        default_token_ttl=draft.get("default_token_ttl") or 3600,
        created_at=now,
        updated_at=now,
    )
    instance.machines.add(machine)
    for other in others:
        _add_scope(instance, machine, other)
    return machine


def update(instance: Instance, machine: Machine, changes: dict[str, Any]) -> Machine:
    """Update a machine."""
    for name in ("name", "default_token_ttl"):
        if changes.get(name) is not None:
            setattr(machine, name, changes[name])
    instance.touch(machine)
    return machine


def delete(instance: Instance, machine: Machine) -> None:
    """Delete a machine with its tokens and scopes."""
    instance.machines.remove(machine.id)
    for other in instance.machines:
        other.scopes.pop(machine.id, None)
    for token in [row for row in instance.machine_tokens if row.subject == machine.id]:
        instance.machine_tokens.remove(token.id)


def rotate_secret(instance: Instance, machine: Machine, seconds: int) -> str:
    """Rotate the secret key of a machine; the old one stays valid for a while."""
    machine.previous_secret_key = machine.secret_key
    machine.previous_valid_until = instance.now + seconds * 1000
    machine.secret_key = instance.ids.secret(SECRET_PREFIX)
    instance.touch(machine)
    return machine.secret_key


def create_scope(instance: Instance, machine: Machine, other: Machine) -> int:
    """Allow two machines to communicate, and return the time since when they may."""
    if other is machine:
        raise invalid_value_error("to_machine_id", "must be another machine")
    if other.id in machine.scopes:
        message = "These machines are already connected."
        raise ApiError(409, ErrorDetail("conflict", "connected", message))
    return _add_scope(instance, machine, other)


def delete_scope(machine: Machine, other: Machine) -> None:
    """Disallow two machines to communicate."""
    if other.id not in machine.scopes:
        raise not_found_error("machine scope", other.id)
    machine.scopes.pop(other.id, None)
    other.scopes.pop(machine.id, None)


def create_token(instance: Instance, machine: Machine, draft: dict[str, Any]) -> IssuedKey:
    """Create a token for a machine, or return an equal one that is valid for long enough."""
    seconds = draft.get("seconds_until_expiration") or machine.default_token_ttl
    minimum = draft.get("min_remaining_ttl_seconds")
    if minimum is not None and minimum >= seconds:
        message = "min_remaining_ttl_seconds must be less than the lifetime."
        raise ApiError(400, ErrorDetail("form_param_value_invalid", "too long", message))
    old = None if minimum is None else _find_reusable_token(instance, machine, draft.get("claims"), minimum)
    return old or _create_token(instance, machine, draft.get("claims"), seconds)


def verify_token(instance: Instance, secret: str, caller: Machine | None) -> IssuedKey:
    """Return a valid token that the calling machine may see, or raise an ApiError."""
    for token in instance.machine_tokens:
        if token.secret == secret and not token.is_revoked and not token.is_expired(instance.now):
            if caller is not None and caller.id != token.subject and caller.id not in token.scopes:
                break
            token.last_used_at = instance.now
            return token
    raise not_found_error("machine token", "with this secret")


def get_token(instance: Instance, token_id: str, caller: Machine | None) -> IssuedKey:
    """Return a token by its id, or raise an ApiError."""
    token = instance.machine_tokens.find(token_id)
    if token is None or (caller is not None and token.subject != caller.id):
        raise not_found_error("machine token", token_id)
    return token


def revoke_token(instance: Instance, key: IssuedKey, reason: str | None) -> IssuedKey:
    """Revoke a token or a key."""
    key.is_revoked, key.revocation_reason = True, reason
    instance.touch(key)
    return key


def _add_scope(instance: Instance, machine: Machine, other: Machine) -> int:
    now = instance.now
    machine.scopes[other.id] = other.scopes[machine.id] = now
    return now


def _find_reusable_token(instance: Instance, machine: Machine, claims: Any, seconds: int) -> IssuedKey | None:
    required_until = instance.now + seconds * 1000
    for token in instance.machine_tokens.newest_first():
        is_alike = token.subject == machine.id and token.claims == claims and token.scopes == list(machine.scopes)
        if is_alike and not token.is_revoked and token.expires_at is not None and token.expires_at >= required_until:
            return token
    return None


def _create_token(instance: Instance, machine: Machine, claims: Any, seconds: float) -> IssuedKey:
    now = instance.now
    token = IssuedKey(
        id=instance.ids.hexadecimal("mt"),
        subject=machine.id,
        secret=instance.ids.secret(TOKEN_PREFIX),
        claims=claims,
        scopes=list(machine.scopes),
        expires_at=now + int(seconds * 1000),
        created_at=now,
        updated_at=now,
    )
    instance.machine_tokens.add(token)
    return token
