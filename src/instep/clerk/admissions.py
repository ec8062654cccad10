"""Inviting people to the application as a whole; see identity.ports.Admissions."""

from typing import Any, Literal

import msgspec
import structlog

from instep.clerk import wire
from instep.clerk.call import Backend, Params, decode
from instep.identity.model import AppInvitation, ClerkId, NewAppInvitation

log = structlog.get_logger(__name__)
PAGE = 500


class _Invitation(msgspec.Struct):
    id: str
    email_address: wire.Email
    status: Literal["pending", "accepted", "revoked", "expired"]
    created_at: wire.At | None = 0
    expires_at: wire.At | None = None
    public_metadata: dict[str, Any] | None = None


class Admissions:
    """The part of ClerkClient that invites to the application."""

    _backend: Backend

    async def invite_to_app(self, wanted: NewAppInvitation) -> AppInvitation:
        """See Admissions.invite_to_app."""
        fields: dict[str, Any] = {
            "email_address": wanted.email,
            "expires_in_days": wanted.expires_in_days,
            "redirect_url": wanted.redirect_url,
            "public_metadata": wanted.public_metadata or None,
            "notify": None if wanted.notify else False,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return _read(decode(await self._backend.send("POST", "invitations", json=given), _Invitation))

    async def list_app_invitations(self, *, status: str | None = None, query: str = "") -> list[AppInvitation]:
        """See Admissions.list_app_invitations; the newest 500, without those that can't be read (logged)."""
        params: Params = [("limit", PAGE), ("order_by", "-created_at")]
        params += [("status", status)] if status else []
        params += [("query", query)] if query else []
        body = await self._backend.send("GET", "invitations", params=params)
        found, bad = wire.read_all(_Invitation, decode(body, list[msgspec.Raw]))
        for why in bad:
            log.warning("unreadable_app_invitation", why=why)
        return [_read(it) for it in found]

    async def revoke_app_invitation(self, id: ClerkId) -> AppInvitation:
        """See Admissions.revoke_app_invitation."""
        return _read(decode(await self._backend.send("POST", f"invitations/{id}/revoke"), _Invitation))


def _read(it: _Invitation) -> AppInvitation:
    return AppInvitation(
        clerk_id=ClerkId(it.id),
        email=it.email_address,
        status=it.status,
        created_at=it.created_at or 0,
        expires_at=it.expires_at,
        public_metadata=it.public_metadata or {},
    )
