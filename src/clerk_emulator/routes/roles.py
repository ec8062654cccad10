"""Roles and permissions: list, get, create, change, delete, and which role may do what."""

from collections.abc import Iterable
from typing import Any, TypeVar

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import roles
from clerk_emulator.state.model import Permission, Role
from clerk_emulator.wire import forms
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire.people import deleted
from clerk_emulator.wire.queries import ordered

ORDERS = ("created_at", "name", "key")
TEXT = forms.nullable(forms.text)
ROLE = {"name": TEXT, "key": TEXT, "description": TEXT, "permissions": forms.nullable(forms.texts)}
CREATE_ROLE = forms.Form(
    ROLE | {"include_in_initial_role_set": forms.nullable(forms.flag)}, required=("name", "key"), strict=False
)
UPDATE_ROLE = forms.Form(ROLE, strict=False)
PERMISSION = {"name": TEXT, "key": TEXT, "description": TEXT}
CREATE_PERMISSION = forms.Form(PERMISSION, required=("name", "key"), strict=False)
UPDATE_PERMISSION = forms.Form(PERMISSION, strict=False)

T = TypeVar("T", Role, Permission)


def list_roles(call: Call) -> Any:
    """Answer a page of roles."""
    return call.page(_find(call, call.instance.roles.values()), lambda row: shapes.role(call.instance, row))


def create_role(call: Call) -> Any:
    """Add a role."""
    return shapes.role(call.instance, roles.create(call.instance, CREATE_ROLE.read(call.body)))


def get_role(call: Call) -> Any:
    """Answer one role."""
    return shapes.role(call.instance, _role(call))


def update_role(call: Call) -> Any:
    """Change a role."""
    return shapes.role(call.instance, roles.update(call.instance, _role(call), UPDATE_ROLE.read(call.body)))


def delete_role(call: Call) -> Any:
    """Delete a role."""
    return deleted("role", roles.delete(call.instance, _role(call)).id)


def assign(call: Call) -> Any:
    """Let a role do one thing more."""
    return shapes.role(call.instance, roles.assign(call.instance, _role(call), _permission(call)))


def withdraw(call: Call) -> Any:
    """Let a role do one thing less."""
    return shapes.role(call.instance, roles.withdraw(call.instance, _role(call), _permission(call)))


def list_permissions(call: Call) -> Any:
    """Answer a page of permissions."""
    return call.page(_find(call, call.instance.permissions.values()), shapes.permission)


def create_permission(call: Call) -> Any:
    """Add a permission."""
    return shapes.permission(roles.create_permission(call.instance, CREATE_PERMISSION.read(call.body)))


def get_permission(call: Call) -> Any:
    """Answer one permission."""
    return shapes.permission(_permission(call))


def update_permission(call: Call) -> Any:
    """Change a permission."""
    changes = UPDATE_PERMISSION.read(call.body)
    return shapes.permission(roles.update_permission(call.instance, _permission(call), changes))


def delete_permission(call: Call) -> Any:
    """Delete a permission."""
    return deleted("permission", roles.delete_permission(call.instance, _permission(call)).id)


def _role(call: Call) -> Role:
    return roles.by_id(call.instance, call.params["organization_role_id"])


def _permission(call: Call) -> Permission:
    return roles.get_permission(call.instance, call.params["permission_id"])


def _find(call: Call, rows: Iterable[T]) -> list[T]:
    name, descending = call.query.order(ORDERS)
    text = (call.query.text("query") or "").lower()
    fitting = (row for row in rows if row.id.lower() == text or text in row.name.lower() or text in row.key)
    return list(ordered(fitting, lambda row: getattr(row, name), descending=descending))


HANDLERS: dict[str, Handler] = {
    "ListOrganizationRoles": list_roles,
    "CreateOrganizationRole": create_role,
    "GetOrganizationRole": get_role,
    "UpdateOrganizationRole": update_role,
    "DeleteOrganizationRole": delete_role,
    "AssignPermissionToOrganizationRole": assign,
    "RemovePermissionFromOrganizationRole": withdraw,
    "ListOrganizationPermissions": list_permissions,
    "CreateOrganizationPermission": create_permission,
    "GetOrganizationPermission": get_permission,
    "UpdateOrganizationPermission": update_permission,
    "DeleteOrganizationPermission": delete_permission,
}
