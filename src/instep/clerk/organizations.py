"""Backend API methods that change organization invitations and memberships."""

from collections.abc import Sequence
from typing import Any

import msgspec

from instep.clerk import parsing
from instep.clerk.http import ClerkHttpClient, decode_response
from instep.domain.errors import ClerkUnavailableError
from instep.domain.events import Observation, Tombstone
from instep.domain.models import ClerkId, ClerkInvitation, NewClerkInvitation


class _RowsPayload(msgspec.Struct):
    data: list[msgspec.Raw]


class _InvitationLink(msgspec.Struct):
    url: str | None = None


class OrganizationsMixin:
    """Invitation and membership methods of ClerkClient. Implements OrganizationsApi."""

    _backend: ClerkHttpClient

    async def create_invitation(self, organization_id: ClerkId, invitation: NewClerkInvitation) -> ClerkInvitation:
        """Create an organization invitation."""
        body = await self._backend.send(
            "POST", f"organizations/{organization_id}/invitations", json=_build_invitation_fields(invitation)
        )
        return parsing.to_invitation(decode_response(body, parsing.ClerkInvitationPayload))

    async def create_invitations(
        self, organization_id: ClerkId, invitations: Sequence[NewClerkInvitation]
    ) -> list[ClerkInvitation]:
        """Create up to 10 invitations in one request. Unreadable rows are left out; the caller reads them back."""
        path = f"organizations/{organization_id}/invitations/bulk"
        body = await self._backend.send("POST", path, json=[_build_invitation_fields(row) for row in invitations])
        created, _ = parsing.parse_rows(
            parsing.ClerkInvitationPayload, decode_response(body, _RowsPayload).data
        )  # of the rest Clerk is asked again
        return [parsing.to_invitation(row) for row in created]

    async def find_invitation(self, organization_id: ClerkId, invitation_id: ClerkId) -> ClerkInvitation | None:
        """Return the current state of an invitation; None if Clerk does not have it."""
        body = await self._backend.find(_build_invitation_path(organization_id, invitation_id))
        return parsing.to_invitation(decode_response(body, parsing.ClerkInvitationPayload)) if body else None

    async def find_accept_url(self, organization_id: ClerkId, invitation_id: ClerkId) -> str | None:
        """Return the secret URL that accepts a pending invitation."""
        body = await self._backend.find(_build_invitation_path(organization_id, invitation_id))
        link: _InvitationLink = decode_response(body, _InvitationLink) if body else _InvitationLink()
        return link.url

    async def revoke_invitation(
        self, organization_id: ClerkId, invitation_id: ClerkId, *, revoked_by: ClerkId | None
    ) -> ClerkInvitation:
        """Revoke a pending invitation."""
        path = f"{_build_invitation_path(organization_id, invitation_id)}/revoke"
        body = await self._backend.send("POST", path, json={"requesting_user_id": revoked_by} if revoked_by else {})
        return parsing.to_invitation(decode_response(body, parsing.ClerkInvitationPayload))

    async def find_membership(self, organization_id: ClerkId, user_id: ClerkId) -> Observation | None:
        """Return a user's current membership."""
        path = f"organizations/{organization_id}/memberships"
        body = await self._backend.find(path, params=[("user_id", user_id), ("limit", 1)])
        found = decode_response(body, _RowsPayload).data if body else []
        return _parse_membership(bytes(found[0])) if found else None

    async def set_role(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """Change a member's role and return the membership."""
        path = f"organizations/{organization_id}/memberships/{user_id}"
        return _parse_membership(await self._backend.send("PATCH", path, json={"role": role}))

    async def add_member(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """Add a user as a member, without an invitation."""
        path = f"organizations/{organization_id}/memberships"
        return _parse_membership(await self._backend.send("POST", path, json={"user_id": user_id, "role": role}))

    async def remove_member(self, organization_id: ClerkId, user_id: ClerkId) -> Tombstone:
        """Remove a member."""
        body = await self._backend.send("DELETE", f"organizations/{organization_id}/memberships/{user_id}")
        last = _parse_membership(body)
        return Tombstone(last.key, last.entity)


def _build_invitation_path(organization_id: ClerkId, invitation_id: ClerkId) -> str:
    """Return the path of an invitation. Without an underscore it is no id but an endpoint (`pending`, `bulk`)."""
    return f"organizations/{organization_id}/invitations/{invitation_id if '_' in invitation_id else '_'}"


def _parse_membership(body: bytes) -> Observation:
    """Parse a membership. Raises ClerkUnavailableError if it is unreadable."""
    try:
        return parsing.to_membership(decode_response(body, parsing.ClerkMembershipPayload))
    except parsing.UnreadableDataError as error:
        raise ClerkUnavailableError(str(error)) from error


def _build_invitation_fields(invitation: NewClerkInvitation) -> dict[str, Any]:
    fields = {
        "email_address": invitation.email,
        "role": invitation.role,
        "inviter_user_id": invitation.inviter,
        "expires_in_days": invitation.expires_in_days,
        "redirect_url": invitation.redirect_url,
        "public_metadata": invitation.public_metadata or None,
        "private_metadata": invitation.private_metadata or None,
        "notify": None if invitation.notify else False,
    }
    return {name: value for name, value in fields.items() if value is not None}
