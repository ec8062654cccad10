"""Changing organizations in Clerk: invitations and memberships; see identity.ports.Actor."""

from collections.abc import Sequence
from typing import Any

import msgspec

from instep.clerk import wire
from instep.clerk.call import Backend, decode
from instep.identity.events import Gone, Seen
from instep.identity.model import ClerkId, Invitation, NewInvitation
from instep.identity.ports import ProviderDown


class _Rows(msgspec.Struct):
    data: list[msgspec.Raw]


class _Link(msgspec.Struct):
    url: str | None = None


class Organizations:
    """The half of ClerkClient that changes organizations."""

    _backend: Backend

    async def invite(self, organization: ClerkId, wanted: NewInvitation) -> Invitation:
        """See Actor.invite."""
        body = await self._backend.send("POST", f"organizations/{organization}/invitations", json=_fields(wanted))
        return wire.to_invitation(decode(body, wire.InvitationWire))

    async def invite_many(self, organization: ClerkId, wanted: Sequence[NewInvitation]) -> list[Invitation]:
        """See Actor.invite_many."""
        path = f"organizations/{organization}/invitations/bulk"
        body = await self._backend.send("POST", path, json=[_fields(it) for it in wanted])
        made, _ = wire.read_all(wire.InvitationWire, decode(body, _Rows).data)  # of the rest Clerk is asked again
        return [wire.to_invitation(it) for it in made]

    async def find_invitation(self, organization: ClerkId, id: ClerkId) -> Invitation | None:
        """See Actor.find_invitation."""
        body = await self._backend.find(_invitation(organization, id))
        return wire.to_invitation(decode(body, wire.InvitationWire)) if body else None

    async def find_link(self, organization: ClerkId, id: ClerkId) -> str | None:
        """See Actor.find_link."""
        body = await self._backend.find(_invitation(organization, id))
        link: _Link = decode(body, _Link) if body else _Link()
        return link.url

    async def revoke(self, organization: ClerkId, id: ClerkId, *, by: ClerkId | None) -> Invitation:
        """See Actor.revoke."""
        path = f"{_invitation(organization, id)}/revoke"
        body = await self._backend.send("POST", path, json={"requesting_user_id": by} if by else {})
        return wire.to_invitation(decode(body, wire.InvitationWire))

    async def find_membership(self, organization: ClerkId, user: ClerkId) -> Seen | None:
        """See Actor.find_membership."""
        path = f"organizations/{organization}/memberships"
        body = await self._backend.find(path, params=[("user_id", user), ("limit", 1)])
        found = decode(body, _Rows).data if body else []
        return _membership(bytes(found[0])) if found else None

    async def set_role(self, organization: ClerkId, user: ClerkId, role: str) -> Seen:
        """See Actor.set_role."""
        path = f"organizations/{organization}/memberships/{user}"
        return _membership(await self._backend.send("PATCH", path, json={"role": role}))

    async def add_member(self, organization: ClerkId, user: ClerkId, role: str) -> Seen:
        """See Actor.add_member."""
        path = f"organizations/{organization}/memberships"
        return _membership(await self._backend.send("POST", path, json={"user_id": user, "role": role}))

    async def remove_member(self, organization: ClerkId, user: ClerkId) -> Gone:
        """See Actor.remove_member."""
        body = await self._backend.send("DELETE", f"organizations/{organization}/memberships/{user}")
        last = _membership(body)
        return Gone(last.key, last.entity)


def _invitation(organization: ClerkId, id: ClerkId) -> str:
    """Where an invitation is. Clerk has addresses of its own beside the ids there (`pending`, `bulk`): no id is one."""
    return f"organizations/{organization}/invitations/{id if '_' in id else '_'}"


def _membership(body: bytes) -> Seen:
    """Raises ProviderDown for what can't be read."""
    try:
        return wire.to_membership(decode(body, wire.MembershipWire))
    except wire.Unreadable as error:
        raise ProviderDown(str(error)) from error


def _fields(wanted: NewInvitation) -> dict[str, Any]:
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
