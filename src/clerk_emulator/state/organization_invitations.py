"""Invitations to organizations: create, revoke, accept and expire."""

from typing import Any

from clerk_emulator.state import emails, mailer, memberships, metadata, organizations, roles, users
from clerk_emulator.state.errors import (
    ApiError,
    ErrorDetail,
    already_member_error,
    duplicate_invitation_error,
    invitation_not_pending_error,
    not_found_error,
    quota_exceeded_error,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Membership, Organization, OrganizationInvitation, User

DAY = 24 * 60 * 60 * 1000
METADATA_FIELDS = ("public_metadata", "private_metadata")
MAX_BATCH_SIZE = 10


def get(instance: Instance, organization: Organization, invitation_id: str) -> OrganizationInvitation:
    """Return an invitation of an organization, or raise an ApiError."""
    found = instance.organization_invitations.find(invitation_id)
    if found is None or found.organization_id != organization.id:
        raise not_found_error("organization invitation", invitation_id)
    return found


def create(instance: Instance, organization: Organization, draft: dict[str, Any]) -> OrganizationInvitation:
    """Create an invitation and publish the event."""
    return create_all(instance, organization, [draft])[0]


def create_all(
    instance: Instance, organization: Organization, drafts: list[dict[str, Any]]
) -> list[OrganizationInvitation]:
    """Create several invitations, all of them or none."""
    addresses = [emails.parse_address(draft["email_address"]) for draft in drafts]
    for position, (draft, address) in enumerate(zip(drafts, addresses, strict=True)):
        if address in addresses[:position]:
            raise duplicate_invitation_error()
        _require_invitable(instance, organization, draft, address)
    memberships.require_quota(instance, organization, len(drafts))
    created = [
        _build_invitation(instance, organization, draft, address)
        for draft, address in zip(drafts, addresses, strict=True)
    ]
    for invitation in created:
        insert_record(instance, invitation)
    for invitation in created:
        instance.publish("organizationInvitation.created", invitation)
    for draft, invitation in zip(drafts, created, strict=True):
        if draft.get("notify") is not False:
            _send(instance, organization, invitation)
    return created


def create_for_domain(
    instance: Instance, organization: Organization, draft: dict[str, Any], address: str
) -> OrganizationInvitation:
    """Create an automatic invitation of a domain: without a mail, and not counted against the limit."""
    invitation = _build_invitation(instance, organization, draft, address)
    insert_record(instance, invitation)
    instance.publish("organizationInvitation.created", invitation)
    return invitation


def _send(instance: Instance, organization: Organization, invitation: OrganizationInvitation) -> None:
    inviter = instance.users.find(invitation.inviter_id)
    by = f" by {inviter.identifier}" if inviter else ""
    text = f"You have been invited{by} to join {organization.name}."
    subject = f"Join {organization.name}"
    ticket = invitation.ticket
    mailer.send(instance, invitation.email_address, "organization_invitation", subject, text, ticket=ticket)


def revoke(
    instance: Instance, organization: Organization, invitation: OrganizationInvitation, by: str | None = None
) -> OrganizationInvitation:
    """Revoke a pending invitation and publish the event."""
    memberships.require_can_manage(instance, organization, by)
    if invitation.status(instance.now) != "pending":
        raise invitation_not_pending_error()
    close(instance, invitation, "revoked")
    instance.touch_and_publish("organizationInvitation.revoked", invitation)
    return invitation


def find_by_ticket(instance: Instance, ticket: str) -> OrganizationInvitation | None:
    """Return the invitation of a ticket."""
    return instance.organization_invitations.find(instance.tickets.get(ticket))


def accept(instance: Instance, invitation: OrganizationInvitation, names: dict[str, Any]) -> tuple[User, Membership]:
    """Create the user if needed, then the membership; publish an event for each, for the acceptance last."""
    if invitation.status(instance.now) != "pending":
        raise not_acceptable_error(invitation.status(instance.now))
    organization = organizations.get(instance, invitation.organization_id)
    limit = organization.max_allowed_memberships
    if limit and memberships.count(instance, organization.id) >= limit:
        raise quota_exceeded_error(limit)
    user = emails.find_owner(instance, invitation.email_address)
    if user is None:
        draft = {**names, "email_address": [invitation.email_address]}
        user = users.create(instance, draft, strategy="ticket")
    membership = memberships.find(instance, organization.id, user.id)
    if membership is None:
        draft = {name: getattr(invitation, name) for name in METADATA_FIELDS}
        membership = memberships.create_unchecked(instance, organization, user, invitation.role, draft)
    close(instance, invitation, "accepted")
    invitation.user_id = user.id
    instance.touch_and_publish("organizationInvitation.accepted", invitation)
    return user, membership


def not_acceptable_error(status: str) -> ApiError:
    """400: the invitation is no longer pending."""
    code = {
        "accepted": "organization_invitation_already_accepted",
        "revoked": "organization_invitation_revoked_code",
    }.get(status, "ticket_expired_code")
    return ApiError(400, ErrorDetail(code, f"invitation {status}", f"This invitation is {status}."))


def insert_record(instance: Instance, invitation: OrganizationInvitation) -> None:
    """Add an invitation to the table and its indexes."""
    key = instance.organization_invitations.add(invitation)
    instance.invitations_of_organization.add(invitation.organization_id, key)
    instance.tickets[invitation.ticket] = invitation.id
    if invitation.settled is None and invitation.domain_id is None:
        instance.open_invitations.add(invitation.organization_id, invitation.expiry_key)
        instance.invited[invitation.organization_id, invitation.email_address] = invitation.id


def _require_invitable(instance: Instance, organization: Organization, draft: dict[str, Any], address: str) -> None:
    roles.get_in_role_set(instance, organization.role_set, draft["role"])
    memberships.require_can_manage(instance, organization, draft.get("inviter_user_id"))
    owner = emails.find_owner(instance, address)
    if owner is not None and memberships.find(instance, organization.id, owner.id) is not None:
        raise already_member_error(address)
    other = instance.organization_invitations.find(instance.invited.get((organization.id, address)))
    if other is not None and other.status(instance.now) == "pending":
        raise duplicate_invitation_error()
    for name in METADATA_FIELDS:
        metadata.check_size(name, draft.get(name) or {})


def close(instance: Instance, invitation: OrganizationInvitation, reason: str) -> None:
    """Close an open invitation without publishing an event."""
    invitation.settled = reason
    if invitation.domain_id is not None:
        return
    instance.open_invitations.remove(invitation.organization_id, invitation.expiry_key)
    instance.invited.pop((invitation.organization_id, invitation.email_address), None)


def _build_invitation(
    instance: Instance, organization: Organization, draft: dict[str, Any], address: str
) -> OrganizationInvitation:
    now = instance.now
    created_at = draft.get("created_at") or now
    days = draft.get("expires_in_days") or instance.settings.invitation_days
    invitation = OrganizationInvitation(
        id=draft.get("id") or instance.ids.new("orginv"),
        organization_id=organization.id,
        email_address=address,
        role=draft["role"],
        ticket=instance.ids.secret(),
        inviter_id=draft.get("inviter_user_id"),
        redirect_url=draft.get("redirect_url"),
        domain_id=draft.get("domain_id"),
        expires_at=draft.get("expires_at") or created_at + days * DAY,
        created_at=created_at,
        updated_at=draft.get("updated_at") or now,
    )
    metadata.replace_in(invitation, {name: draft.get(name) for name in METADATA_FIELDS})
    return invitation
