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
    """The half of ClerkClient that changes organizations."""

    _backend: ClerkHttpClient

    async def create_invitation(self, organization_id: ClerkId, invitation: NewClerkInvitation) -> ClerkInvitation:
        """See Actor.invite."""
        body = await self._backend.send(
            "POST", f"organizations/{organization_id}/invitations", json=_build_invitation_fields(invitation)
        )
        return parsing.to_invitation(decode_response(body, parsing.ClerkInvitationPayload))

    async def create_invitations(
        self, organization_id: ClerkId, invitations: Sequence[NewClerkInvitation]
    ) -> list[ClerkInvitation]:
        """See Actor.invite_many."""
        path = f"organizations/{organization_id}/invitations/bulk"
        body = await self._backend.send("POST", path, json=[_build_invitation_fields(it) for it in invitations])
        made, _ = parsing.parse_rows(
            parsing.ClerkInvitationPayload, decode_response(body, _RowsPayload).data
        )  # of the rest Clerk is asked again
        return [parsing.to_invitation(it) for it in made]

    async def find_invitation(self, organization_id: ClerkId, invitation_id: ClerkId) -> ClerkInvitation | None:
        """See Actor.find_invitation."""
        body = await self._backend.find(_build_invitation_path(organization_id, invitation_id))
        return parsing.to_invitation(decode_response(body, parsing.ClerkInvitationPayload)) if body else None

    async def find_accept_url(self, organization_id: ClerkId, invitation_id: ClerkId) -> str | None:
        """See Actor.find_link."""
        body = await self._backend.find(_build_invitation_path(organization_id, invitation_id))
        link: _InvitationLink = decode_response(body, _InvitationLink) if body else _InvitationLink()
        return link.url

    async def revoke_invitation(
        self, organization_id: ClerkId, invitation_id: ClerkId, *, revoked_by: ClerkId | None
    ) -> ClerkInvitation:
        """See Actor.revoke."""
        path = f"{_build_invitation_path(organization_id, invitation_id)}/revoke"
        body = await self._backend.send("POST", path, json={"requesting_user_id": revoked_by} if revoked_by else {})
        return parsing.to_invitation(decode_response(body, parsing.ClerkInvitationPayload))

    async def find_membership(self, organization_id: ClerkId, user_id: ClerkId) -> Observation | None:
        """See Actor.find_membership."""
        path = f"organizations/{organization_id}/memberships"
        body = await self._backend.find(path, params=[("user_id", user_id), ("limit", 1)])
        found = decode_response(body, _RowsPayload).data if body else []
        return _parse_membership(bytes(found[0])) if found else None

    async def set_role(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """See Actor.set_role."""
        path = f"organizations/{organization_id}/memberships/{user_id}"
        return _parse_membership(await self._backend.send("PATCH", path, json={"role": role}))

    async def add_member(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """See Actor.add_member."""
        path = f"organizations/{organization_id}/memberships"
        return _parse_membership(await self._backend.send("POST", path, json={"user_id": user_id, "role": role}))

    async def remove_member(self, organization_id: ClerkId, user_id: ClerkId) -> Tombstone:
        """See Actor.remove_member."""
        body = await self._backend.send("DELETE", f"organizations/{organization_id}/memberships/{user_id}")
        last = _parse_membership(body)
        return Tombstone(last.key, last.entity)


def _build_invitation_path(organization: ClerkId, id: ClerkId) -> str:
    """Where an invitation is. Clerk has addresses of its own beside the ids there (`pending`, `bulk`): no id is one."""
    return f"organizations/{organization}/invitations/{id if '_' in id else '_'}"


def _parse_membership(body: bytes) -> Observation:
    """Raises ClerkUnavailableError for what can't be read."""
    try:
        return parsing.to_membership(decode_response(body, parsing.ClerkMembershipPayload))
    except parsing.UnreadableDataError as error:
        raise ClerkUnavailableError(str(error)) from error


def _build_invitation_fields(wanted: NewClerkInvitation) -> dict[str, Any]:
    fields = {
        "email_address": wanted.email,
        "role": wanted.role,
        "inviter_user_id": wanted.inviter,
        "expires_in_days": wanted.expires_in_days,
        "redirect_url": wanted.redirect_url,
        "public_metadata": wanted.public_metadata or None,
        "private_metadata": wanted.private_metadata or None,
        "notify": None if wanted.notify else False,
    }
    return {name: value for name, value in fields.items() if value is not None}
