"""Frontend API: organizations as members see and change them, and assignable roles."""

from typing import Any

from clerk_emulator.frontend_api import image_uploads
from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.frontend_api.organization_access import authorize_organization, authorize_organization_list
from clerk_emulator.state import organizations, role_sets, roles
from clerk_emulator.state.errors import ApiError, ErrorDetail
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.user_json import deleted_object


def create(visit: FrontendCall) -> Any:
    """Make an organization; who makes it belongs to it."""
    user = visit.user
    if not user.create_organization_enabled:
        words = "This user may not make organizations."
        raise ApiError(403, ErrorDetail("user_create_organization_not_enabled", "not enabled", words))
    limit = user.create_organizations_limit
    if limit and sum(row.created_by == user.id for row in visit.instance.organizations) >= limit:
        words = f"This user may make {limit} organizations."
        raise ApiError(403, ErrorDetail("org_creation_limit_exceeded", "too many organizations", words))
    draft = {"name": require_field(visit.fields, "name"), "slug": visit.fields.text("slug"), "created_by": user.id}
    return frontend_json.organization(visit.instance, organizations.create(visit.instance, draft))


def get(visit: FrontendCall) -> Any:
    """Answer an organization."""
    return frontend_json.organization(visit.instance, authorize_organization(visit))


def update(visit: FrontendCall) -> Any:
    """Change name or slug."""
    organization = authorize_organization(visit, roles.MANAGE_PROFILE)
    changes = {name: visit.fields.text(name) for name in ("name", "slug") if name in visit.fields}
    return frontend_json.organization(visit.instance, organizations.update(visit.instance, organization, changes))


def delete(visit: FrontendCall) -> Any:
    """Delete an organization, where that is allowed to its members."""
    organization = authorize_organization(visit, roles.DELETE_PROFILE)
    if not organization.admin_delete_enabled:
        words = "The members of this organization may not delete it."
        raise ApiError(403, ErrorDetail("organization_admin_delete_not_enabled", "not enabled", words))
    organizations.delete(visit.instance, organization)
    return deleted_object("organization", organization.id, slug=organization.slug)


def set_logo(visit: FrontendCall) -> Any:
    """Give an organization a logo."""
    organization = authorize_organization(visit, roles.MANAGE_PROFILE)
    changed = organizations.set_image(visit.instance, organization, image_uploads.save_image(visit, organization.id))
    return {**frontend_json.organization(visit.instance, changed), "logo_url": changed.image_url}


def delete_logo(visit: FrontendCall) -> Any:
    """Take the logo away."""
    organization = authorize_organization(visit, roles.MANAGE_PROFILE)
    image_uploads.delete_image(visit, organization.id, organization.image_url)
    organizations.set_image(visit.instance, organization, "")
    return deleted_object("image", organization.id)


def list_roles(visit: FrontendCall) -> Any:
    """Answer a page of the roles that may be given in an organization."""
    organization = authorize_organization_list(visit, roles.MANAGE_MEMBERS, roles.READ_MEMBERS)
    keys = role_sets.get_by_organization(visit.instance, organization.role_set).roles
    found = [visit.instance.roles[key] for key in keys if key in visit.instance.roles]
    page = [frontend_json.role(visit.instance, row) for row in visit.query.page(found)]
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
