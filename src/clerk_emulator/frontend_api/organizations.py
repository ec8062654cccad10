"""Frontend API: organizations as members see and change them, and assignable roles."""

from typing import Any

from clerk_emulator.frontend_api import image_uploads
from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.frontend_api.organization_access import authorize_organization, authorize_organization_list
from clerk_emulator.state import organizations, role_sets, roles
from clerk_emulator.state.errors import ApiError, ErrorDetail
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.user_json import deleted_object


def create(call: FrontendCall) -> Any:
    """Create an organization; its creator becomes a member."""
    user = call.user
    if not user.create_organization_enabled:
        message = "This user may not create organizations."
        raise ApiError(403, ErrorDetail("user_create_organization_not_enabled", "not enabled", message))
    limit = user.create_organizations_limit
    if limit and sum(row.created_by == user.id for row in call.instance.organizations) >= limit:
        message = f"This user may create at most {limit} organizations."
        raise ApiError(403, ErrorDetail("org_creation_limit_exceeded", "too many organizations", message))
    draft = {"name": require_field(call.fields, "name"), "slug": call.fields.text("slug"), "created_by": user.id}
    return frontend_json.organization(call.instance, organizations.create(call.instance, draft))


def get(call: FrontendCall) -> Any:
    """Return an organization."""
    return frontend_json.organization(call.instance, authorize_organization(call))


def update(call: FrontendCall) -> Any:
    """Change name or slug."""
    organization = authorize_organization(call, roles.MANAGE_PROFILE)
    changes = {name: call.fields.text(name) for name in ("name", "slug") if name in call.fields}
    return frontend_json.organization(call.instance, organizations.update(call.instance, organization, changes))


def delete(call: FrontendCall) -> Any:
    """Delete an organization, if its members may do that."""
    organization = authorize_organization(call, roles.DELETE_PROFILE)
    if not organization.admin_delete_enabled:
        message = "Members of this organization may not delete it."
        raise ApiError(403, ErrorDetail("organization_admin_delete_not_enabled", "not enabled", message))
    organizations.delete(call.instance, organization)
    return deleted_object("organization", organization.id, slug=organization.slug)


def set_logo(call: FrontendCall) -> Any:
    """Set the logo of an organization."""
    organization = authorize_organization(call, roles.MANAGE_PROFILE)
    changed = organizations.set_image(call.instance, organization, image_uploads.save_image(call, organization.id))
    return {**frontend_json.organization(call.instance, changed), "logo_url": changed.image_url}


def delete_logo(call: FrontendCall) -> Any:
    """Delete the logo of an organization."""
    organization = authorize_organization(call, roles.MANAGE_PROFILE)
    image_uploads.delete_image(call, organization.id, organization.image_url)
    organizations.set_image(call.instance, organization, "")
    return deleted_object("image", organization.id)


def list_roles(call: FrontendCall) -> Any:
    """List the roles that can be assigned in an organization."""
    organization = authorize_organization_list(call, roles.MANAGE_MEMBERS, roles.READ_MEMBERS)
    keys = role_sets.get_by_organization(call.instance, organization.role_set).roles
    found = [call.instance.roles[key] for key in keys if key in call.instance.roles]
    page = [frontend_json.role(call.instance, row) for row in call.query.page(found)]
    return {"data": page, "total_count": len(found), "has_role_set_migration": False}


ROUTES = (
    FrontendRoute("POST", "/organizations", "createOrganization", create),
    FrontendRoute("GET", "/organizations/{organization_id}", "getOrganization", get),
    FrontendRoute("PATCH", "/organizations/{organization_id}", "updateOrganization", update),
    FrontendRoute("DELETE", "/organizations/{organization_id}", "deleteOrganization", delete),
    FrontendRoute("PUT", "/organizations/{organization_id}/logo", "updateOrganizationLogo", set_logo),
    FrontendRoute("DELETE", "/organizations/{organization_id}/logo", "deleteOrganizationLogo", delete_logo),
    FrontendRoute("GET", "/organizations/{organization_id}/roles", "ListOrganizationRoles", list_roles),
)
