"""Tickets in links: what they refer to and whether they can be used."""

from clerk_emulator.state import emails, invitations, organization_invitations, sign_in_tokens
from clerk_emulator.state.errors import ApiError, ErrorDetail
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Invitation, OrganizationInvitation, SignInToken

Ticket = SignInToken | OrganizationInvitation | Invitation


def get(instance: Instance, ticket: str) -> Ticket:
    """Return the invitation or token of a ticket, or raise an ApiError."""
    found = (
        sign_in_tokens.find_by_ticket(instance, ticket)
        or organization_invitations.find_by_ticket(instance, ticket)
        or invitations.find_by_ticket(instance, ticket)
    )
    if found is None:
        raise ApiError(
            400, ErrorDetail("ticket_invalid_code", "invalid ticket", "This ticket was not issued by this instance.")
        )
    return found


def require_pending(instance: Instance, found: OrganizationInvitation | Invitation) -> None:
    """Reject an accepted, revoked or expired invitation."""
    status = found.status(instance.now)
    if status == "pending":
        return
    if isinstance(found, OrganizationInvitation):
        raise organization_invitations.not_acceptable_error(status)
    raise invitations.not_acceptable_error(status)


def require_existing_account(instance: Instance, found: OrganizationInvitation | Invitation) -> None:
    """Reject a sign-in by an invitation of a person without an account."""
    if required_flow(instance, found) == "sign_up":
        code = "organization_invitation_identification_not_exist"
        is_joining = isinstance(found, OrganizationInvitation)
        message = "There is no account for this invitation. Sign up first."
        raise ApiError(400, ErrorDetail(code if is_joining else "invitation_account_not_exists", "no account", message))


def require_no_account(instance: Instance, found: OrganizationInvitation | Invitation) -> None:
    """Reject a sign-up by an invitation of a person with an account."""
    if required_flow(instance, found) == "sign_in":
        code = "organization_invitation_identification_already_exists"
        is_joining = isinstance(found, OrganizationInvitation)
        message = "There is an account for this invitation. Sign in instead."
        raise ApiError(400, ErrorDetail(code if is_joining else "invitation_account_exists", "has an account", message))


def required_flow(instance: Instance, found: OrganizationInvitation | Invitation) -> str:
    """Return the flow of the invitee: sign in, or sign up."""
    return "sign_up" if emails.find_owner(instance, found.email_address) is None else "sign_in"
