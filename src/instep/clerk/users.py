"""Backend API methods that change users, their email addresses and sessions."""

from typing import Any

import msgspec
import structlog

from instep.clerk import parsing
from instep.clerk.http import ClerkHttpClient, QueryParams, decode_response
from instep.clerk.parsing import parse_id
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.events import Observation, Tombstone
from instep.domain.models import (
    ActiveSession,
    ClerkEmailAddress,
    ClerkId,
    ClerkUserUpdate,
    EntityKey,
    NewClerkUser,
    VerificationCode,
)

log = structlog.get_logger(__name__)


class _SessionActivity(msgspec.Struct):
    device_type: str | None = None
    browser_name: str | None = None
    city: str | None = None
    country: str | None = None
    ip_address: str | None = None


class _SessionPayload(msgspec.Struct):
    id: str
    created_at: parsing.UnixMillis | None = 0
    last_active_at: parsing.UnixMillis | None = 0
    latest_activity: _SessionActivity | None = None


class _EmailVerification(msgspec.Struct):
    id: str
    status: str = "unverified"
    expire_at: parsing.UnixMillis | None = None


class UsersMixin:
    """User methods of ClerkClient. Implements UsersApi."""

    _backend: ClerkHttpClient

    async def find_user(self, user_id: ClerkId) -> Observation | None:
        """Return a user's current state."""
        body = await self._backend.find(f"users/{user_id}")
        return _parse_user(body) if body else None

    async def find_user_by(self, *, email: str | None = None, external_id: str | None = None) -> Observation | None:
        """Return the user with this email address or external id."""
        params: QueryParams = [("email_address", email)] if email else [("external_id", external_id)]
        body = await self._backend.send("GET", "users", params=[*params, ("limit", 1)])
        found: list[msgspec.Raw] = decode_response(body, list[msgspec.Raw])
        return _parse_user(bytes(found[0])) if found else None

    async def create_user(self, user: NewClerkUser) -> Observation:
        """Create a user without a password; the address counts as verified."""
        fields: dict[str, Any] = {
            "email_address": [user.email],
            "external_id": user.external_id,
            "first_name": user.first_name,
            "last_name": user.last_name,
            "username": user.username,
            "public_metadata": user.public_metadata or None,
            "skip_password_requirement": True,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return _parse_user(await self._backend.send("POST", "users", json=given))

    async def update_user(self, user_id: ClerkId, update: ClerkUserUpdate) -> Observation:
        """Update names, username or external id."""
        return _parse_user(await self._backend.send("PATCH", f"users/{user_id}", json=msgspec.to_builtins(update)))

    async def merge_public_metadata(self, user_id: ClerkId, metadata: dict[str, Any]) -> Observation:
        """Merge values into the public metadata; None removes a key."""
        return _parse_user(
            await self._backend.send("PATCH", f"users/{user_id}/metadata", json={"public_metadata": metadata})
        )

    async def set_password(self, user_id: ClerkId, password: str) -> Observation:
        """Set a password."""
        return _parse_user(await self._backend.send("PATCH", f"users/{user_id}", json={"password": password}))

    async def replace_email(self, user_id: ClerkId, email: str) -> Observation:
        """Replace all addresses with one. Clerk returns only the address, so the user is fetched again."""
        fields = {"email_address": email, "notify_primary_email_address_changed": True}
        await self._backend.send("PUT", f"users/{user_id}/email_address", json=fields)
        found = await self.find_user(user_id)
        if found is None:
            raise ClerkUnavailableError("The user is no longer in Clerk.")
        return found

    async def list_emails(self, user_id: ClerkId) -> list[ClerkEmailAddress]:
        """Return all addresses of a user; none if Clerk does not have the user."""
        body = await self._backend.find(f"users/{user_id}")
        return parsing.to_email_addresses(decode_response(body, parsing.ClerkUserPayload)) if body else []

    async def add_email(self, user_id: ClerkId, email: str) -> ClerkEmailAddress:
        """Add an unverified address to a user."""
        fields = {"user_id": user_id, "email_address": email, "verified": False}
        return parsing.to_email_address(
            decode_response(await self._backend.send("POST", "email_addresses", json=fields), parsing.ClerkEmailPayload)
        )

    async def send_code(self, email_id: ClerkId) -> VerificationCode:
        """Send a verification code to an address."""
        body = await self._backend.send("POST", f"email_addresses/{email_id}/prepare_verification")
        sent: _EmailVerification = decode_response(body, _EmailVerification)
        return VerificationCode(verification=sent.id, expires_at=sent.expire_at)

    async def verify_code(self, email_id: ClerkId, verification_id: str, code: str) -> str:
        """Verify an address by its code and return the verification status.

        Clerk answers a wrong code with status 200, and rejects a code that was accepted before.
        """
        fields = {"verification_id": verification_id, "code": code}
        try:
            body = await self._backend.send("POST", f"email_addresses/{email_id}/attempt_verification", json=fields)
        except ClerkRejectedError as error:
            if error.code == "verification_already_verified":
                return "verified"
            raise
        tried: _EmailVerification = decode_response(body, _EmailVerification)
        return tried.status

    async def set_primary_email(self, user_id: ClerkId, email_id: ClerkId) -> Observation:
        """Make a verified address the primary one."""
        fields = {"primary_email_address_id": email_id, "notify_primary_email_address_changed": True}
        return _parse_user(await self._backend.send("PATCH", f"users/{user_id}", json=fields))

    async def remove_email(self, email_id: ClerkId) -> None:
        """Delete an address; a missing one is not an error."""
        try:
            await self._backend.send("DELETE", f"email_addresses/{email_id}")
        except ClerkRejectedError as error:
            if error.status != 404:
                raise

    async def delete_user(self, user_id: ClerkId) -> Tombstone:
        """Delete a user; a missing one is not an error."""
        try:
            await self._backend.send("DELETE", f"users/{user_id}")
        except ClerkRejectedError as error:
            if error.status != 404:
                raise
        return Tombstone(EntityKey("user", user_id))

    async def ban_user(self, user_id: ClerkId) -> Observation:
        """Ban a user."""
        return _parse_user(await self._backend.send("POST", f"users/{user_id}/ban"))

    async def unban_user(self, user_id: ClerkId) -> Observation:
        """Lift a user's ban."""
        return _parse_user(await self._backend.send("POST", f"users/{user_id}/unban"))

    async def count_sessions(self, user_id: ClerkId) -> int:
        """Return the number of active sessions, at most 500."""
        return len(await self._fetch_active_sessions(user_id))

    async def list_sessions(self, user_id: ClerkId) -> list[ActiveSession]:
        """Return active sessions, the most recently active first; unreadable ones are logged and left out."""
        listed, unreadable = parsing.parse_rows(_SessionPayload, await self._fetch_active_sessions(user_id))
        for reason in unreadable:
            log.warning("unreadable_session", user=user_id, reason=reason)
        found = [_to_active_session(session) for session in listed]
        return sorted(found, key=lambda session: session.last_active_at, reverse=True)

    async def revoke_all_sessions(self, user_id: ClerkId) -> int:
        """Revoke all active sessions and return their number."""
        session_ids = [parse_id(row) for row in await self._fetch_active_sessions(user_id)]
        for session_id in session_ids:
            if session_id is not None:
                await self.revoke_session(session_id)
        if None in session_ids:
            raise ClerkUnavailableError(
                "Clerk lists a session without an id, so it is not known whether all sessions have ended."
            )
        return len(session_ids)

    async def _fetch_active_sessions(self, user_id: ClerkId) -> list[msgspec.Raw]:
        params: QueryParams = [("user_id", user_id), ("status", "active"), ("limit", 500)]
        found: list[msgspec.Raw] = decode_response(
            await self._backend.send("GET", "sessions", params=params), list[msgspec.Raw]
        )
        return found

    async def revoke_session(self, session_id: str) -> None:
        """Revoke a session; one that has ended is not an error."""
        try:
            await self._backend.send("POST", f"sessions/{session_id}/revoke")
        except ClerkRejectedError as error:
            if error.status not in (400, 404):
                raise


def _to_active_session(session: _SessionPayload) -> ActiveSession:
    activity = session.latest_activity or _SessionActivity()
    return ActiveSession(
        id=session.id,
        created_at=session.created_at or 0,
        last_active_at=session.last_active_at or 0,
        device=", ".join(part for part in (activity.browser_name, activity.device_type) if part),
        place=", ".join(part for part in (activity.city, activity.country) if part),
        ip_address=activity.ip_address or "",
    )


def _parse_user(body: bytes) -> Observation:
    """Parse a user. Raises ClerkUnavailableError if it is unreadable."""
    try:
        return parsing.to_user(decode_response(body, parsing.ClerkUserPayload))
    except parsing.UnreadableDataError as error:
        raise ClerkUnavailableError(str(error)) from error
