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
    """Application invitation methods of ClerkClient. Implements ApplicationInvitationsApi."""

    _backend: ClerkHttpClient

    async def create_application_invitation(
        self, invitation: NewClerkApplicationInvitation
    ) -> ClerkApplicationInvitation:
        """Create an invitation to the application."""
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
        """Return up to 500 of the newest invitations; unreadable ones are logged and left out."""
        params: QueryParams = [("limit", PAGE_SIZE), ("order_by", "-created_at")]
        params += [("status", status)] if status else []
        params += [("query", query)] if query else []
        body = await self._backend.send("GET", "invitations", params=params)
        found, unreadable = parsing.parse_rows(_ApplicationInvitationPayload, decode_response(body, list[msgspec.Raw]))
        for reason in unreadable:
            log.warning("unreadable_application_invitation", reason=reason)
        return [_to_application_invitation(row) for row in found]

    async def revoke_application_invitation(self, invitation_id: ClerkId) -> ClerkApplicationInvitation:
        """Revoke a pending invitation."""
        return _to_application_invitation(
            decode_response(
                await self._backend.send("POST", f"invitations/{invitation_id}/revoke"), _ApplicationInvitationPayload
            )
        )


def _to_application_invitation(row: _ApplicationInvitationPayload) -> ClerkApplicationInvitation:
    return ClerkApplicationInvitation(
        clerk_id=ClerkId(row.id),
        email=row.email_address,
        status=row.status,
        created_at=row.created_at or 0,
        expires_at=row.expires_at,
        public_metadata=row.public_metadata or {},
    )
