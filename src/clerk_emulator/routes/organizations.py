"""Organizations: list, create, get, change, delete."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import memberships, organizations, search
from clerk_emulator.state.model import Organization
from clerk_emulator.wire import forms
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire.people import deleted
from clerk_emulator.wire.queries import ordered

TEXT = forms.nullable(forms.text)
COMMON = {
    "slug": TEXT,
    "max_allowed_memberships": forms.nullable(forms.integer(0)),
    "created_at": forms.nullable(forms.moment),
    "role_set_key": TEXT,
}
METADATA = {"public_metadata": forms.mapping, "private_metadata": forms.mapping}
NULLABLE_METADATA = {name: forms.nullable(check) for name, check in METADATA.items()}
MOVED_METADATA = {name: forms.deprecated("use the metadata endpoints instead") for name in METADATA}
CREATE = forms.Form(
    COMMON | NULLABLE_METADATA | {"name": forms.text, "created_by": TEXT}, required=("name",), strict=False
)
CHANGES = COMMON | {"name": TEXT, "admin_delete_enabled": forms.nullable(forms.flag)}
UPDATE = forms.Form(CHANGES | MOVED_METADATA)
UPDATE_BEFORE = forms.Form(CHANGES | NULLABLE_METADATA)
ONLY_METADATA = forms.Form(METADATA)


def list_organizations(call: Call) -> Any:
    """Answer a page of organizations."""
    name, descending = call.query.order(("name", "created_at", "members_count"))
    rows = [row for row in call.instance.organizations.newest_first() if _fits(call, row)]
    if name == "members_count":
        found = ordered(rows, lambda row: memberships.count(call.instance, row.id), descending=descending)
    elif name == "name":
        found = ordered(rows, lambda row: row.name.lower(), descending=descending)
    else:
        found = iter(rows if descending else rows[::-1])
    return {"data": [_shape(call, row) for row in call.query.page(found)], "total_count": len(rows)}


def create_organization(call: Call) -> Any:
    """Make an organization."""
    return _plain(call, organizations.create(call.instance, CREATE.read(call.body)))


def get_organization(call: Call) -> Any:
    """Answer one organization, by id or slug."""
    return _shape(call, _organization(call))


def update_organization(call: Call) -> Any:
    """Change an organization."""
    found = _organization(call)
    form = UPDATE_BEFORE if call.takes_metadata_on_patch else UPDATE
    return _plain(call, organizations.update(call.instance, found, form.read(call.body)))


def delete_organization(call: Call) -> Any:
    """Delete an organization."""
    found = organizations.delete(call.instance, _organization(call))
    return deleted("organization", found.id, slug=found.slug)


def merge_metadata(call: Call) -> Any:
    """Merge metadata."""
    found = _organization(call)
    return _plain(call, organizations.merge_metadata(call.instance, found, ONLY_METADATA.read(call.body)))


def replace_metadata(call: Call) -> Any:
    """Replace metadata."""
    found = _organization(call)
    changes = ONLY_METADATA.read(call.body)
    return _plain(call, organizations.replace_metadata(call.instance, found, changes))


def _organization(call: Call) -> Organization:
    return organizations.get(call.instance, call.params["organization_id"])


def _plain(call: Call, found: Organization) -> Any:
    return shapes.organization(call.instance, found, counts=False)


def _shape(call: Call, found: Organization) -> Any:
    counts = bool(call.query.flag("include_members_count"))
    missing = bool(call.query.flag("include_missing_member_with_elevated_permissions"))
    return shapes.organization(call.instance, found, counts=counts, missing=missing)


def _fits(call: Call, found: Organization) -> bool:
    text = (call.query.text("query") or "").lower()
    if text and text != found.id.lower() and text not in found.name.lower() and text not in found.slug:
        return False
    wanted, unwanted = search.split_signs(call.query.texts("organization_id") or [])
    if (wanted and found.id not in wanted) or found.id in unwanted:
        return False
    with_, without = search.split_signs(call.query.texts("user_id") or [])
    members = call.instance.membership_of
    if with_ and not any((found.id, user_id) in members for user_id in with_):
        return False
    return not any((found.id, user_id) in members for user_id in without)


HANDLERS: dict[str, Handler] = {
    "ListOrganizations": list_organizations,
    "CreateOrganization": create_organization,
    "GetOrganization": get_organization,
    "UpdateOrganization": update_organization,
    "DeleteOrganization": delete_organization,
    "MergeOrganizationMetadata": merge_metadata,
    "ReplaceOrganizationMetadata": replace_metadata,
}
