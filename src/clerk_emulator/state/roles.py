"""Organization roles and permissions."""

import re
from typing import Any

from clerk_emulator.state import role_sets
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
from clerk_emulator.state.models import Permission, Role

MANAGE_MEMBERS = "org:sys_memberships:manage"
READ_MEMBERS = "org:sys_memberships:read"
MANAGE_PROFILE = "org:sys_profile:manage"
DELETE_PROFILE = "org:sys_profile:delete"
MANAGE_DOMAINS = "org:sys_domains:manage"
READ_DOMAINS = "org:sys_domains:read"
SYSTEM_PERMISSIONS = {
    MANAGE_PROFILE: "Manage organization",
    DELETE_PROFILE: "Delete organization",
    MANAGE_MEMBERS: "Manage members",
    READ_MEMBERS: "Read members",
    MANAGE_DOMAINS: "Manage domains",
    READ_DOMAINS: "Read domains",
    "org:sys_billing:manage": "Manage billing",
    "org:sys_billing:read": "Read billing",
}
MEMBER_PERMISSIONS = [READ_MEMBERS, "org:sys_billing:read"]
ROLE_KEY = re.compile(r"org:[a-z0-9_]+")
PERMISSION_KEY = re.compile(r"org:[a-z0-9_]+:[a-z0-9_]+")
MAX_ROLES = 10


def create_defaults(instance: Instance) -> None:
    """Create the default permissions, roles and role set of a new instance."""
    for key, name in SYSTEM_PERMISSIONS.items():
        _add_permission(instance, key, name, "system")
    seed_role(instance, "org:admin", "Admin", list(SYSTEM_PERMISSIONS), is_creator_eligible=True)
    seed_role(instance, "org:member", "Member", list(MEMBER_PERMISSIONS))
    role_sets.create_initial(instance)


def seed_role(
    instance: Instance, key: str, name: str, permissions: list[str], *, is_creator_eligible: bool = False
) -> Role:
    """Create a role of a seed and its new permissions; organizations may use it immediately.

    Any key is accepted: instances from before December 2023 have `admin` and `basic_member`.
    """
    if key in instance.roles:
        raise identifier_exists_error("key")
    if not key:
        raise invalid_value_error("key", "is empty")
    _require_permissions(instance, permissions)
    role = _add_role(instance, key, name, permissions)
    role.is_creator_eligible = is_creator_eligible
    role_sets.add_to_initial(instance, key)
    return role


def replace_by_seed(
    instance: Instance, old: str, key: str, *, name: str | None = None, permissions: list[str] | None = None
) -> Role:
    """Replace a role by one of a seed: members, invitations and defaults follow."""
    role = get(instance, old)
    if not key or (key != old and key in instance.roles):
        raise identifier_exists_error("key") if key else invalid_value_error("key", "is empty")
    if permissions is not None:
        _require_permissions(instance, permissions)
        role.permissions = permissions
        _update_creator_eligibility(role)
    if key != old:
        _rename(instance, role, key)
    role.name = name or role.name
    return role


def set_default_roles(instance: Instance, data: dict[str, str]) -> None:
    """Set the roles of creators, new members and members by domain. ValueError: no such role.

    `data` may have `creator_role`, `default_role` and `domains_default_role`, keys of roles. The initial role set,
    where clients of the Backend API read the first two, is updated as well.
    """
    for name, key in data.items():
        if key not in instance.roles:
            raise ValueError(f"{name}: there is no role {key!r}; roles are: {', '.join(instance.roles)}")
    initial = role_sets.get_initial(instance)
    for name, key in data.items():
        setattr(instance.settings, name, key)
        if initial is not None and name in role_sets.DEFAULT_FIELDS:
            setattr(initial, name, key)
            role_sets.add_to_initial(instance, key)


