"""Enrollment by organization domain: automatic invitations, suggestions and membership requests."""

from clerk_emulator.state import domains, memberships, organization_invitations, organizations, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Organization, OrganizationDomain, OrganizationSuggestion, User


def enroll_user(instance: Instance, user: User) -> None:
    """Invite a user to organizations or suggest them, by the domains of the verified addresses; once each."""
    for email in user.email_addresses:
        domain = domains.find_verified(instance, email.email_address.partition("@")[2])
        if email.status != "verified" or domain is None or not instance.settings.organization_domains_enabled:
            continue
        if memberships.find(instance, domain.organization_id, user.id) is not None:
            continue
        if domain.enrollment_mode == "automatic_invitation":
            _invite(instance, domain, email.email_address)
        elif domain.enrollment_mode == "automatic_suggestion":
            _suggest(instance, domain, user)


def list_suggestions(instance: Instance, user: User) -> list[OrganizationSuggestion]:
    """Return the suggestions for a user, newest first, without organizations that the user already joined."""
    rows = instance.organization_suggestions.newest_first()
    mine = [row for row in rows if row.user_id == user.id]
    return [row for row in mine if memberships.find(instance, row.organization_id, user.id) is None]


def accept_suggestion(instance: Instance, user: User, suggestion_id: str) -> OrganizationSuggestion:
    """Request to join a suggested organization."""
    found = next((row for row in list_suggestions(instance, user) if row.id == suggestion_id), None)
    if found is None:
        raise not_found_error("organization suggestion", suggestion_id)
    if found.status != "pending":
        message = "This suggestion has already been accepted."
        raise ApiError(400, ErrorDetail("organization_suggestion_already_accepted", "already accepted", message))
    found.status, found.request_id = "accepted", instance.ids.new("orgmemreq")
    instance.touch(found)
    return found


def list_requests(instance: Instance, organization: Organization) -> list[OrganizationSuggestion]:
    """Return the membership requests of an organization, newest first."""
    rows = instance.organization_suggestions.newest_first()
    return [row for row in rows if row.organization_id == organization.id and row.request_id is not None]


def decide_request(
    instance: Instance, organization: Organization, request_id: str, *, is_accepted: bool
) -> OrganizationSuggestion:
    """Accept or reject a membership request."""
    found = next((row for row in list_requests(instance, organization) if row.request_id == request_id), None)
    if found is None or found.status != "accepted":
        raise not_found_error("pending organization membership request", request_id)
    if is_accepted:
        user, role = users.get(instance, found.user_id), instance.settings.domains_default_role
        memberships.create(instance, organization, user, role, {})
    found.status = "completed" if is_accepted else "revoked"
    instance.touch(found)
    return found


def delete_pending(instance: Instance, domain: OrganizationDomain) -> None:
    """Delete the pending invitations and suggestions of a domain."""
    for invitation in list(instance.organization_invitations):
        if invitation.domain_id == domain.id and invitation.status(instance.now) == "pending":
            organization_invitations.revoke(instance, organizations.get(instance, domain.organization_id), invitation)
    for row in [row for row in instance.organization_suggestions if row.domain_id == domain.id]:
        if row.status == "pending":
            instance.organization_suggestions.remove(row.id)


def _invite(instance: Instance, domain: OrganizationDomain, address: str) -> None:
    rows = instance.organization_invitations
    if any(row.organization_id == domain.organization_id and row.email_address == address for row in rows):
        return
    organization = organizations.get(instance, domain.organization_id)
    draft = {"role": instance.settings.domains_default_role, "domain_id": domain.id}
    organization_invitations.create_for_domain(instance, organization, draft, address)


def _suggest(instance: Instance, domain: OrganizationDomain, user: User) -> None:
    rows = instance.organization_suggestions
    if any(row.organization_id == domain.organization_id and row.user_id == user.id for row in rows):
        return
    now = instance.now
    created = OrganizationSuggestion(
        id=instance.ids.new("orgsug"),
        user_id=user.id,
        organization_id=domain.organization_id,
        domain_id=domain.id,
        created_at=now,
        updated_at=now,
    )
    instance.organization_suggestions.add(created)
