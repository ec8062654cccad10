"""Invitations to the application; Clerk sends no webhooks for them."""

from typing import Any

from clerk_emulator.state import emails, mailer, metadata, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, identifier_exists_error, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Invitation, User

DAY = 24 * 60 * 60 * 1000


def get(instance: Instance, invitation_id: str) -> Invitation:
    """Return an invitation, or raise an ApiError."""
    found = instance.invitations.find(invitation_id)
    if found is None:
        raise not_found_error("invitation", invitation_id)
    return found


def create_all(instance: Instance, drafts: list[dict[str, Any]]) -> list[Invitation]:
    """Create invitations, all of them or none."""
    addresses = [emails.parse_address(draft["email_address"]) for draft in drafts]
    for address in addresses:
        if emails.find_owner(instance, address) is not None:
            raise identifier_exists_error("email_address", "already belongs to a user")
    _require_no_duplicates(instance, drafts, addresses)
    for draft in drafts:
        metadata.check_size("public_metadata", draft.get("public_metadata") or {})
    created = [_build_invitation(instance, draft, address) for draft, address in zip(drafts, addresses, strict=True)]
    for invitation in created:
        insert_record(instance, invitation)
    for draft, invitation in zip(drafts, created, strict=True):
        if draft.get("notify") is not False:
            text, ticket = "You have been invited to create an account.", invitation.ticket
            mailer.send(instance, invitation.email_address, "invitation", "You are invited", text, ticket=ticket)
    return created


def revoke(instance: Instance, invitation: Invitation) -> Invitation:
    """Revoke an invitation that is neither accepted nor revoked."""
    if invitation.settled == "revoked":
        raise ApiError(
            400, ErrorDetail("invitation_already_revoked", "revoked", "The invitation has already been revoked.")
        )
    if invitation.settled == "accepted":
        raise ApiError(
            400, ErrorDetail("invitation_already_accepted", "accepted", "The invitation has already been accepted.")
        )
    invitation.settled = "revoked"
    instance.touch(invitation)
    return invitation


def find_by_ticket(instance: Instance, ticket: str) -> Invitation | None:
    """Return the invitation of a ticket."""
    return instance.invitations.find(instance.tickets.get(ticket))


def accept(instance: Instance, invitation: Invitation, names: dict[str, Any]) -> User:
    """Create the user with the metadata of the invitation, and publish the event."""
    status = invitation.status(instance.now)
    if status != "pending":
        raise not_acceptable_error(status)
    user = emails.find_owner(instance, invitation.email_address)
    if user is None:
        address, public = [invitation.email_address], invitation.public_metadata
        draft = {**names, "email_address": address, "public_metadata": public}
        user = users.create(instance, draft, strategy="ticket")
    invitation.settled, invitation.user_id = "accepted", user.id
    instance.touch(invitation)
    for entry in instance.waitlist:
        if entry.invitation_id == invitation.id:
            entry.status = "completed"
            instance.touch_and_publish("waitlistEntry.updated", entry)
    return user


def not_acceptable_error(status: str) -> ApiError:
    """400: the invitation is no longer pending."""
    code = {"accepted": "invitation_already_accepted", "revoked": "revoked_invitation"}
    message = f"This invitation is {status}."
    return ApiError(400, ErrorDetail(code.get(status, "ticket_expired_code"), f"invitation {status}", message))


def insert_record(instance: Instance, invitation: Invitation) -> None:
    """Add an invitation to the table and its index."""
    instance.invitations.add(invitation)
    instance.tickets[invitation.ticket] = invitation.id


def _require_no_duplicates(instance: Instance, drafts: list[dict[str, Any]], addresses: list[str]) -> None:
    now = instance.now
    pending = {found.email_address for found in instance.invitations if found.status(now) == "pending"}
    already_invited = []
    for draft, address in zip(drafts, addresses, strict=True):
        if address in pending and not draft.get("ignore_existing"):
            already_invited.append(address)
        pending.add(address)
    if already_invited:
        message = f"These addresses have a pending invitation: {', '.join(already_invited)}."
        raise ApiError(
            400, ErrorDetail("duplicate_record", "already invited", message, {"email_addresses": already_invited})
        )


def _build_invitation(instance: Instance, draft: dict[str, Any], address: str) -> Invitation:
    now = instance.now
    created_at = draft.get("created_at") or now
    days = draft.get("expires_in_days") or instance.settings.invitation_days
    invitation = Invitation(
        id=draft.get("id") or instance.ids.new("inv"),
        email_address=address,
        ticket=instance.ids.secret(),
        redirect_url=draft.get("redirect_url"),
        expires_at=draft.get("expires_at") or created_at + days * DAY,
        created_at=created_at,
        updated_at=draft.get("updated_at") or now,
    )
    metadata.replace_in(invitation, {"public_metadata": draft.get("public_metadata")})
    return invitation
