"""Frontend API: the signed-in user's memberships, invitations and suggestions."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute
from clerk_emulator.frontend_api.organization_access import require_membership
from clerk_emulator.state import domain_enrollment, memberships, organization_invitations
from clerk_emulator.state.errors import ApiError, ErrorDetail
from clerk_emulator.state.models import OrganizationInvitation
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.user_json import deleted_object

STATUSES = ("pending", "accepted", "revoked", "expired", "completed")


def list_memberships(visit: FrontendCall) -> Any:
    """Answer a page of the user's memberships, newest first."""
    found = memberships.list_by_user(visit.instance, visit.user.id)
    data = [frontend_json.membership(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)} if visit.query.flag("paginated") else data


def leave_organization(visit: FrontendCall) -> Any:
    """Leave an organization; the last administrator stays."""
    _, membership = require_membership(visit, visit.params["organization_id"])
    memberships.delete(visit.instance, membership)
    return deleted_object("organization_membership", membership.id)


def list_invitations(visit: FrontendCall) -> Any:
    """Answer a page of the invitations to the user's own addresses, newest first."""
    statuses, now = visit.query.choices("status", STATUSES), visit.instance.now
    rows = visit.instance.organization_invitations.newest_first()
    mine = _verified_addresses(visit)
    found = [row for row in rows if row.email_address in mine and (not statuses or row.status(now) in statuses)]
    data = [frontend_json.received_invitation(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


def accept_invitation(visit: FrontendCall) -> Any:
    """Join by an invitation."""
    found = _get_invitation(visit)
    organization_invitations.accept(visit.instance, found, {})
    return frontend_json.received_invitation(visit.instance, found)


def list_suggestions(visit: FrontendCall) -> Any:
    """Answer a page of the organizations that are suggested because of a domain, newest first."""
    statuses = visit.query.choices("status", STATUSES)
    rows = domain_enrollment.list_suggestions(visit.instance, visit.user)
    found = [row for row in rows if not statuses or row.status in statuses]
    data = [frontend_json.suggestion(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


def accept_suggestion(visit: FrontendCall) -> Any:
    """Ask to join."""
    return frontend_json.suggestion(
        visit.instance, domain_enrollment.accept_suggestion(visit.instance, visit.user, visit.params["suggestion_id"])
    )


def get_creation_defaults(visit: FrontendCall) -> Any:
    """Answer that nothing is suggested for a new organization."""
    assert visit.user, "signed in"  # noqa: S101
    return {"form": None, "advisory": None}


def _verified_addresses(visit: FrontendCall) -> set[str]:
    return {email.email_address for email in visit.user.email_addresses if email.is_claimed}


def _get_invitation(visit: FrontendCall) -> OrganizationInvitation:
    found = visit.instance.organization_invitations.find(visit.params["invitation_id"])
    if found is None or found.email_address not in _verified_addresses(visit):
        words = "There is no such invitation to one of your addresses."
        raise ApiError(404, ErrorDetail("organization_invitation_not_found", "not found", words))
    return found


ROUTES = (
    FrontendRoute("GET", "/me/organization_memberships", "getOrganizationMemberships", list_memberships),
    FrontendRoute(
        "DELETE", "/me/organization_memberships/{organization_id}", "deleteOrganizationMemberships", leave_organization
    ),
    FrontendRoute("GET", "/me/organization_invitations", "getUsersOrganizationInvitations", list_invitations),
    FrontendRoute(
        "POST",
        "/me/organization_invitations/{invitation_id}/accept",
        "acceptOrganizationInvitation",
        accept_invitation,
    ),
    FrontendRoute("GET", "/me/organization_suggestions", "getOrganizationSuggestions", list_suggestions),
    FrontendRoute(
        "POST", "/me/organization_suggestions/{suggestion_id}/accept", "acceptOrganizationSuggestion", accept_suggestion
    ),
    FrontendRoute(
        "GET", "/me/organization_creation_defaults", "getOrganizationCreationDefaults", get_creation_defaults
    ),
)
