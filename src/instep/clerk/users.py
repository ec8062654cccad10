"""Backend API methods that change users, their e-mail addresses and sessions."""

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


class _Session(msgspec.Struct):
    id: str
    created_at: parsing.UnixMillis | None = 0
    last_active_at: parsing.UnixMillis | None = 0
    latest_activity: _SessionActivity | None = None


class _EmailVerification(msgspec.Struct):
    id: str
    status: str = "unverified"
    expire_at: parsing.UnixMillis | None = None


class UsersMixin:
    """The half of ClerkClient that changes users."""

    _backend: ClerkHttpClient

    async def find_user(self, user_id: ClerkId) -> Observation | None:
        """See Accounts.find_user."""
        body = await self._backend.find(f"users/{user_id}")
        return _parse_user(body) if body else None

    async def find_user_by(self, *, email: str | None = None, external_id: str | None = None) -> Observation | None:
        """See Accounts.find_user_by."""
        wanted: QueryParams = [("email_address", email)] if email else [("external_id", external_id)]
        body = await self._backend.send("GET", "users", params=[*wanted, ("limit", 1)])
        found: list[msgspec.Raw] = decode_response(body, list[msgspec.Raw])
        return _parse_user(bytes(found[0])) if found else None

    async def create_user(self, user: NewClerkUser) -> Observation:
        """See Accounts.create_user."""
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
        """See Accounts.update_user."""
        return _parse_user(await self._backend.send("PATCH", f"users/{user_id}", json=msgspec.to_builtins(update)))

    async def merge_public_metadata(self, user_id: ClerkId, metadata: dict[str, Any]) -> Observation:
        """See Accounts.set_metadata."""
        return _parse_user(
            await self._backend.send("PATCH", f"users/{user_id}/metadata", json={"public_metadata": metadata})
        )

    async def set_password(self, user_id: ClerkId, password: str) -> Observation:
        """See Accounts.set_password."""
        return _parse_user(await self._backend.send("PATCH", f"users/{user_id}", json={"password": password}))

    async def replace_email(self, user_id: ClerkId, email: str) -> Observation:
        """See Accounts.replace_email. Clerk answers with the address alone, so the user is read again."""
        wanted = {"email_address": email, "notify_primary_email_address_changed": True}
        await self._backend.send("PUT", f"users/{user_id}/email_address", json=wanted)
        found = await self.find_user(user_id)
        if found is None:
            raise ClerkUnavailableError("The user is not in Clerk any more.")
        return found

    async def list_emails(self, user_id: ClerkId) -> list[ClerkEmailAddress]:
        """See Accounts.list_emails."""
        body = await self._backend.find(f"users/{user_id}")
        return parsing.to_email_addresses(decode_response(body, parsing.ClerkUserPayload)) if body else []

    async def add_email(self, user_id: ClerkId, email: str) -> ClerkEmailAddress:
        """See Accounts.add_email."""
        wanted = {"user_id": user_id, "email_address": email, "verified": False}
        return parsing.to_email_address(
            decode_response(await self._backend.send("POST", "email_addresses", json=wanted), parsing.ClerkEmailPayload)
        )

    async def send_code(self, email_id: ClerkId) -> VerificationCode:
        """See Accounts.send_code."""
        body = await self._backend.send("POST", f"email_addresses/{email_id}/prepare_verification")
        sent: _EmailVerification = decode_response(body, _EmailVerification)
        return VerificationCode(verification=sent.id, expires_at=sent.expire_at)

    async def verify_code(self, email_id: ClerkId, verification_id: str, code: str) -> str:
        """See Accounts.try_code. Clerk answers a wrong code with 200, and refuses one that was accepted before."""
        wanted = {"verification_id": verification_id, "code": code}
        try:
            body = await self._backend.send("POST", f"email_addresses/{email_id}/attempt_verification", json=wanted)
        except ClerkRejectedError as error:
            if error.code == "verification_already_verified":
                return "verified"
            raise
        tried: _EmailVerification = decode_response(body, _EmailVerification)
        return tried.status

    async def set_primary_email(self, user_id: ClerkId, email_id: ClerkId) -> Observation:
        """See Accounts.make_primary."""
        wanted = {"primary_email_address_id": email_id, "notify_primary_email_address_changed": True}
        return _parse_user(await self._backend.send("PATCH", f"users/{user_id}", json=wanted))

    async def remove_email(self, email_id: ClerkId) -> None:
        """See Accounts.remove_email."""
        try:
            await self._backend.send("DELETE", f"email_addresses/{email_id}")
        except ClerkRejectedError as error:
            if error.status != 404:
                raise

    async def delete_user(self, user_id: ClerkId) -> Tombstone:
        """See Accounts.delete_user."""
        try:
            await self._backend.send("DELETE", f"users/{user_id}")
        except ClerkRejectedError as error:
            if error.status != 404:
                raise
        return Tombstone(EntityKey("user", user_id))

    async def ban_user(self, user_id: ClerkId) -> Observation:
        """See Accounts.ban_user."""
        return _parse_user(await self._backend.send("POST", f"users/{user_id}/ban"))

    async def unban_user(self, user_id: ClerkId) -> Observation:
        """See Accounts.unban_user."""
        return _parse_user(await self._backend.send("POST", f"users/{user_id}/unban"))

    async def count_sessions(self, user_id: ClerkId) -> int:
        """See Accounts.count_sessions."""
        return len(await self._active_sessions(user_id))

    async def list_sessions(self, user_id: ClerkId) -> list[ActiveSession]:
        """See Accounts.list_sessions."""
        listed, bad = parsing.parse_rows(_Session, await self._active_sessions(user_id))
        for why in bad:
            log.warning("unreadable_session", user=user_id, why=why)
        found = [_to_open_session(it) for it in listed]
        return sorted(found, key=lambda it: it.last_active_at, reverse=True)

    async def revoke_all_sessions(self, user_id: ClerkId) -> int:
        """See Accounts.end_sessions."""
        sessions = [parse_id(it) for it in await self._active_sessions(user_id)]
        for session in sessions:
            if session is not None:
                await self.revoke_session(session)
        if None in sessions:
            raise ClerkUnavailableError("Clerk lists a session without an id: whether all have ended is not known.")
        return len(sessions)

    async def _active_sessions(self, id: ClerkId) -> list[msgspec.Raw]:
        wanted: QueryParams = [("user_id", id), ("status", "active"), ("limit", 500)]
        found: list[msgspec.Raw] = decode_response(
            await self._backend.send("GET", "sessions", params=wanted), list[msgspec.Raw]
        )
        return found

    async def revoke_session(self, session_id: str) -> None:
        """End a session in Clerk; one that is over already is fine."""
        try:
            await self._backend.send("POST", f"sessions/{session_id}/revoke")
        except ClerkRejectedError as error:
            if error.status not in (400, 404):
                raise


def _to_open_session(it: _Session) -> ActiveSession:
    seen = it.latest_activity or _SessionActivity()
    return ActiveSession(
        id=it.id,
        created_at=it.created_at or 0,
        last_active_at=it.last_active_at or 0,
        device=", ".join(part for part in (seen.browser_name, seen.device_type) if part),
        place=", ".join(part for part in (seen.city, seen.country) if part),
        ip_address=seen.ip_address or "",
    )


def _parse_user(body: bytes) -> Observation:
    """Raises ClerkUnavailableError for what can't be read."""
    try:
        return parsing.to_user(decode_response(body, parsing.ClerkUserPayload))
    except parsing.UnreadableDataError as error:
        raise ClerkUnavailableError(str(error)) from error
