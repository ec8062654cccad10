"""Backend API methods for application invitations."""

from typing import Any, Literal

import msgspec
import structlog

from instep.clerk import parsing
from instep.clerk.http import ClerkHttpClient, QueryParams, decode_response
from instep.domain.models import ClerkApplicationInvitation, ClerkId, NewClerkApplicationInvitation

log = structlog.get_logger(__name__)
PAGE_SIZE = 500


class _ApplicationInvitationPayload(msgspec.Struct):
    id: str
    email_address: parsing.EmailString
    status: Literal["pending", "accepted", "revoked", "expired"]
    created_at: parsing.UnixMillis | None = 0
    expires_at: parsing.UnixMillis | None = None
    public_metadata: dict[str, Any] | None = None


class ApplicationInvitationsMixin:
    """The part of ClerkClient that invites to the application."""

    _backend: ClerkHttpClient

    async def create_application_invitation(
        self, invitation: NewClerkApplicationInvitation
    ) -> ClerkApplicationInvitation:
        """See Admissions.invite_to_app."""
        fields: dict[str, Any] = {
            "email_address": invitation.email,
            "expires_in_days": invitation.expires_in_days,
            "redirect_url": invitation.redirect_url,
            "public_metadata": invitation.public_metadata or None,
            "notify": None if invitation.notify else False,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return _to_application_invitation(
            decode_response(await self._backend.send("POST", "invitations", json=given), _ApplicationInvitationPayload)
        )

    async def list_application_invitations(
        self, *, status: str | None = None, query: str = ""
    ) -> list[ClerkApplicationInvitation]:
        """See Admissions.list_app_invitations; the newest 500, without those that can't be read (logged)."""
        params: QueryParams = [("limit", PAGE_SIZE), ("order_by", "-created_at")]
        params += [("status", status)] if status else []
        params += [("query", query)] if query else []
        body = await self._backend.send("GET", "invitations", params=params)
        found, bad = parsing.parse_rows(_ApplicationInvitationPayload, decode_response(body, list[msgspec.Raw]))
        for why in bad:
            log.warning("unreadable_app_invitation", why=why)
        return [_to_application_invitation(it) for it in found]

    async def revoke_application_invitation(self, invitation_id: ClerkId) -> ClerkApplicationInvitation:
        """See Admissions.revoke_app_invitation."""
        return _to_application_invitation(
            decode_response(
                await self._backend.send("POST", f"invitations/{invitation_id}/revoke"), _ApplicationInvitationPayload
            )
        )


def _to_application_invitation(it: _ApplicationInvitationPayload) -> ClerkApplicationInvitation:
    return ClerkApplicationInvitation(
        clerk_id=ClerkId(it.id),
        email=it.email_address,
        status=it.status,
        created_at=it.created_at or 0,
        expires_at=it.expires_at,
        public_metadata=it.public_metadata or {},
    )
