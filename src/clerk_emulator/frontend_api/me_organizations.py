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


def list_memberships(call: FrontendCall) -> Any:
    """List the user's memberships, newest first."""
    found = memberships.list_by_user(call.instance, call.user.id)
    data = [frontend_json.membership(call.instance, row) for row in call.query.page(found)]
    return {"data": data, "total_count": len(found)} if call.query.flag("paginated") else data


def leave_organization(call: FrontendCall) -> Any:
    """Leave an organization; the last administrator cannot."""
    _, membership = require_membership(call, call.params["organization_id"])
    memberships.delete(call.instance, membership)
    return deleted_object("organization_membership", membership.id)


def list_invitations(call: FrontendCall) -> Any:
    """List the invitations to the user's own addresses, newest first."""
    statuses, now = call.query.choices("status", STATUSES), call.instance.now
    rows = call.instance.organization_invitations.newest_first()
    mine = _verified_addresses(call)
    found = [row for row in rows if row.email_address in mine and (not statuses or row.status(now) in statuses)]
    data = [frontend_json.received_invitation(call.instance, row) for row in call.query.page(found)]
    return {"data": data, "total_count": len(found)}


def accept_invitation(call: FrontendCall) -> Any:
    """Accept an invitation."""
    found = _get_invitation(call)
    organization_invitations.accept(call.instance, found, {})
    return frontend_json.received_invitation(call.instance, found)


def list_suggestions(call: FrontendCall) -> Any:
    """List the organizations suggested because of a domain, newest first."""
    statuses = call.query.choices("status", STATUSES)
    rows = domain_enrollment.list_suggestions(call.instance, call.user)
    found = [row for row in rows if not statuses or row.status in statuses]
    data = [frontend_json.suggestion(call.instance, row) for row in call.query.page(found)]
    return {"data": data, "total_count": len(found)}


def accept_suggestion(call: FrontendCall) -> Any:
    """Request to join a suggested organization."""
    return frontend_json.suggestion(
        call.instance, domain_enrollment.accept_suggestion(call.instance, call.user, call.params["suggestion_id"])
    )


def get_creation_defaults(call: FrontendCall) -> Any:
    """Return empty defaults for a new organization."""
    assert call.user, "signed in"  # noqa: S101
    return {"form": None, "advisory": None}


def _verified_addresses(call: FrontendCall) -> set[str]:
    return {email.email_address for email in call.user.email_addresses if email.is_claimed}


def _get_invitation(call: FrontendCall) -> OrganizationInvitation:
    found = call.instance.organization_invitations.find(call.params["invitation_id"])
    if found is None or found.email_address not in _verified_addresses(call):
        message = "There is no such invitation to one of your addresses."
        raise ApiError(404, ErrorDetail("organization_invitation_not_found", "not found", message))
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
