"""Backend API: role sets."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import role_sets
from clerk_emulator.state.models import RoleSet
from clerk_emulator.wire import access_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted
from clerk_emulator.wire.user_json import deleted_object

TEXT = validation.nullable(validation.text)
COMMON = {
    "name": TEXT,
    "key": TEXT,
    "description": TEXT,
    "default_role_key": TEXT,
    "creator_role_key": TEXT,
    "type": validation.nullable(validation.choice("initial", "custom")),
}
CREATE = validation.BodySchema(
    COMMON | {"roles": validation.texts},
    required=("name", "default_role_key", "creator_role_key", "roles"),
    strict=False,
)
UPDATE = validation.BodySchema(COMMON, strict=False)
ADD = validation.BodySchema(
    {"role_keys": validation.texts, "default_role_key": TEXT, "creator_role_key": TEXT},
    required=("role_keys",),
    strict=False,
)
REPLACE_ROLE = validation.BodySchema(
    {"role_key": validation.text, "to_role_key": validation.text}, required=("role_key", "to_role_key"), strict=False
)
REPLACE = validation.BodySchema(
    {"dest_role_set_key": validation.text, "reassignment_mappings": validation.nullable(validation.mapping)},
    required=("dest_role_set_key",),
    strict=False,
)


def list_role_sets(call: BackendCall) -> Any:
    """List role sets."""
    name, descending = call.query.order(("created_at", "name", "key"))
    text = (call.query.text("query") or "").lower()
    rows = [row for row in call.instance.role_sets if text in f"{row.id} {row.name} {row.key}".lower()]
    found = iter_sorted(rows, lambda row: getattr(row, name), descending=descending)
    return call.page(found, lambda row: access_json.role_set(call.instance, row))


def create(call: BackendCall) -> Any:
    """Create a role set."""
    return _to_json(call, role_sets.create(call.instance, CREATE.read(call.body)))


def get(call: BackendCall) -> Any:
    """Return a role set."""
    return _to_json(call, _get_role_set(call))


def update(call: BackendCall) -> Any:
    """Update a role set."""
    return _to_json(call, role_sets.update(call.instance, _get_role_set(call), UPDATE.read(call.body)))


def add_roles(call: BackendCall) -> Any:
    """Add roles to a set."""
    return _to_json(call, role_sets.add_roles(call.instance, _get_role_set(call), ADD.read(call.body)))


def replace_role(call: BackendCall) -> Any:
    """Replace a role by another one."""
    found, fields = _get_role_set(call), REPLACE_ROLE.read(call.body)
    return _to_json(call, role_sets.replace_role(call.instance, found, fields["role_key"], fields["to_role_key"]))


def replace(call: BackendCall) -> Any:
    """Replace this role set by another one."""
    found, fields = _get_role_set(call), REPLACE.read(call.body)
    target = role_sets.get(call.instance, fields["dest_role_set_key"])
    mappings = {str(old): str(new) for old, new in (fields.get("reassignment_mappings") or {}).items()}
    return deleted_object("role_set", role_sets.replace(call.instance, found, target, mappings).id)


def _get_role_set(call: BackendCall) -> RoleSet:
    return role_sets.get(call.instance, call.params["role_set_key_or_id"])


def _to_json(call: BackendCall, found: RoleSet) -> Any:
    return access_json.role_set(call.instance, found)


HANDLERS: dict[str, BackendHandler] = {
    "ListRoleSets": list_role_sets,
    "CreateRoleSet": create,
    "GetRoleSet": get,
    "UpdateRoleSet": update,
    "AddRolesToRoleSet": add_roles,
    "ReplaceRoleInRoleSet": replace_role,
    "ReplaceRoleSet": replace,
}
