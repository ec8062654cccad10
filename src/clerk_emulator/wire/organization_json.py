"""JSON of organizations, memberships, roles and invitations."""

from typing import Any

from clerk_emulator.state import memberships
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Invitation, Membership, Organization, OrganizationInvitation, Permission, Role
from clerk_emulator.wire.avatars import organization_image_url
from clerk_emulator.wire.user_json import inviter, public_user

JsonObject = dict[str, Any]
ACCEPT_PATH = "/v1/tickets/accept"


def organization(instance: Instance, found: Organization, *, counts: bool = True, missing: bool = False) -> JsonObject:
    """Return an organization; the number of members only on request, as in Clerk."""
    result: JsonObject = {
        "object": "organization",
        "id": found.id,
        "name": found.name,
        "slug": found.slug,
        "image_url": organization_image_url(instance, found),
        "has_image": bool(found.image_url),
        "max_allowed_memberships": found.max_allowed_memberships,
        "admin_delete_enabled": found.admin_delete_enabled,
        "public_metadata": found.public_metadata,
        "private_metadata": found.private_metadata,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
    if found.role_set:
        result["role_set_key"] = found.role_set
    if found.created_by:
        result["created_by"] = found.created_by
    if counts:
        result["members_count"] = memberships.count(instance, found.id)
        result["pending_invitations_count"] = memberships.count_pending_invitations(instance, found.id)
    if missing:
        result["missing_member_with_elevated_permissions"] = not memberships.has_manager(instance, found.id)
    return result


def membership(instance: Instance, found: Membership) -> JsonObject:
    """Return a membership with its organization and the public data of its user."""
    owner = instance.organizations.find(found.organization_id)
    person = instance.users.find(found.user_id)
    assert owner is not None, "a membership has an organization"  # noqa: S101
    assert person is not None, "a membership has a user"  # noqa: S101
    role_ = instance.roles.get(found.role)
    return {
        "id": found.id,
        "object": "organization_membership",
        "role": found.role,
        "role_name": role_.name if role_ else found.role,
        "permissions": list(role_.permissions) if role_ else [],
        "public_metadata": found.public_metadata,
        "private_metadata": found.private_metadata,
        "organization": organization(instance, owner),
        "public_user_data": public_user(instance, person),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def organization_invitation(instance: Instance, found: OrganizationInvitation, site: str) -> JsonObject:
    """Return an organization invitation; `url` is where it is accepted."""
    role_ = instance.roles.get(found.role)
    return {
        "object": "organization_invitation",
        "id": found.id,
        "email_address": found.email_address,
        "role": found.role,
        "role_name": role_.name if role_ else found.role,
        "organization_id": found.organization_id,
        "inviter_id": found.inviter_id,
        "public_inviter_data": inviter(instance, instance.users.find(found.inviter_id)),
        "status": found.status(instance.now),
        "public_metadata": found.public_metadata,
        "private_metadata": found.private_metadata,
        "url": accept_url(site, found.ticket),
        "expires_at": found.expires_at,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def with_public_organization(instance: Instance, found: OrganizationInvitation, site: str) -> JsonObject:
    """Return an invitation with the data of the organization that an invitee sees."""
    owner = instance.organizations.find(found.organization_id)
    result = organization_invitation(instance, found, site)
    if owner is not None:
        result["public_organization_data"] = {
            "id": owner.id,
            "name": owner.name,
            "slug": owner.slug,
            "image_url": organization_image_url(instance, owner),
            "has_image": bool(owner.image_url),
        }
    return result


def invitation(instance: Instance, found: Invitation, site: str) -> JsonObject:
    """Return an invitation to the application."""
    status = found.status(instance.now)
    return {
        "object": "invitation",
        "id": found.id,
        "email_address": found.email_address,
        "public_metadata": found.public_metadata,
        "revoked": status == "revoked",
        "status": status,
        "url": accept_url(site, found.ticket),
        "expires_at": found.expires_at,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def role(instance: Instance, found: Role) -> JsonObject:
    """Return a role with its permissions."""
    return {
        "object": "role",
        "id": found.id,
        "name": found.name,
        "key": found.key,
        "description": found.description,
        "is_creator_eligible": found.is_creator_eligible,
        "permissions": [permission(instance.permissions[key]) for key in found.permissions],
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def permission(found: Permission) -> JsonObject:
    """Return a permission."""
    return {
        "object": "permission",
        "id": found.id,
        "name": found.name,
        "key": found.key,
        "description": found.description,
        "type": found.type,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def accept_url(site: str, ticket: str) -> str:
    """Return the URL of the page that accepts an invitation."""
    return f"{site}{ACCEPT_PATH}?ticket={ticket}"
