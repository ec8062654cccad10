"""JSON of users, organizations and memberships as the Frontend API returns them, without private fields."""

from typing import Any

from clerk_emulator.state import memberships
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import (
    EmailAddress,
    Membership,
    Organization,
    OrganizationDomain,
    OrganizationInvitation,
    OrganizationSuggestion,
    PhoneNumber,
    Role,
    User,
    Verification,
)
from clerk_emulator.state.verifications import CODE_LIFETIME
from clerk_emulator.wire import access_json, organization_json, user_json
from clerk_emulator.wire.avatars import organization_image_url

JsonObject = dict[str, Any]
HIDDEN_USER_FIELDS = ("private_metadata", "locale", "bypass_client_trust")
HIDDEN_INVITATION_FIELDS = ("private_metadata", "inviter_id", "public_inviter_data")
HIDDEN_ORGANIZATION_FIELDS = ("private_metadata", "role_set_key", "created_by")


def user(instance: Instance, found: User) -> JsonObject:
    """Return a user with all memberships."""
    result = {name: value for name, value in user_json.user(instance, found).items() if name not in HIDDEN_USER_FIELDS}
    if result["create_organizations_limit"] is None:
        del result["create_organizations_limit"]
    result["email_addresses"] = [email_address(row) for row in found.email_addresses]
    result["phone_numbers"] = [phone_number(row) for row in found.phone_numbers]
    result["organization_memberships"] = [
        membership(instance, row) for row in memberships.list_by_user(instance, found.id)
    ]
    return result


def email_address(found: EmailAddress, verification: Verification | None = None) -> JsonObject:
    """Return an email address, with the pending verification if there is one."""
    return _add_expiry(user_json.email_address(found), found, verification)


def phone_number(found: PhoneNumber, verification: Verification | None = None) -> JsonObject:
    """Return a phone number, with the pending verification if there is one."""
    return _add_expiry(user_json.phone_number(found), found, verification)


def organization(instance: Instance, found: Organization) -> JsonObject:
    """Return an organization."""
    result = organization_json.organization(instance, found)
    return {name: value for name, value in result.items() if name not in HIDDEN_ORGANIZATION_FIELDS}


def membership(instance: Instance, found: Membership) -> JsonObject:
    """Return a membership with its organization and the public data of its user."""
    result = organization_json.membership(instance, found)
    owner = instance.organizations.find(found.organization_id)
    assert owner is not None, "a membership has an organization"  # noqa: S101
    del result["private_metadata"]
    return {**result, "organization": organization(instance, owner)}


def invitation(instance: Instance, found: OrganizationInvitation) -> JsonObject:
    """Return an organization invitation. Only the mail contains its link."""
    result = organization_json.organization_invitation(instance, found, "")
    return {name: value for name, value in result.items() if name not in HIDDEN_INVITATION_FIELDS} | {"url": None}


def received_invitation(instance: Instance, found: OrganizationInvitation) -> JsonObject:
    """Return an organization invitation as its invitee sees it."""
    owner = instance.organizations.find(found.organization_id)
    assert owner is not None, "an invitation has an organization"  # noqa: S101
    return {**invitation(instance, found), "public_organization_data": public_organization(instance, owner)}


def suggestion(instance: Instance, found: OrganizationSuggestion) -> JsonObject:
    """Return a suggested organization."""
    owner = instance.organizations.find(found.organization_id)
    assert owner is not None, "a suggestion has an organization"  # noqa: S101
    return {
        "object": "organization_suggestion",
        "id": found.id,
        "public_organization_data": public_organization(instance, owner),
        "status": found.status,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def membership_request(instance: Instance, found: OrganizationSuggestion) -> JsonObject:
    """Return a request to join an organization."""
    person = instance.users.find(found.user_id)
    return {
        "object": "organization_membership_request",
        "id": found.request_id,
        "organization_id": found.organization_id,
        "status": {"accepted": "pending", "completed": "accepted"}.get(found.status, found.status),
        "public_user_data": user_json.public_user(instance, person) if person else None,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def public_organization(instance: Instance, found: Organization) -> JsonObject:
    """Return the data of an organization that non-members may see."""
    return {
        "id": found.id,
        "name": found.name,
        "slug": found.slug,
        "image_url": organization_image_url(instance, found),
        "has_image": bool(found.image_url),
    }


def role(instance: Instance, found: Role) -> JsonObject:
    """Return a role; missing texts are empty."""
    result = organization_json.role(instance, found)
    permissions = [_fill_missing_texts(permission) for permission in result["permissions"]]
    return {**_fill_missing_texts(result), "permissions": permissions}


def domain(instance: Instance, found: OrganizationDomain, pending: Verification | None = None) -> JsonObject:
    """Return an organization domain, with the pending verification if there is one."""
    result = access_json.organization_domain(instance, found)
    if result["verification"] is not None or pending is None:
        return result
    verification = {
        "status": pending.status,
        "strategy": pending.strategy,
        "attempts": pending.attempts,
        "expire_at": pending.expire_at,
        "verified_at": None,
    }
    return {**result, "verification": verification, "affiliation_verification": verification}


def _fill_missing_texts(result: JsonObject) -> JsonObject:
    return {**result, "description": result["description"] or ""}


def _add_expiry(result: JsonObject, found: EmailAddress | PhoneNumber, pending: Verification | None) -> JsonObject:
    verification = result["verification"]
    if verification is not None and verification["object"] == "verification_otp":
        verification["expire_at"] = found.updated_at + CODE_LIFETIME
    if verification is None and pending is not None:
        result["verification"] = {
            "object": "verification_otp",
            "status": pending.status,
            "strategy": pending.strategy,
            "attempts": pending.attempts,
            "expire_at": pending.expire_at,
        }
    return result
