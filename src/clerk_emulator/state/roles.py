"""Roles and permissions: the two roles and the system permissions every instance has, and lookups."""

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Permission, Role
from clerk_emulator.state.refusals import bad_value, identifier_exists, role_not_found

MANAGE_MEMBERS = "org:sys_memberships:manage"
READ_MEMBERS = "org:sys_memberships:read"
SYSTEM_PERMISSIONS = {
    "org:sys_profile:manage": "Manage organization",
    "org:sys_profile:delete": "Delete organization",
    MANAGE_MEMBERS: "Manage members",
    READ_MEMBERS: "Read members",
    "org:sys_domains:manage": "Manage domains",
    "org:sys_domains:read": "Read domains",
    "org:sys_billing:manage": "Manage billing",
    "org:sys_billing:read": "Read billing",
}
MEMBER_PERMISSIONS = [READ_MEMBERS, "org:sys_billing:read"]


def furnish(instance: Instance) -> None:
    """Give a new instance the permissions and roles that come with it."""
    for key, name in SYSTEM_PERMISSIONS.items():
        _add_permission(instance, key, name, "system")
    put(instance, "org:admin", "Admin", list(SYSTEM_PERMISSIONS), is_creator_eligible=True)
    put(instance, "org:member", "Member", list(MEMBER_PERMISSIONS))


def put(instance: Instance, key: str, name: str, permissions: list[str], *, is_creator_eligible: bool = False) -> Role:
    """Add a role; permissions that are new are made."""
    if key in instance.roles:
        raise identifier_exists("key")
    if not key.startswith("org:"):
        raise bad_value("key", "must start with org:")
    for permission in permissions:
        if permission not in instance.permissions:
            _add_permission(instance, permission, permission.removeprefix("org:"), "custom")
    now = instance.now
    role = Role(
        id=instance.ids.new("role"),
        key=key,
        name=name,
        permissions=permissions,
        is_creator_eligible=is_creator_eligible,
        created_at=now,
        updated_at=now,
    )
    instance.roles[key] = role
    return role


def get(instance: Instance, key: str) -> Role:
    """Return the role with a key, or refuse."""
    role = instance.roles.get(key)
    if role is None:
        raise role_not_found(key)
    return role


def managing_roles(instance: Instance) -> set[str]:
    """Return the keys of the roles that may manage members."""
    return {key for key, role in instance.roles.items() if MANAGE_MEMBERS in role.permissions}


def _add_permission(instance: Instance, key: str, name: str, type_: str) -> None:
    now = instance.now
    instance.permissions[key] = Permission(
        id=instance.ids.new("perm"), key=key, name=name, type=type_, created_at=now, updated_at=now
    )
