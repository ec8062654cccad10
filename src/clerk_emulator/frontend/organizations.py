"""Organizations as their members see and change them, and the roles that are given there."""

from typing import Any

from clerk_emulator.frontend import uploads
from clerk_emulator.frontend.standing import require, require_for_list
from clerk_emulator.frontend.visit import Route, Visit
from clerk_emulator.frontend.visit import require as require_field
from clerk_emulator.state import organizations, role_sets, roles
from clerk_emulator.state.refusals import Problem, Refused
from clerk_emulator.wire import front
from clerk_emulator.wire.people import deleted


def create(visit: Visit) -> Any:
    """Make an organization; who makes it belongs to it."""
    user = visit.user
    if not user.create_organization_enabled:
        words = "This user may not make organizations."
        raise Refused(403, Problem("user_create_organization_not_enabled", "not enabled", words))
    limit = user.create_organizations_limit
    if limit and sum(row.created_by == user.id for row in visit.instance.organizations) >= limit:
        words = f"This user may make {limit} organizations."
        raise Refused(403, Problem("org_creation_limit_exceeded", "too many organizations", words))
    draft = {"name": require_field(visit.fields, "name"), "slug": visit.fields.text("slug"), "created_by": user.id}
    return front.organization(visit.instance, organizations.create(visit.instance, draft))


def get(visit: Visit) -> Any:
    """Answer an organization."""
    return front.organization(visit.instance, require(visit))


def update(visit: Visit) -> Any:
    """Change name or slug."""
    organization = require(visit, roles.MANAGE_PROFILE)
    changes = {name: visit.fields.text(name) for name in ("name", "slug") if name in visit.fields}
    return front.organization(visit.instance, organizations.update(visit.instance, organization, changes))


def delete(visit: Visit) -> Any:
    """Delete an organization, where that is allowed to its members."""
    organization = require(visit, roles.DELETE_PROFILE)
    if not organization.admin_delete_enabled:
        words = "The members of this organization may not delete it."
        raise Refused(403, Problem("organization_admin_delete_not_enabled", "not enabled", words))
    organizations.delete(visit.instance, organization)
    return deleted("organization", organization.id, slug=organization.slug)


def set_logo(visit: Visit) -> Any:
    """Give an organization a logo."""
    organization = require(visit, roles.MANAGE_PROFILE)
    changed = organizations.set_image(visit.instance, organization, uploads.keep(visit, organization.id))
    return {**front.organization(visit.instance, changed), "logo_url": changed.image_url}


def delete_logo(visit: Visit) -> Any:
    """Take the logo away."""
    organization = require(visit, roles.MANAGE_PROFILE)
    uploads.drop(visit, organization.id, organization.image_url)
    organizations.set_image(visit.instance, organization, "")
    return deleted("image", organization.id)


def list_roles(visit: Visit) -> Any:
    """Answer a page of the roles that may be given in an organization."""
    organization = require_for_list(visit, roles.MANAGE_MEMBERS, roles.READ_MEMBERS)
    keys = role_sets.of_organization(visit.instance, organization.role_set).roles
    found = [visit.instance.roles[key] for key in keys if key in visit.instance.roles]
    page = [front.role(visit.instance, row) for row in visit.query.page(found)]
    return {"data": page, "total_count": len(found), "has_role_set_migration": False}


ROUTES = (
    Route("POST", "/organizations", "createOrganization", create),
    Route("GET", "/organizations/{organization_id}", "getOrganization", get),
    Route("PATCH", "/organizations/{organization_id}", "updateOrganization", update),
    Route("DELETE", "/organizations/{organization_id}", "deleteOrganization", delete),
    Route("PUT", "/organizations/{organization_id}/logo", "updateOrganizationLogo", set_logo),
    Route("DELETE", "/organizations/{organization_id}/logo", "deleteOrganizationLogo", delete_logo),
    Route("GET", "/organizations/{organization_id}/roles", "ListOrganizationRoles", list_roles),
)
