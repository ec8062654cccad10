"""Role sets: the roles available to an organization's members."""

import re
from typing import Any

from clerk_emulator.state.errors import (
    ApiError,
    ErrorDetail,
    identifier_exists_error,
    invalid_format_error,
    invalid_value_error,
    not_found_error,
    role_not_found_error,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import RoleSet

INITIAL_KEY = "role_set:default"
KEY_PATTERN = re.compile(r"role_set:[a-z0-9_]+")
MAX_ROLES = 10
DEFAULT_FIELDS = ("default_role", "creator_role")  # of a role set, and of the settings for the initial set


def create_initial(instance: Instance) -> None:
    """Create the initial role set of a new instance."""
    now = instance.now
    initial = RoleSet(
        id=instance.ids.new("rset"),
        key=INITIAL_KEY,
        name="Default role set",
        roles=list(instance.roles),
        type="initial",
        created_at=now,
        updated_at=now,
    )
    instance.role_sets.add(initial)


def get_initial(instance: Instance) -> RoleSet | None:
    """Return the role set of new organizations."""
    return next((row for row in instance.role_sets if row.type == "initial"), None)


def get_by_organization(instance: Instance, key: str | None) -> RoleSet:
    """Return the role set with a key; without one, the initial one."""
    found = get(instance, key) if key else get_initial(instance)
    assert found is not None, "an instance has an initial set of roles"  # noqa: S101
    return found


def get(instance: Instance, key_or_id: str) -> RoleSet:
    """Return a role set by key or id, or raise an ApiError."""
    for row in instance.role_sets:
        if key_or_id in (row.key, row.id):
            return row
    raise not_found_error("role set", key_or_id)


def create(instance: Instance, draft: dict[str, Any]) -> RoleSet:
    """Create a role set."""
    key = draft.get("key") or "role_set:" + re.sub(r"[^a-z0-9]+", "_", draft["name"].lower()).strip("_")
    _require_free(instance, key)
    keys = _validate_keys(instance, draft["roles"])
    now = instance.now
    created = RoleSet(
        id=instance.ids.new("rset"),
        key=key,
        name=draft["name"],
        description=draft.get("description"),
        roles=keys,
        created_at=now,
        updated_at=now,
    )
    _apply_defaults(created, draft)
    instance.role_sets.add(created)
    if draft.get("type") == "initial":
        _set_initial(instance, created)
    _copy_defaults_to_settings(instance)
    return created


def update(instance: Instance, found: RoleSet, changes: dict[str, Any]) -> RoleSet:
    """Update a role set."""
    key = changes.get("key")
    if key and key != found.key:
        _require_free(instance, key)
    _apply_defaults(found, changes)
    if key and key != found.key:
        for organization in instance.organizations:
            if organization.role_set == found.key:
                organization.role_set = key
        found.key = key
    for name in ("name", "description"):
        if changes.get(name) is not None:
            setattr(found, name, changes[name])
    if changes.get("type") == "initial":
        _set_initial(instance, found)
    _copy_defaults_to_settings(instance)
    instance.touch(found)
    return found


def add_roles(instance: Instance, found: RoleSet, changes: dict[str, Any]) -> RoleSet:
    """Add roles to a role set."""
    keys = _validate_keys(instance, list(dict.fromkeys([*found.roles, *changes["role_keys"]])))
    found.roles = keys
    _apply_defaults(found, changes)
    _copy_defaults_to_settings(instance)
    instance.touch(found)
    return found


def replace_role(instance: Instance, found: RoleSet, old: str, new: str) -> RoleSet:
    """Replace a role by another one, also for its members."""
    if old not in found.roles:
        raise role_not_found_error(old)
    _validate_keys(instance, [new])
    found.roles = list(dict.fromkeys(new if key == old else key for key in found.roles))
    for name in DEFAULT_FIELDS:
        if getattr(found, name) == old:
            setattr(found, name, new)
    _copy_defaults_to_settings(instance)
    _reassign(instance, found, {old: new})
    instance.touch(found)
    return found


def replace(instance: Instance, found: RoleSet, target: RoleSet, mappings: dict[str, str]) -> RoleSet:
    """Replace a role set by another one and delete it."""
    if target is found:
        raise invalid_value_error("dest_role_set_key", "must be another role set")
    used = {row.role for row in instance.memberships if _is_used_by(instance, row.organization_id, found)}
    missing = sorted(key for key in used if key not in target.roles and key not in mappings)
    if missing:
        message = f"There is no mapping for {', '.join(missing)}."
        raise ApiError(
            422, ErrorDetail("organization_role_set_reassignment_mappings_missing", "mappings missing", message)
        )
    for key in mappings.values():
        if key not in target.roles:
            message = f"{key} is not in the new role set."
            raise ApiError(
                422, ErrorDetail("organization_role_set_reassignment_mappings_invalid", "bad mapping", message)
            )
    _reassign(instance, found, mappings)
    if found.type == "initial":
        _set_initial(instance, target)
        _copy_defaults_to_settings(instance)
    for organization in instance.organizations:
        if organization.role_set == found.key:
            organization.role_set = target.key
    instance.role_sets.remove(found.id)
    return found


def add_to_initial(instance: Instance, key: str) -> None:
    """Add a role to the initial role set."""
    found = get_initial(instance)
    if found is not None and key not in found.roles:
        found.roles.append(key)


def remove_from_all(instance: Instance, key: str) -> None:
    """Remove a role from all role sets."""
    for row in instance.role_sets:
        row.roles = [one for one in row.roles if one != key]


def rename_role(instance: Instance, old: str, new: str) -> None:
    """Rename a role in all role sets."""
    for row in instance.role_sets:
        row.roles = [new if one == old else one for one in row.roles]
        for name in DEFAULT_FIELDS:
            if getattr(row, name) == old:
                setattr(row, name, new)


def is_creator_role(instance: Instance, key: str) -> bool:
    """Return whether the role is the creator role of a role set."""
    return any(row.creator_role == key for row in instance.role_sets)


def _set_initial(instance: Instance, chosen: RoleSet) -> None:
    old = get_initial(instance)
    for organization in instance.organizations:
        if organization.role_set is None and old is not None:
            organization.role_set = old.key
    for row in instance.role_sets:
        row.type = "initial" if row is chosen else "custom"


def _copy_defaults_to_settings(instance: Instance) -> None:
    """Copy the initial set's creator and default role to the settings, if it has these roles."""
    found = get_initial(instance)
    for name in DEFAULT_FIELDS:
        if found is not None and getattr(found, name) in found.roles:
            setattr(instance.settings, name, getattr(found, name))


def _apply_defaults(found: RoleSet, data: dict[str, Any]) -> None:
    for field, name in (("default_role", "default_role_key"), ("creator_role", "creator_role_key")):
        if data.get(name):
            if data[name] not in found.roles:
                raise invalid_value_error(name, "must be one of the roles of the set")
            setattr(found, field, data[name])


def _validate_keys(instance: Instance, keys: list[str]) -> list[str]:
    for key in keys:
        if key not in instance.roles:
            raise role_not_found_error(key)
    if not 1 <= len(set(keys)) <= MAX_ROLES:
        raise invalid_value_error("roles", f"must have 1 to {MAX_ROLES} roles")
    return list(dict.fromkeys(keys))


def _require_free(instance: Instance, key: str) -> None:
    if not KEY_PATTERN.fullmatch(key):
        raise invalid_format_error("key", "must be role_set: and lowercase letters, digits and underscores")
    if any(row.key == key for row in instance.role_sets):
        raise identifier_exists_error("key")


def _is_used_by(instance: Instance, organization_id: str, found: RoleSet) -> bool:
    organization = instance.organizations.find(organization_id)
    if organization is None:
        return False
    return organization.role_set == found.key or (organization.role_set is None and found.type == "initial")


def _reassign(instance: Instance, found: RoleSet, mappings: dict[str, str]) -> None:
    for row in instance.memberships:
        if row.role in mappings and _is_used_by(instance, row.organization_id, found):
            instance.role_counts[row.organization_id, row.role] -= 1
            row.role = mappings[row.role]
            instance.role_counts[row.organization_id, row.role] += 1
            instance.touch_and_publish("organizationMembership.updated", row)
