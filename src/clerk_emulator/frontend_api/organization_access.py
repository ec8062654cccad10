"""Authorize the signed-in user for the organization in the path."""

from clerk_emulator.frontend_api.call import FrontendCall
from clerk_emulator.state import memberships, organizations
from clerk_emulator.state.errors import ApiError, not_a_member_error, organization_not_visible_error
from clerk_emulator.state.models import Membership, Organization


def require_membership(call: FrontendCall, organization_id: str) -> tuple[Organization, Membership]:
    """Return an organization and the user's membership. Non-members get the error of a missing organization."""
    user = call.user
    organization = organizations.find(call.instance, organization_id)
    membership = memberships.find(call.instance, organization.id, user.id) if organization else None
    if organization is None or membership is None:
        raise organization_not_visible_error()
    return organization, membership


def authorize_organization(call: FrontendCall, *permissions: str) -> Organization:
    """Return the organization of the path, or raise an ApiError if the user has none of these permissions."""
    organization, membership = require_membership(call, call.params["organization_id"])
    if permissions:
        memberships.require_permission(call.instance, membership, *permissions)
    return organization


def authorize_organization_list(call: FrontendCall, *permissions: str) -> Organization:
    """Authorize with 403 instead of 404, which most lists of an organization don't have in the specification."""
    try:
        return authorize_organization(call, *permissions)
    except ApiError as error:
        raise not_a_member_error() if error.status == 404 else error from None
