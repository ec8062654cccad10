"""Load a JSON seed: users, organizations, memberships, invitations, roles and settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clerk_emulator.control import time_parsing
from clerk_emulator.state import (
    directories,
    emails,
    invitations,
    memberships,
    metadata,
    organization_invitations,
    organizations,
    roles,
    snapshot,
    users,
)
from clerk_emulator.state.errors import ApiError, NotEmulatedError
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Directory, Organization, OrganizationInvitation, User
from clerk_emulator.state.settings import ROLE_SETTINGS

TOP_LEVEL_KEYS = {"settings", "directories", "roles", "users", "organizations", "invitations", "endpoints", "events"}
TIME_FIELDS = ("created_at", "updated_at", "expires_at", "last_sign_in_at", "last_active_at", "legal_accepted_at")
STRING_FIELDS = {
    "id",
    "email_address",
    "username",
    "external_id",
    "first_name",
    "last_name",
    "password",
    "name",
    "slug",
    "role",
}
METADATA_FIELDS = {"public_metadata", "private_metadata"}
USER_FIELDS = METADATA_FIELDS | {
    "unsafe_metadata",
    "id",
    "email_address",
    "email_addresses",
    "external_id",
    "username",
    "first_name",
    "last_name",
    "locale",
    "password",
    "banned",
    "locked",
    "directory",
    "deprovisioned",
    "created_at",
    "updated_at",
    "last_sign_in_at",
    "last_active_at",
    "legal_accepted_at",
    "delete_self_enabled",
    "create_organization_enabled",
    "create_organizations_limit",
}
ROLE_FIELDS = {"key", "name", "permissions", "replaces"}
ORGANIZATION_FIELDS = METADATA_FIELDS | {
    "id",
    "name",
    "slug",
    "created_by",
    "created_at",
    "updated_at",
    "max_allowed_memberships",
    "members",
    "invitations",
}
MEMBERSHIP_FIELDS = METADATA_FIELDS | {"id", "user", "role", "created_at", "updated_at"}
INVITATION_FIELDS = METADATA_FIELDS | {
    "id",
    "email_address",
    "role",
    "inviter",
    "redirect_url",
    "created_at",
    "updated_at",
    "expires_at",
    "expires_in_days",
    "status",
}


class InvalidSeedError(ValueError):
    """A seed that cannot be loaded; the message names the location."""


def load_seed(instance: Instance, seed: Any) -> dict[str, int]:
    """Load a seed and return the number of entries of each kind. A failed seed changes nothing."""
    if not isinstance(seed, dict):
        raise InvalidSeedError("a seed must be a JSON object")
    _require_known_fields("seed", seed, TOP_LEVEL_KEYS)
    before = snapshot.dump(instance)
    listener = instance.listener
    if not seed.get("events"):
        instance.listener = lambda domain_event: None
    try:
        _load_seed(instance, seed)
    except BaseException:
        snapshot.load(instance, before)
        raise
    finally:
        instance.listener = listener
    return {name: len(seed[name]) for name in sorted(TOP_LEVEL_KEYS) if isinstance(seed.get(name), list)}


def _load_seed(instance: Instance, seed: dict[str, Any]) -> None:
    _load_settings(instance, seed.get("settings") or {})
    for path, entry in _items(seed, "roles", ROLE_FIELDS):
        with _location(path):
            _load_role(instance, entry)
    with _location("settings"):
        chosen = seed.get("settings") or {}
        roles.set_default_roles(instance, {name: chosen[name] for name in ROLE_SETTINGS if name in chosen})
    for path, entry in _items(seed, "directories", {"id", "name"}):
        with _location(path):
            directories.create(instance, entry["name"], entry.get("id"))
    for path, entry in _items(seed, "users", USER_FIELDS):
        with _location(path):
            _load_user(instance, _parse_times(instance, entry))
    for path, entry in _items(seed, "organizations", ORGANIZATION_FIELDS):
        with _location(path):
            organization = _load_organization(instance, _parse_times(instance, entry))
        _load_nested(instance, organization, entry, path)
    for path, entry in _items(seed, "invitations", INVITATION_FIELDS):
        with _location(path):
            created = invitations.create_all(instance, [{**_parse_times(instance, entry), "ignore_existing": True}])[0]
            created.settled = None if entry.get("status") in (None, "pending") else entry["status"]


def _load_role(instance: Instance, entry: dict[str, Any]) -> None:
    key, permissions = entry["key"], entry.get("permissions")
    known = set(instance.permissions)
    if entry.get("replaces") is not None:
        role = roles.replace_by_seed(instance, entry["replaces"], key, name=entry.get("name"), permissions=permissions)
    else:
        role = roles.seed_role(instance, key, entry.get("name") or key, permissions or [])
    for new in [one for one in instance.permissions.values() if one.key not in known]:
        instance.publish("permission.created", new)
    instance.publish("role.updated" if entry.get("replaces") is not None else "role.created", role)


def _load_nested(instance: Instance, organization: Organization, entry: dict[str, Any], path: str) -> None:
    for inner, member in _items(entry, "members", MEMBERSHIP_FIELDS, path):
        with _location(inner):
            _load_membership(instance, organization, _parse_times(instance, member))
    for inner, invitation in _items(entry, "invitations", INVITATION_FIELDS, path):
        with _location(inner):
            _load_invitation(instance, organization, _parse_times(instance, invitation))


def _load_user(instance: Instance, entry: dict[str, Any]) -> None:
    addresses = entry.get("email_addresses") or [entry.get("email_address")]
    draft = {**entry, "email_address": [one for one in addresses if one], "skip_password_checks": True}
    found = _find_directory(instance, entry)
    link = (found.id, entry.get("external_id")) if found else (None, None)
    created = users.create(instance, draft, strategy="scim" if found else "admin", directory=link)
    created.deprovisioned = bool(entry.get("deprovisioned"))


def _find_directory(instance: Instance, entry: dict[str, Any]) -> Directory | None:
    wanted = entry.get("directory")
    found = next((row for row in instance.directories if wanted in (row.id, row.name)), None)
    if found is None and wanted is not None:
        raise InvalidSeedError(f"there is no directory {wanted!r}")
    if found is None and entry.get("deprovisioned"):
        raise InvalidSeedError("deprovisioned is set by a directory; set directory")
    return found


def _load_organization(instance: Instance, entry: dict[str, Any]) -> Organization:
    creator = entry.get("created_by")
    is_listed = any(_is_same_user(instance, member.get("user"), creator) for member in entry.get("members") or [])
    creator_id = _find_user(instance, creator).id if creator else None
    return organizations.create(instance, {**entry, "created_by": creator_id, "creator_joins": not is_listed})


def _load_membership(instance: Instance, organization: Organization, entry: dict[str, Any]) -> None:
    user = _find_user(instance, entry.get("user"))
    role = roles.get(instance, entry.get("role") or instance.settings.default_role)
    if memberships.find(instance, organization.id, user.id) is not None:
        raise InvalidSeedError("is already a member")
    memberships.create_unchecked(instance, organization, user, role.key, entry)


def _load_invitation(instance: Instance, organization: Organization, entry: dict[str, Any]) -> None:
    role = roles.get(instance, entry.get("role") or instance.settings.default_role)
    inviter = _find_user(instance, entry["inviter"]).id if entry.get("inviter") else None
    is_sent = entry.get("status") in (None, "pending")
    draft = {**entry, "role": role.key, "inviter_user_id": inviter, "notify": is_sent}
    if entry.get("status") == "expired":
        draft["expires_at"] = min(entry.get("expires_at", instance.now), instance.now)
    limit, organization.max_allowed_memberships = organization.max_allowed_memberships, 0
    try:
        invitation = organization_invitations.create(instance, organization, draft)
    finally:
        organization.max_allowed_memberships = limit
    _set_invitation_status(instance, invitation, entry.get("status") or "pending")


def _set_invitation_status(instance: Instance, invitation: OrganizationInvitation, status: str) -> None:
    if status in ("accepted", "revoked"):
        organization_invitations.close(instance, invitation, status)
        owner = emails.find_owner(instance, invitation.email_address) if status == "accepted" else None
        invitation.user_id = owner.id if owner else None
        instance.publish(f"organizationInvitation.{status}", invitation)
    elif status not in ("pending", "expired"):
        raise InvalidSeedError("status must be pending, accepted, revoked or expired")


def _load_settings(instance: Instance, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise InvalidSeedError("settings must be an object")
    try:
        instance.settings.change(entry)
    except ValueError as error:
        raise InvalidSeedError(f"settings.{error}") from error


def _find_user(instance: Instance, reference: Any) -> User:
    found = instance.users.find(reference) if isinstance(reference, str) else None
    found = found or (emails.find_owner(instance, reference) if isinstance(reference, str) else None)
    if found is None:
        raise InvalidSeedError(f"there is no user {reference!r}")
    return found


def _is_same_user(instance: Instance, one: Any, other: Any) -> bool:
    return bool(one and other) and _find_user(instance, one) is _find_user(instance, other)


def _items(owner: dict[str, Any], name: str, known: set[str], parent: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    path = f"{parent}.{name}" if parent else name
    items = [] if owner.get(name) is None else owner[name]
    if not isinstance(items, list):
        raise InvalidSeedError(f"{path} must be a list")
    for number, item in enumerate(items):
        _require_known_fields(f"{path}[{number}]", item, known)
        yield f"{path}[{number}]", item


def _parse_times(instance: Instance, entry: dict[str, Any]) -> dict[str, Any]:
    now = instance.now
    times = {name: time_parsing.parse_time(entry[name], now) for name in TIME_FIELDS if entry.get(name) is not None}
    if "created_at" in times:
        times.setdefault("updated_at", times["created_at"])
    for name in STRING_FIELDS & set(entry):
        if not isinstance(entry[name], str | None):
            raise InvalidSeedError(f"{name} must be a string")
    for name in METADATA_FIELDS & set(entry):
        if not isinstance(entry[name], dict):
            raise InvalidSeedError(f"{name} must be an object")
        metadata.check_size(name, entry[name])
    return {**entry, **times}


def _require_known_fields(path: str, entry: Any, known: set[str]) -> None:
    if not isinstance(entry, dict):
        raise InvalidSeedError(f"{path} must be an object")
    unknown = sorted(set(entry) - known)
    if unknown:
        raise InvalidSeedError(f"{path}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")


@contextmanager
def _location(path: str) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        raise InvalidSeedError(f"{path}: {error.problems[0].long_message}") from error
    except NotEmulatedError as error:
        raise InvalidSeedError(f"{path}: the emulator does not support {error}") from error
    except KeyError as error:
        raise InvalidSeedError(f"{path}: {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidSeedError(f"{path}: {error}") from error