def create(instance: Instance, draft: dict[str, Any]) -> Role:
    """Create a role and publish the event."""
    key = draft["key"]
    _require_role_key(instance, key)
    if len(instance.roles) >= MAX_ROLES:
        message = f"An instance may have at most {MAX_ROLES} roles."
        raise ApiError(403, ErrorDetail("organization_instance_roles_quota_exceeded", "too many roles", message))
    permissions = [get_permission(instance, id_).key for id_ in draft.get("permissions") or []]
    role = _add_role(instance, key, draft["name"], permissions)
    role.description = draft.get("description")
    _update_creator_eligibility(role)
    if draft.get("include_in_initial_role_set"):
        role_sets.add_to_initial(instance, key)
    instance.publish("role.created", role)
    return role


def update(instance: Instance, role: Role, changes: dict[str, Any]) -> Role:
    """Update a role and publish the event; its members keep it, also under a new key."""
    key = changes.get("key")
    if key and key != role.key:
        _require_role_key(instance, key)
    if changes.get("permissions") is not None:
        role.permissions = [get_permission(instance, id_).key for id_ in changes["permissions"]]
    if key and key != role.key:
        _rename(instance, role, key)
    for name in ("name", "description"):
        if changes.get(name) is not None:
            setattr(role, name, changes[name])
    _update_creator_eligibility(role)
    instance.touch_and_publish("role.updated", role)
    return role


def delete(instance: Instance, role: Role) -> Role:
    """Delete a role that has no members or invitations and is no default."""
    if role.key == instance.settings.creator_role or role_sets.is_creator_role(instance, role.key):
        raise _in_use_error("organization_role_default_creator_role", "This is the creator role.")
    if role.key in (instance.settings.default_role, instance.settings.domains_default_role):
        raise _in_use_error("organization_role_domain_default_role", "This is the default role of new members.")
    if any(count for (_, key), count in instance.role_counts.items() if key == role.key):
        raise _in_use_error("organization_role_assigned_members", "Members have this role.")
    now = instance.now
    if any(row.role == role.key and row.status(now) == "pending" for row in instance.organization_invitations):
        raise _in_use_error("organization_role_exists_in_invitations", "Pending invitations offer this role.")
    del instance.roles[role.key]
    role_sets.remove_from_all(instance, role.key)
    instance.publish("role.deleted", role)
    return role


def assign_permission(instance: Instance, role: Role, permission: Permission) -> Role:
    """Add a permission to a role."""
    if permission.key in role.permissions:
        message = "The role already has this permission."
        raise ApiError(409, ErrorDetail("organization_role_permission_association_exists", "has it", message))
    role.permissions.append(permission.key)
    _update_creator_eligibility(role)
    instance.touch_and_publish("role.updated", role)
    return role


def remove_permission(instance: Instance, role: Role, permission: Permission) -> Role:
    """Remove a permission from a role."""
    if permission.key not in role.permissions:
        message = "The role does not have this permission."
        raise ApiError(404, ErrorDetail("organization_role_permission_association_not_found", "has it not", message))
    if role.key == instance.settings.creator_role and permission.key in SYSTEM_PERMISSIONS:
        message = "The creator role must keep its system permissions."
        raise ApiError(422, ErrorDetail("organization_missing_creator_role_permissions", "needed", message))
    role.permissions.remove(permission.key)
    _update_creator_eligibility(role)
    instance.touch_and_publish("role.updated", role)
    return role


def create_permission(instance: Instance, draft: dict[str, Any]) -> Permission:
    """Create a permission and publish the event."""
    _require_permission_key(instance, draft["key"])
    permission = _add_permission(instance, draft["key"], draft["name"], "custom")
    permission.description = draft.get("description") or ""
    instance.publish("permission.created", permission)
    return permission


def update_permission(instance: Instance, permission: Permission, changes: dict[str, Any]) -> Permission:
    """Change a permission and publish the event."""
    _require_custom(permission)
    key = changes.get("key")
    if key and key != permission.key:
        _require_permission_key(instance, key)
        for role in instance.roles.values():
            role.permissions = [key if one == permission.key else one for one in role.permissions]
        del instance.permissions[permission.key]
        permission.key = key
        instance.permissions[key] = permission
    for name in ("name", "description"):
        if changes.get(name) is not None:
            setattr(permission, name, changes[name])
    instance.touch_and_publish("permission.updated", permission)
    return permission


