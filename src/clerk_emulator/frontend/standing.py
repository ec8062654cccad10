"""What the one who asks is in the organization of the path, and may do there."""

from clerk_emulator.frontend.visit import Visit
from clerk_emulator.state import memberships, organizations
from clerk_emulator.state.model import Membership, Organization
from clerk_emulator.state.refusals import Refused, not_a_member, organization_hidden


def membership_in(visit: Visit, organization_id: str) -> tuple[Organization, Membership]:
    """Return an organization and the user's membership there. Who has none is told as little as of one that isn't."""
    user = visit.user
    organization = organizations.find(visit.instance, organization_id)
    membership = memberships.find(visit.instance, organization.id, user.id) if organization else None
    if organization is None or membership is None:
        raise organization_hidden()
    return organization, membership


def require(visit: Visit, *permissions: str) -> Organization:
    """Return the organization of the path, or refuse one who has none of these permissions there."""
    organization, membership = membership_in(visit, visit.params["organization_id"])
    if permissions:
        memberships.require_permission(visit.instance, membership, *permissions)
    return organization


def require_for_list(visit: Visit, *permissions: str) -> Organization:
    """Do the same with 403 in place of 404, which most lists of an organization don't have in the specification."""
    try:
        return require(visit, *permissions)
    except Refused as refused:
        raise not_a_member() if refused.status == 404 else refused from None
