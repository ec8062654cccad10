"""What a user has to do with organizations: memberships, leaving, invitations, suggestions."""

from typing import Any

from clerk_emulator.frontend.standing import membership_in
from clerk_emulator.frontend.visit import Route, Visit
from clerk_emulator.state import enrollment, memberships
from clerk_emulator.state import organization_invitations as invitations
from clerk_emulator.state.model import OrganizationInvitation
from clerk_emulator.state.refusals import Problem, Refused
from clerk_emulator.wire import front
from clerk_emulator.wire.people import deleted

STATUSES = ("pending", "accepted", "revoked", "expired", "completed")


def list_memberships(visit: Visit) -> Any:
    """Answer a page of the user's memberships, newest first."""
    found = memberships.of_user(visit.instance, visit.user.id)
    data = [front.membership(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)} if visit.query.flag("paginated") else data


def leave(visit: Visit) -> Any:
    """Leave an organization; the last administrator stays."""
    _, membership = membership_in(visit, visit.params["organization_id"])
    memberships.delete(visit.instance, membership)
    return deleted("organization_membership", membership.id)


def list_invitations(visit: Visit) -> Any:
    """Answer a page of the invitations to the user's own addresses, newest first."""
    statuses, now = visit.query.choices("status", STATUSES), visit.instance.now
    rows = visit.instance.organization_invitations.newest_first()
    mine = _addresses(visit)
    found = [row for row in rows if row.email_address in mine and (not statuses or row.status(now) in statuses)]
    data = [front.invitation_to_me(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


def accept_invitation(visit: Visit) -> Any:
    """Join by an invitation."""
    found = _invitation(visit)
    invitations.accept(visit.instance, found, {})
    return front.invitation_to_me(visit.instance, found)


def list_suggestions(visit: Visit) -> Any:
    """Answer a page of the organizations that are suggested because of a domain, newest first."""
    statuses = visit.query.choices("status", STATUSES)
    rows = enrollment.of_user(visit.instance, visit.user)
    found = [row for row in rows if not statuses or row.status in statuses]
    data = [front.suggestion(visit.instance, row) for row in visit.query.page(found)]
    return {"data": data, "total_count": len(found)}


def ask_to_join(visit: Visit) -> Any:
    """Ask to join."""
    return front.suggestion(visit.instance, enrollment.ask(visit.instance, visit.user, visit.params["suggestion_id"]))


def creation_defaults(visit: Visit) -> Any:
    """Answer that nothing is suggested for a new organization."""
    assert visit.user, "signed in"  # noqa: S101
    return {"form": None, "advisory": None}


def _addresses(visit: Visit) -> set[str]:
    return {email.email_address for email in visit.user.email_addresses if email.is_claimed}


def _invitation(visit: Visit) -> OrganizationInvitation:
    found = visit.instance.organization_invitations.find(visit.params["invitation_id"])
    if found is None or found.email_address not in _addresses(visit):
        words = "There is no such invitation to one of your addresses."
        raise Refused(404, Problem("organization_invitation_not_found", "not found", words))
    return found


ROUTES = (
    Route("GET", "/me/organization_memberships", "getOrganizationMemberships", list_memberships),
    Route("DELETE", "/me/organization_memberships/{organization_id}", "deleteOrganizationMemberships", leave),
    Route("GET", "/me/organization_invitations", "getUsersOrganizationInvitations", list_invitations),
    Route(
        "POST",
        "/me/organization_invitations/{invitation_id}/accept",
        "acceptOrganizationInvitation",
        accept_invitation,
    ),
    Route("GET", "/me/organization_suggestions", "getOrganizationSuggestions", list_suggestions),
    Route("POST", "/me/organization_suggestions/{suggestion_id}/accept", "acceptOrganizationSuggestion", ask_to_join),
    Route("GET", "/me/organization_creation_defaults", "getOrganizationCreationDefaults", creation_defaults),
)