def delete_permission(instance: Instance, permission: Permission) -> Permission:
    """Delete a permission and remove it from roles."""
    _require_custom(permission)
    for role in instance.roles.values():
        if permission.key in role.permissions:
            role.permissions.remove(permission.key)
            instance.touch(role)
    del instance.permissions[permission.key]
    instance.publish("permission.deleted", permission)
    return permission


def get(instance: Instance, key: str) -> Role:
    """Return the role with a key, or raise an ApiError."""
    role = instance.roles.get(key)
    if role is None:
        raise role_not_found_error(key)
    return role


def get_in_role_set(instance: Instance, role_set: str | None, key: str) -> Role:
    """Return a role of this role set, or raise an ApiError."""
    role = get(instance, key)
    if key not in role_sets.get_by_organization(instance, role_set).roles:
        raise role_not_found_error(key)
    return role


def get_by_id(instance: Instance, role_id: str) -> Role:
    """Return the role with an id, or raise an ApiError."""
    for role in instance.roles.values():
        if role.id == role_id:
            return role
    raise not_found_error("organization role", role_id)


def get_permission(instance: Instance, permission_id: str) -> Permission:
    """Return the permission with an id, or raise an ApiError."""
    for permission in instance.permissions.values():
        if permission.id == permission_id:
            return permission
    raise not_found_error("organization permission", permission_id)


def managing_roles(instance: Instance) -> set[str]:
    """Return the keys of the roles that may manage members."""
    return {key for key, role in instance.roles.items() if MANAGE_MEMBERS in role.permissions}


def _add_permission(instance: Instance, key: str, name: str, type_: str) -> Permission:
    now = instance.now
    instance.permissions[key] = permission = Permission(
        id=instance.ids.new("perm"), key=key, name=name, type=type_, created_at=now, updated_at=now
    )
    return permission


def _require_permissions(instance: Instance, permissions: list[str]) -> None:
    for permission in permissions:
        if permission not in instance.permissions:
            _add_permission(instance, permission, permission.removeprefix("org:"), "custom")


def _add_role(instance: Instance, key: str, name: str, permissions: list[str]) -> Role:
    now = instance.now
    instance.roles[key] = role = Role(
        id=instance.ids.new("role"), key=key, name=name, permissions=permissions, created_at=now, updated_at=now
    )
    return role


def _rename(instance: Instance, role: Role, key: str) -> None:
    old = role.key
    del instance.roles[old]
    role.key = key
    instance.roles[key] = role
    for organization_id, name in [pair for pair in instance.role_counts if pair[1] == old]:
        instance.role_counts[organization_id, key] = instance.role_counts.pop((organization_id, name))
    for row in (*instance.memberships, *instance.organization_invitations):
        if row.role == old:
            row.role = key
    for name in ("creator_role", "default_role", "domains_default_role"):
        if getattr(instance.settings, name) == old:
            setattr(instance.settings, name, key)
    role_sets.rename_role(instance, old, key)


def _update_creator_eligibility(role: Role) -> None:
    needed = {"org:sys_profile:delete", "org:sys_memberships:read", MANAGE_MEMBERS}
    role.is_creator_eligible = needed <= set(role.permissions)


def _require_role_key(instance: Instance, key: str) -> None:
    if not ROLE_KEY.fullmatch(key):
        raise invalid_format_error("key", "must be org: and lowercase letters, digits and underscores")
    if key in instance.roles:
        raise identifier_exists_error("key")


def _require_permission_key(instance: Instance, key: str) -> None:
    if not PERMISSION_KEY.fullmatch(key):
        raise invalid_format_error("key", "must be org:, a feature, a colon and a permission")
    if key.startswith("org:sys_") or key in instance.permissions:
        raise identifier_exists_error("key")


def _require_custom(permission: Permission) -> None:
    if permission.type == "system":
        message = "System permissions can't be changed."
        raise ApiError(403, ErrorDetail("organization_system_permission_not_modifiable", "system permission", message))


def _in_use_error(code: str, message: str) -> ApiError:
    return ApiError(422, ErrorDetail(code, "in use", message))
