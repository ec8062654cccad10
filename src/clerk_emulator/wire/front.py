"""Users, organizations and memberships as browsers see them: without anything private."""

from typing import Any

from clerk_emulator.state import memberships
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import OrganizationDomain, OrganizationSuggestion
from clerk_emulator.state.model import (
    EmailAddress,
    Membership,
    Organization,
    OrganizationInvitation,
    PhoneNumber,
    Role,
    User,
    Verification,
)
from clerk_emulator.state.proofs import CODE_LIFETIME
from clerk_emulator.wire import access, organizations, people
from clerk_emulator.wire.initials import organization_picture

Json = dict[str, Any]
NOT_OF_USERS = ("private_metadata", "locale", "bypass_client_trust")
NOT_OF_INVITATIONS = ("private_metadata", "inviter_id", "public_inviter_data")
NOT_OF_ORGANIZATIONS = ("private_metadata", "role_set_key", "created_by")


def user(instance: Instance, found: User) -> Json:
    """Return a user, with all memberships."""
    shape = {name: value for name, value in people.user(instance, found).items() if name not in NOT_OF_USERS}
    if shape["create_organizations_limit"] is None:
        del shape["create_organizations_limit"]
    shape["email_addresses"] = [email_address(row) for row in found.email_addresses]
    shape["phone_numbers"] = [phone_number(row) for row in found.phone_numbers]
    shape["organization_memberships"] = [membership(instance, row) for row in memberships.of_user(instance, found.id)]
    return shape


def email_address(found: EmailAddress, proof: Verification | None = None) -> Json:
    """Return an e-mail address, with the proof that was begun where there is one."""
    return _with_expiry(people.email_address(found), found, proof)


def phone_number(found: PhoneNumber, proof: Verification | None = None) -> Json:
    """Return a phone number, with the proof that was begun where there is one."""
    return _with_expiry(people.phone_number(found), found, proof)


def organization(instance: Instance, found: Organization) -> Json:
    """Return an organization."""
    shape = organizations.organization(instance, found)
    return {name: value for name, value in shape.items() if name not in NOT_OF_ORGANIZATIONS}


def membership(instance: Instance, found: Membership) -> Json:
    """Return a membership with its organization and what is public of its user."""
    shape = organizations.membership(instance, found)
    owner = instance.organizations.find(found.organization_id)
    assert owner is not None, "a membership has an organization"  # noqa: S101
    del shape["private_metadata"]
    return {**shape, "organization": organization(instance, owner)}


def invitation(instance: Instance, found: OrganizationInvitation) -> Json:
    """Return an invitation to an organization. Its link is only in the letter."""
    shape = organizations.organization_invitation(instance, found, "")
    return {name: value for name, value in shape.items() if name not in NOT_OF_INVITATIONS} | {"url": None}


def invitation_to_me(instance: Instance, found: OrganizationInvitation) -> Json:
    """Return an invitation as the invitee sees it."""
    owner = instance.organizations.find(found.organization_id)
    assert owner is not None, "an invitation has an organization"  # noqa: S101
    return {**invitation(instance, found), "public_organization_data": public_organization(instance, owner)}


def suggestion(instance: Instance, found: OrganizationSuggestion) -> Json:
    """Return an organization that is suggested to a user."""
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


def request(instance: Instance, found: OrganizationSuggestion) -> Json:
    """Return a request to join an organization."""
    person = instance.users.find(found.user_id)
    return {
        "object": "organization_membership_request",
        "id": found.request_id,
        "organization_id": found.organization_id,
        "status": {"accepted": "pending", "completed": "accepted"}.get(found.status, found.status),
        "public_user_data": people.public_user(instance, person) if person else None,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def public_organization(instance: Instance, found: Organization) -> Json:
    """Return what those see of an organization who don't belong to it."""
    return {
        "id": found.id,
        "name": found.name,
        "slug": found.slug,
        "image_url": organization_picture(instance, found),
        "has_image": bool(found.image_url),
    }


def role(instance: Instance, found: Role) -> Json:
    """Return a role; texts that are missing are empty."""
    shape = organizations.role(instance, found)
    permissions = [_with_words(permission) for permission in shape["permissions"]]
    return {**_with_words(shape), "permissions": permissions}


def domain(instance: Instance, found: OrganizationDomain, begun: Verification | None = None) -> Json:
    """Return a domain of an organization, with the proof that was begun where there is one."""
    shape = access.organization_domain(instance, found)
    if shape["verification"] is not None or begun is None:
        return shape
    proof = {
        "status": begun.status,
        "strategy": begun.strategy,
        "attempts": begun.attempts,
        "expire_at": begun.expire_at,
        "verified_at": None,
    }
    return {**shape, "verification": proof, "affiliation_verification": proof}


def _with_words(shape: Json) -> Json:
    return {**shape, "description": shape["description"] or ""}


def _with_expiry(shape: Json, found: EmailAddress | PhoneNumber, begun: Verification | None) -> Json:
    proof = shape["verification"]
    if proof is not None and proof["object"] == "verification_otp":
        proof["expire_at"] = found.updated_at + CODE_LIFETIME
    if proof is None and begun is not None:
        shape["verification"] = {
            "object": "verification_otp",
            "status": begun.status,
            "strategy": begun.strategy,
            "attempts": begun.attempts,
            "expire_at": begun.expire_at,
        }
    return shape
