"""Clerk's Backend API over httpx2: a thin client that tells "no" from "don't know".

Every answer becomes one of three: our words, ProviderRefused (Clerk said no and did nothing), or ProviderDown
(no answer, a 5xx, a 429). Nothing is tried again here: whoever calls knows whether that is safe.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx2
import msgspec

from instep.clerk import wire
from instep.identity.events import Gone, News
from instep.identity.model import ClerkId, Invitation, Key, Membership, NewInvitation
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.identity.rules import AskAgain
from instep.identity.session import SessionState

API_VERSION = "2026-05-12"
PAGE = 500
IDS_PER_PAGE = 100
MAX_INVITATION_PAGES = 4
NOT_CONFIGURED = "Clerk authentication not configured. Nothing was changed."

Params = list[tuple[str, str | int | float | bool | None]]


class _ErrorItem(msgspec.Struct):
    code: str = "unknown"
    message: str = ""
    long_message: str | None = None


class _ErrorBody(msgspec.Struct):
    errors: list[_ErrorItem] = []
    clerk_trace_id: str | None = None


class _Memberships(msgspec.Struct):
    data: list[wire.MembershipWire]


class _Count(msgspec.Struct):
    total_count: int


class _Session(msgspec.Struct):
    id: str
    user_id: str
    status: str
    last_active_organization_id: str | None = None


class ClerkClient:
    """Reads and changes one Clerk instance: Directory, Actor and the sessions in one.

    `secret_key` None means that Clerk is not configured: every call raises ProviderRefused `not_configured`.
    `transport` stands in for the network in tests.
    """

    def __init__(
        self,
        secret_key: str | None,
        *,
        api_url: str = "https://api.clerk.com",
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._is_configured = bool(secret_key)
        self._http = httpx2.AsyncClient(
            base_url=f"{api_url.rstrip('/').removesuffix('/v1')}/v1/",
            headers={"Authorization": f"Bearer {secret_key}", "Clerk-API-Version": API_VERSION},
            timeout=timeout,
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def look(self, asks: Sequence[AskAgain]) -> list[News]:
        """See Directory.look: users by up to 100 ids a call, the others side by side."""
        users = [ask.key.id for ask in asks if ask.key.kind == "user"]
        batches = [users[i : i + IDS_PER_PAGE] for i in range(0, len(users), IDS_PER_PAGE)]
        reads = [self._look_users(batch) for batch in batches]
        reads += [self._look_organization(ask.key) for ask in asks if ask.key.kind == "organization"]
        reads += [self._look_membership(ask) for ask in asks if ask.key.kind == "membership"]
        return [news for found in await asyncio.gather(*reads) for news in found]

    async def _look_users(self, ids: Sequence[ClerkId]) -> list[News]:
        params: Params = [("user_id", id) for id in ids] + [("limit", str(len(ids)))]
        body = await self._send("GET", "users", params=params)
        found = [wire.to_user(it) for it in _decode(body, list[wire.UserWire])]
        missing = set(ids) - {news.key.id for news in found}
        return [*found, *(Gone(Key("user", id)) for id in missing)]

    async def _look_organization(self, key: Key) -> list[News]:
        try:
            body = await self._send("GET", f"organizations/{key.id}")
        except ProviderRefused as error:
            if error.status == 404:
                return [Gone(key)]
            raise
        return [wire.to_organization(_decode(body, wire.OrganizationWire))]

    async def _look_membership(self, ask: AskAgain) -> list[News]:
        if not isinstance(ask.entity, Membership):
            return []
        path = f"organizations/{ask.entity.organization}/memberships"
        try:
            body = await self._send("GET", path, params=[("user_id", ask.entity.user), ("limit", "1")])
        except ProviderRefused as error:
            if error.status == 404:
                return [Gone(ask.key, ask.entity)]
            raise
        found = [wire.to_membership(it) for it in _decode(body, _Memberships).data]
        return [news for news in found if news.key == ask.key] or [Gone(ask.key, ask.entity)]

    async def list_invitations(self, organization: ClerkId, *, statuses: Sequence[str]) -> list[Invitation]:
        """See Directory.list_invitations; the newest 2,000 at the most."""
        found: list[Invitation] = []
        for page in range(MAX_INVITATION_PAGES):
            params: Params = [("limit", str(PAGE)), ("offset", str(page * PAGE)), ("order_by", "-created_at")]
            params += [("status", status) for status in statuses]
            body = await self._send("GET", f"organizations/{organization}/invitations", params=params)
            listed = _decode(body, wire.InvitationList)
            found += [wire.to_invitation(it) for it in listed.data]
            if len(listed.data) < PAGE or len(found) >= listed.total_count:
                break
        return found

    async def invite(self, organization: ClerkId, wanted: NewInvitation) -> Invitation:
        """See Actor.invite."""
        fields = {
            "email_address": wanted.email,
            "role": wanted.role,
            "inviter_user_id": wanted.inviter,
            "expires_in_days": wanted.expires_in_days,
            "redirect_url": wanted.redirect_url,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        body = await self._send("POST", f"organizations/{organization}/invitations", json=given)
        return wire.to_invitation(_decode(body, wire.InvitationWire))

    async def count_users(self) -> int:
        """How many users the instance has."""
        counted: _Count = _decode(await self._send("GET", "users/count"), _Count)
        return counted.total_count

    async def find_session(self, id: str) -> SessionState | None:
        """A session's present state, None where Clerk has no such session."""
        try:
            it = _decode(await self._send("GET", f"sessions/{id}"), _Session)
        except ProviderRefused as error:
            if error.status == 404:
                return None
            raise
        return SessionState(it.id, it.user_id, it.status, it.last_active_organization_id)

    async def revoke_session(self, id: str) -> None:
        """End a session in Clerk; one that is over already is fine."""
        try:
            await self._send("POST", f"sessions/{id}/revoke")
        except ProviderRefused as error:
            if error.status not in (400, 404):
                raise

    async def fetch_jwks(self) -> dict[str, Any]:
        """The instance's public keys (RFC 7517)."""
        keys: dict[str, Any] = _decode(await self._send("GET", "jwks"), dict[str, Any])
        return keys

    async def _send(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> bytes:
        if not self._is_configured:
            raise ProviderRefused(NOT_CONFIGURED, code="not_configured", status=401)
        try:
            response = await self._http.request(method, path, params=params, json=json)
        except httpx2.HTTPError as error:
            raise ProviderDown(f"Clerk did not answer ({type(error).__name__}).") from error
        if response.is_success:
            return response.content
        raise _failure(response)


def _decode(body: bytes, type: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProviderDown(f"Clerk's answer can't be read: {error}") from error


def _failure(response: httpx2.Response) -> ProviderDown | ProviderRefused:
    try:
        body = msgspec.json.decode(response.content, type=_ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = _ErrorBody()
    first = body.errors[0] if body.errors else _ErrorItem()
    if response.status_code == 429:
        wait = _retry_after(response)
        return ProviderDown(f"Clerk is limiting us. We will try again in {wait:.0f} s.", retry_after=wait)
    if response.status_code >= 500:
        return ProviderDown(f"Clerk failed with status {response.status_code}.", retry_after=_retry_after(response))
    return ProviderRefused(
        first.long_message or first.message or f"Clerk refused with status {response.status_code}.",
        code=first.code,
        status=response.status_code,
        trace_id=body.clerk_trace_id or response.headers.get("cf-ray"),
    )


def _retry_after(response: httpx2.Response) -> float:
    try:
        return max(1.0, min(float(response.headers.get("retry-after", "")), 3600.0))
    except ValueError:
        return 10.0
