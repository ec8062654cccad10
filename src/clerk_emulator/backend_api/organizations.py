"""Backend API: organizations."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import memberships, organizations, search
from clerk_emulator.state.models import Organization
from clerk_emulator.wire import organization_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted
from clerk_emulator.wire.user_json import deleted_object

TEXT = validation.nullable(validation.text)
COMMON = {
    "slug": TEXT,
    "max_allowed_memberships": validation.nullable(validation.integer(0)),
    "created_at": validation.nullable(validation.timestamp),
    "role_set_key": TEXT,
}
METADATA = {"public_metadata": validation.mapping, "private_metadata": validation.mapping}
NULLABLE_METADATA = {name: validation.nullable(check) for name, check in METADATA.items()}
MOVED_METADATA = {name: validation.deprecated("use the metadata endpoints instead") for name in METADATA}
CREATE = validation.BodySchema(
    COMMON | NULLABLE_METADATA | {"name": validation.text, "created_by": TEXT}, required=("name",), strict=False
)
CHANGES = COMMON | {"name": TEXT, "admin_delete_enabled": validation.nullable(validation.flag)}
UPDATE = validation.BodySchema(CHANGES | MOVED_METADATA)
UPDATE_WITH_METADATA = validation.BodySchema(CHANGES | NULLABLE_METADATA)
ONLY_METADATA = validation.BodySchema(METADATA)


def list_organizations(call: BackendCall) -> Any:
    """List organizations."""
    name, descending = call.query.order(("name", "created_at", "members_count"))
    rows = [row for row in call.instance.organizations.newest_first() if _matches_query(call, row)]
    if name == "members_count":
        found = iter_sorted(rows, lambda row: memberships.count(call.instance, row.id), descending=descending)
    elif name == "name":
        found = iter_sorted(rows, lambda row: row.name.lower(), descending=descending)
    else:
        found = iter(rows if descending else rows[::-1])
    return {"data": [_to_json(call, row) for row in call.query.page(found)], "total_count": len(rows)}


def create_organization(call: BackendCall) -> Any:
    """Create an organization."""
    return _plain_json(call, organizations.create(call.instance, CREATE.read(call.body)))


def get_organization(call: BackendCall) -> Any:
    """Return an organization by id or slug."""
    return _to_json(call, _get_organization(call))


def update_organization(call: BackendCall) -> Any:
    """Update an organization."""
    found = _get_organization(call)
    form = UPDATE_WITH_METADATA if call.accepts_metadata_on_patch else UPDATE
    return _plain_json(call, organizations.update(call.instance, found, form.read(call.body)))


def delete_organization(call: BackendCall) -> Any:
    """Delete an organization."""
    found = organizations.delete(call.instance, _get_organization(call))
    return deleted_object("organization", found.id, slug=found.slug)


def merge_metadata(call: BackendCall) -> Any:
    """Merge metadata."""
    found = _get_organization(call)
    return _plain_json(call, organizations.merge_metadata(call.instance, found, ONLY_METADATA.read(call.body)))


def replace_metadata(call: BackendCall) -> Any:
    """Replace metadata."""
    found = _get_organization(call)
    changes = ONLY_METADATA.read(call.body)
    return _plain_json(call, organizations.replace_metadata(call.instance, found, changes))


def _get_organization(call: BackendCall) -> Organization:
    return organizations.get(call.instance, call.params["organization_id"])


def _plain_json(call: BackendCall, found: Organization) -> Any:
    return organization_json.organization(call.instance, found, counts=False)


def _to_json(call: BackendCall, found: Organization) -> Any:
    counts = bool(call.query.flag("include_members_count"))
    missing = bool(call.query.flag("include_missing_member_with_elevated_permissions"))
    return organization_json.organization(call.instance, found, counts=counts, missing=missing)


def _matches_query(call: BackendCall, found: Organization) -> bool:
    text = (call.query.text("query") or "").lower()
    if text and text != found.id.lower() and text not in found.name.lower() and text not in found.slug:
        return False
    included, excluded = search.split_inclusions(call.query.texts("organization_id") or [])
    if (included and found.id not in included) or found.id in excluded:
        return False
    with_, without = search.split_inclusions(call.query.texts("user_id") or [])
    members = call.instance.membership_of
    if with_ and not any((found.id, user_id) in members for user_id in with_):
        return False
    return not any((found.id, user_id) in members for user_id in without)


HANDLERS: dict[str, BackendHandler] = {
    "ListOrganizations": list_organizations,
    "CreateOrganization": create_organization,
    "GetOrganization": get_organization,
    "UpdateOrganization": update_organization,
    "DeleteOrganization": delete_organization,
    "MergeOrganizationMetadata": merge_metadata,
    "ReplaceOrganizationMetadata": replace_metadata,
}
