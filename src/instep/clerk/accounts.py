"""Changing users in Clerk; see identity.ports.Accounts."""

from typing import Any

import msgspec
import structlog

from instep.clerk import wire
from instep.clerk.call import Backend, Params, decode
from instep.clerk.pages import id_of
from instep.identity.events import Gone, Seen
from instep.identity.model import ClerkId, Code, EmailAddress, Key, NewUser, ProfileChange
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.identity.session import OpenSession

log = structlog.get_logger(__name__)


class _Activity(msgspec.Struct):
    device_type: str | None = None
    browser_name: str | None = None
    city: str | None = None
    country: str | None = None
    ip_address: str | None = None


class _Session(msgspec.Struct):
    id: str
    created_at: wire.At | None = 0
    last_active_at: wire.At | None = 0
    latest_activity: _Activity | None = None


class _Verification(msgspec.Struct):
    id: str
    status: str = "unverified"
    expire_at: wire.At | None = None


class Accounts:
    """The half of ClerkClient that changes users."""

    _backend: Backend

    async def find_user(self, id: ClerkId) -> Seen | None:
        """See Accounts.find_user."""
        body = await self._backend.find(f"users/{id}")
        return _user(body) if body else None

    async def find_user_by(self, *, email: str | None = None, external_id: str | None = None) -> Seen | None:
        """See Accounts.find_user_by."""
        wanted: Params = [("email_address", email)] if email else [("external_id", external_id)]
        body = await self._backend.send("GET", "users", params=[*wanted, ("limit", 1)])
        found: list[msgspec.Raw] = decode(body, list[msgspec.Raw])
        return _user(bytes(found[0])) if found else None

    async def create_user(self, wanted: NewUser) -> Seen:
        """See Accounts.create_user."""
        fields: dict[str, Any] = {
            "email_address": [wanted.email],
            "external_id": wanted.external_id,
            "first_name": wanted.first_name,
            "last_name": wanted.last_name,
            "username": wanted.username,
            "public_metadata": wanted.public_metadata or None,
            "skip_password_requirement": True,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return _user(await self._backend.send("POST", "users", json=given))

    async def update_user(self, id: ClerkId, change: ProfileChange) -> Seen:
        """See Accounts.update_user."""
        return _user(await self._backend.send("PATCH", f"users/{id}", json=msgspec.to_builtins(change)))

    async def set_metadata(self, id: ClerkId, public: dict[str, Any]) -> Seen:
        """See Accounts.set_metadata."""
        return _user(await self._backend.send("PATCH", f"users/{id}/metadata", json={"public_metadata": public}))

    async def set_password(self, id: ClerkId, password: str) -> Seen:
        """See Accounts.set_password."""
        return _user(await self._backend.send("PATCH", f"users/{id}", json={"password": password}))

    async def replace_email(self, id: ClerkId, email: str) -> Seen:
        """See Accounts.replace_email. Clerk answers with the address alone, so the user is read again."""
        wanted = {"email_address": email, "notify_primary_email_address_changed": True}
        await self._backend.send("PUT", f"users/{id}/email_address", json=wanted)
        found = await self.find_user(id)
        if found is None:
            raise ProviderDown("The user is not in Clerk any more.")
        return found

    async def list_emails(self, id: ClerkId) -> list[EmailAddress]:
        """See Accounts.list_emails."""
        body = await self._backend.find(f"users/{id}")
        return wire.to_emails(decode(body, wire.UserWire)) if body else []

    async def add_email(self, id: ClerkId, email: str) -> EmailAddress:
        """See Accounts.add_email."""
        wanted = {"user_id": id, "email_address": email, "verified": False}
        return wire.to_email(decode(await self._backend.send("POST", "email_addresses", json=wanted), wire.EmailWire))

    async def send_code(self, email: ClerkId) -> Code:
        """See Accounts.send_code."""
        body = await self._backend.send("POST", f"email_addresses/{email}/prepare_verification")
        sent: _Verification = decode(body, _Verification)
        return Code(verification=sent.id, expires_at=sent.expire_at)

    async def try_code(self, email: ClerkId, verification: str, code: str) -> str:
        """See Accounts.try_code. Clerk answers a wrong code with 200, and refuses one that was accepted before."""
        wanted = {"verification_id": verification, "code": code}
        try:
            body = await self._backend.send("POST", f"email_addresses/{email}/attempt_verification", json=wanted)
        except ProviderRefused as error:
            if error.code == "verification_already_verified":
                return "verified"
            raise
        tried: _Verification = decode(body, _Verification)
        return tried.status

    async def make_primary(self, id: ClerkId, email: ClerkId) -> Seen:
        """See Accounts.make_primary."""
        wanted = {"primary_email_address_id": email, "notify_primary_email_address_changed": True}
        return _user(await self._backend.send("PATCH", f"users/{id}", json=wanted))

    async def remove_email(self, email: ClerkId) -> None:
        """See Accounts.remove_email."""
        try:
            await self._backend.send("DELETE", f"email_addresses/{email}")
        except ProviderRefused as error:
            if error.status != 404:
                raise

    async def delete_user(self, id: ClerkId) -> Gone:
        """See Accounts.delete_user."""
        try:
            await self._backend.send("DELETE", f"users/{id}")
        except ProviderRefused as error:
            if error.status != 404:
                raise
        return Gone(Key("user", id))

    async def ban_user(self, id: ClerkId) -> Seen:
        """See Accounts.ban_user."""
        return _user(await self._backend.send("POST", f"users/{id}/ban"))

    async def unban_user(self, id: ClerkId) -> Seen:
        """See Accounts.unban_user."""
        return _user(await self._backend.send("POST", f"users/{id}/unban"))

    async def count_sessions(self, id: ClerkId) -> int:
        """See Accounts.count_sessions."""
        return len(await self._active_sessions(id))

    async def list_sessions(self, id: ClerkId) -> list[OpenSession]:
        """See Accounts.list_sessions."""
        listed, bad = wire.read_all(_Session, await self._active_sessions(id))
        for why in bad:
            log.warning("unreadable_session", user=id, why=why)
        found = [_open_session(it) for it in listed]
        return sorted(found, key=lambda it: it.last_active_at, reverse=True)

    async def end_sessions(self, id: ClerkId) -> int:
        """See Accounts.end_sessions."""
        sessions = [id_of(it) for it in await self._active_sessions(id)]
        for session in sessions:
            if session is not None:
                await self.revoke_session(session)
        if None in sessions:
            raise ProviderDown("Clerk lists a session without an id: whether all have ended is not known.")
        return len(sessions)

    async def _active_sessions(self, id: ClerkId) -> list[msgspec.Raw]:
        wanted: Params = [("user_id", id), ("status", "active"), ("limit", 500)]
        found: list[msgspec.Raw] = decode(await self._backend.send("GET", "sessions", params=wanted), list[msgspec.Raw])
        return found

    async def revoke_session(self, id: str) -> None:
        """End a session in Clerk; one that is over already is fine."""
        try:
            await self._backend.send("POST", f"sessions/{id}/revoke")
        except ProviderRefused as error:
            if error.status not in (400, 404):
                raise


def _open_session(it: _Session) -> OpenSession:
    seen = it.latest_activity or _Activity()
    return OpenSession(
        id=it.id,
        created_at=it.created_at or 0,
        last_active_at=it.last_active_at or 0,
        device=", ".join(part for part in (seen.browser_name, seen.device_type) if part),
        place=", ".join(part for part in (seen.city, seen.country) if part),
        ip_address=seen.ip_address or "",
    )


def _user(body: bytes) -> Seen:
    """Raises ProviderDown for what can't be read."""
    try:
        return wire.to_user(decode(body, wire.UserWire))
    except wire.Unreadable as error:
        raise ProviderDown(str(error)) from error
