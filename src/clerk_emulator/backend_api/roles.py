"""Backend API: organization roles and permissions."""

from collections.abc import Iterable
from typing import Any, TypeVar

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import roles
from clerk_emulator.state.models import Permission, Role
from clerk_emulator.wire import organization_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted
from clerk_emulator.wire.user_json import deleted_object

ORDERS = ("created_at", "name", "key")
TEXT = validation.nullable(validation.text)
ROLE_FIELDS = {"name": TEXT, "key": TEXT, "description": TEXT, "permissions": validation.nullable(validation.texts)}
CREATE_ROLE = validation.BodySchema(
    ROLE_FIELDS | {"include_in_initial_role_set": validation.nullable(validation.flag)},
    required=("name", "key"),
    strict=False,
)
UPDATE_ROLE = validation.BodySchema(ROLE_FIELDS, strict=False)
PERMISSION_FIELDS = {"name": TEXT, "key": TEXT, "description": TEXT}
CREATE_PERMISSION = validation.BodySchema(PERMISSION_FIELDS, required=("name", "key"), strict=False)
UPDATE_PERMISSION = validation.BodySchema(PERMISSION_FIELDS, strict=False)
T = TypeVar("T", Role, Permission)


def list_roles(call: BackendCall) -> Any:
    """List roles."""
    return call.page(
        _list_filtered(call, call.instance.roles.values()), lambda row: organization_json.role(call.instance, row)
    )


def create_role(call: BackendCall) -> Any:
    """Create a role."""
    return organization_json.role(call.instance, roles.create(call.instance, CREATE_ROLE.read(call.body)))


def get_role(call: BackendCall) -> Any:
    """Return a role."""
    return organization_json.role(call.instance, _get_role(call))


def update_role(call: BackendCall) -> Any:
    """Update a role."""
    return organization_json.role(
        call.instance, roles.update(call.instance, _get_role(call), UPDATE_ROLE.read(call.body))
    )


def delete_role(call: BackendCall) -> Any:
    """Delete a role."""
    return deleted_object("role", roles.delete(call.instance, _get_role(call)).id)


def assign_permission(call: BackendCall) -> Any:
    """Add a permission to a role."""
    return organization_json.role(
        call.instance, roles.assign_permission(call.instance, _get_role(call), _get_permission(call))
    )


def remove_permission(call: BackendCall) -> Any:
    """Remove a permission from a role."""
    return organization_json.role(
        call.instance, roles.remove_permission(call.instance, _get_role(call), _get_permission(call))
    )


def list_permissions(call: BackendCall) -> Any:
    """List permissions."""
    return call.page(_list_filtered(call, call.instance.permissions.values()), organization_json.permission)


def create_permission(call: BackendCall) -> Any:
    """Create a permission."""
    return organization_json.permission(roles.create_permission(call.instance, CREATE_PERMISSION.read(call.body)))


def get_permission(call: BackendCall) -> Any:
    """Return a permission."""
    return organization_json.permission(_get_permission(call))


def update_permission(call: BackendCall) -> Any:
    """Update a permission."""
    changes = UPDATE_PERMISSION.read(call.body)
    return organization_json.permission(roles.update_permission(call.instance, _get_permission(call), changes))


def delete_permission(call: BackendCall) -> Any:
    """Delete a permission."""
    return deleted_object("permission", roles.delete_permission(call.instance, _get_permission(call)).id)


def _get_role(call: BackendCall) -> Role:
    return roles.get_by_id(call.instance, call.params["organization_role_id"])


def _get_permission(call: BackendCall) -> Permission:
    return roles.get_permission(call.instance, call.params["permission_id"])


def _list_filtered(call: BackendCall, rows: Iterable[T]) -> list[T]:
    name, descending = call.query.order(ORDERS)
    text = (call.query.text("query") or "").lower()
    matching = (row for row in rows if row.id.lower() == text or text in row.name.lower() or text in row.key)
    return list(iter_sorted(matching, lambda row: getattr(row, name), descending=descending))


HANDLERS: dict[str, BackendHandler] = {
    "ListOrganizationRoles": list_roles,
    "CreateOrganizationRole": create_role,
    "GetOrganizationRole": get_role,
    "UpdateOrganizationRole": update_role,
    "DeleteOrganizationRole": delete_role,
    "AssignPermissionToOrganizationRole": assign_permission,
    "RemovePermissionFromOrganizationRole": remove_permission,
    "ListOrganizationPermissions": list_permissions,
    "CreateOrganizationPermission": create_permission,
    "GetOrganizationPermission": get_permission,
    "UpdateOrganizationPermission": update_permission,
    "DeleteOrganizationPermission": delete_permission,
}
