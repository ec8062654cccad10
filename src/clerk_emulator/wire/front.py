"""Users, organizations and memberships as browsers see them: without anything private."""

from typing import Any

from clerk_emulator.state import memberships
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import EmailAddress, Membership, Organization, PhoneNumber, User
from clerk_emulator.state.proofs import CODE_LIFETIME
from clerk_emulator.wire import organizations, people

Json = dict[str, Any]
NOT_OF_USERS = ("private_metadata", "locale", "enterprise_accounts", "bypass_client_trust")
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


def email_address(found: EmailAddress) -> Json:
    """Return an e-mail address."""
    return _with_expiry(people.email_address(found), found)


def phone_number(found: PhoneNumber) -> Json:
    """Return a phone number."""
    return _with_expiry(people.phone_number(found), found)


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


def _with_expiry(shape: Json, found: EmailAddress | PhoneNumber) -> Json:
    proof = shape["verification"]
    if proof is not None and proof["object"] == "verification_otp":
        proof["expire_at"] = found.updated_at + CODE_LIFETIME
    return shape
