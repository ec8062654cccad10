"""Roles and permissions: list and get."""

from collections.abc import Iterable
from typing import Any, TypeVar

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state.model import Permission, Role
from clerk_emulator.state.refusals import missing_resource
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire.queries import ordered

ORDERS = ("created_at", "name", "key")

T = TypeVar("T", Role, Permission)


def list_roles(call: Call) -> Any:
    """Answer a page of roles."""
    found = _find(call, call.instance.roles.values())
    page = [shapes.role(call.instance, row) for row in call.query.page(found)]
    return {"data": page, "total_count": len(found)}


def get_role(call: Call) -> Any:
    """Answer one role."""
    wanted = call.params["organization_role_id"]
    for row in call.instance.roles.values():
        if row.id == wanted:
            return shapes.role(call.instance, row)
    raise missing_resource("organization role", wanted)


def list_permissions(call: Call) -> Any:
    """Answer a page of permissions."""
    found = _find(call, call.instance.permissions.values())
    page = [shapes.permission(row) for row in call.query.page(found)]
    return {"data": page, "total_count": len(found)}


def get_permission(call: Call) -> Any:
    """Answer one permission."""
    wanted = call.params["permission_id"]
    for row in call.instance.permissions.values():
        if row.id == wanted:
            return shapes.permission(row)
    raise missing_resource("organization permission", wanted)


def _find(call: Call, rows: Iterable[T]) -> list[T]:
    name, descending = call.query.order(ORDERS)
    text = (call.query.text("query") or "").lower()
    fitting = (row for row in rows if row.id.lower() == text or text in row.name.lower() or text in row.key)
    return list(ordered(fitting, lambda row: getattr(row, name), descending=descending))


HANDLERS: dict[str, Handler] = {
    "ListOrganizationRoles": list_roles,
    "GetOrganizationRole": get_role,
    "ListOrganizationPermissions": list_permissions,
    "GetOrganizationPermission": get_permission,
}
