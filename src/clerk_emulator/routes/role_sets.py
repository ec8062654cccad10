"""Sets of roles: list, create, get, change, replace, and the roles in them."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import role_sets
from clerk_emulator.state.kinds import RoleSet
from clerk_emulator.wire import access, forms
from clerk_emulator.wire.people import deleted
from clerk_emulator.wire.queries import ordered

TEXT = forms.nullable(forms.text)
COMMON = {
    "name": TEXT,
    "key": TEXT,
    "description": TEXT,
    "default_role_key": TEXT,
    "creator_role_key": TEXT,
    "type": forms.nullable(forms.choice("initial", "custom")),
}
CREATE = forms.Form(
    COMMON | {"roles": forms.texts}, required=("name", "default_role_key", "creator_role_key", "roles"), strict=False
)
UPDATE = forms.Form(COMMON, strict=False)
ADD = forms.Form(
    {"role_keys": forms.texts, "default_role_key": TEXT, "creator_role_key": TEXT},
    required=("role_keys",),
    strict=False,
)
SWAP = forms.Form(
    {"role_key": forms.text, "to_role_key": forms.text}, required=("role_key", "to_role_key"), strict=False
)
REPLACE = forms.Form(
    {"dest_role_set_key": forms.text, "reassignment_mappings": forms.nullable(forms.mapping)},
    required=("dest_role_set_key",),
    strict=False,
)


def list_all(call: Call) -> Any:
    """Answer a page of sets of roles."""
    name, descending = call.query.order(("created_at", "name", "key"))
    text = (call.query.text("query") or "").lower()
    rows = [row for row in call.instance.role_sets if text in f"{row.id} {row.name} {row.key}".lower()]
    found = ordered(rows, lambda row: getattr(row, name), descending=descending)
    return call.page(found, lambda row: access.role_set(call.instance, row))


def create(call: Call) -> Any:
    """Make a set of roles."""
    return _shape(call, role_sets.create(call.instance, CREATE.read(call.body)))


def get(call: Call) -> Any:
    """Answer one set of roles."""
    return _shape(call, _role_set(call))


def update(call: Call) -> Any:
    """Change a set of roles."""
    return _shape(call, role_sets.update(call.instance, _role_set(call), UPDATE.read(call.body)))


def add_roles(call: Call) -> Any:
    """Add roles to a set."""
    return _shape(call, role_sets.add_roles(call.instance, _role_set(call), ADD.read(call.body)))


def replace_role(call: Call) -> Any:
    """Put one role in the place of another."""
    found, fields = _role_set(call), SWAP.read(call.body)
    return _shape(call, role_sets.replace_role(call.instance, found, fields["role_key"], fields["to_role_key"]))


def replace(call: Call) -> Any:
    """Put another set in the place of this one."""
    found, fields = _role_set(call), REPLACE.read(call.body)
    target = role_sets.get(call.instance, fields["dest_role_set_key"])
    mappings = {str(old): str(new) for old, new in (fields.get("reassignment_mappings") or {}).items()}
    return deleted("role_set", role_sets.replace(call.instance, found, target, mappings).id)


def _role_set(call: Call) -> RoleSet:
    return role_sets.get(call.instance, call.params["role_set_key_or_id"])


def _shape(call: Call, found: RoleSet) -> Any:
    return access.role_set(call.instance, found)


HANDLERS: dict[str, Handler] = {
    "ListRoleSets": list_all,
    "CreateRoleSet": create,
    "GetRoleSet": get,
    "UpdateRoleSet": update,
    "AddRolesToRoleSet": add_roles,
    "ReplaceRoleInRoleSet": replace_role,
    "ReplaceRoleSet": replace,
}
