"""Reading Clerk: the directory, sessions, and the public keys."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from instep.clerk import wire
from instep.clerk.call import Backend, Params, decode
from instep.identity.events import Absent, Found, News
from instep.identity.model import ClerkId, Invitation, Key, Membership
from instep.identity.ports import ProviderRefused
from instep.identity.roles import InstanceRoles
from instep.identity.rules import AskAgain
from instep.identity.session import SessionState
from instep.kit.pace import Urgency

log = structlog.get_logger(__name__)

PAGE = 500
IDS_PER_PAGE = 100
MAX_INVITATION_PAGES = 4
_NO_ORGANIZATIONS = (402, 403)
"""How Clerk answers where the instance has no organizations: by its plan, or since they are switched off."""


class _Memberships(msgspec.Struct):
    data: list[wire.MembershipWire]


class _Invitations(msgspec.Struct):
    data: list[msgspec.Raw]
    total_count: int = 0


class _Roles(msgspec.Struct):
    data: list[wire.RoleWire]
    total_count: int = 0


class _Settings(msgspec.Struct):
    domains_default_role: str | None = None


class _Count(msgspec.Struct):
    total_count: int


class _Session(msgspec.Struct):
    id: str
    user_id: str
    status: str
    last_active_organization_id: str | None = None


class Reading:
    """The reading half of ClerkClient: see identity.ports.Directory and access.ports.SessionSource."""

    _backend: Backend

    async def look(self, asks: Sequence[AskAgain]) -> list[Found]:
        """See Directory.look: users by up to 100 ids a call, the others side by side."""
        users = [ask.key.id for ask in asks if ask.key.kind == "user"]
        batches = [users[i : i + IDS_PER_PAGE] for i in range(0, len(users), IDS_PER_PAGE)]
        reads = [self._look_users(batch) for batch in batches]
        reads += [self._look_organization(ask.key) for ask in asks if ask.key.kind == "organization"]
        reads += [self._look_membership(ask) for ask in asks if ask.key.kind == "membership"]
        return [news for found in await asyncio.gather(*reads) for news in found]

    async def _look_users(self, ids: Sequence[ClerkId]) -> list[Found]:
        params: Params = [("user_id", id) for id in ids] + [("limit", str(len(ids)))]
        body = await self._backend.at(Urgency.REFETCH).send("GET", "users", params=params)
        found = [wire.to_user(it) for it in decode(body, list[wire.UserWire])]
        missing = set(ids) - {news.key.id for news in found}
        return [*found, *(Absent(Key("user", id)) for id in missing)]

    async def _look_organization(self, key: Key) -> list[Found]:
        try:
            body = await self._backend.at(Urgency.REFETCH).send("GET", f"organizations/{key.id}")
        except ProviderRefused as error:
            if error.status == 404:
                return [Absent(key)]
            raise
        return [wire.to_organization(decode(body, wire.OrganizationWire))]

    async def _look_membership(self, ask: AskAgain) -> list[Found]:
        if not isinstance(ask.entity, Membership):
            return []
        path = f"organizations/{ask.entity.organization}/memberships"
        try:
            body = await self._backend.at(Urgency.REFETCH).send(
                "GET", path, params=[("user_id", ask.entity.user), ("limit", "1")]
            )
        except ProviderRefused as error:
            if error.status == 404:
                return [Absent(ask.key, ask.entity)]
            raise
        found = [wire.to_membership(it) for it in decode(body, _Memberships).data]
        return [news for news in found if news.key == ask.key] or [Absent(ask.key, ask.entity)]

    async def list_memberships_of(self, user: ClerkId) -> list[News]:
        """See Directory.list_memberships_of: the organizations and the memberships, each as Clerk has it now."""
        body = await self._backend.find(f"users/{user}/organization_memberships", params=[("limit", PAGE)])
        found = decode(body, _Memberships).data if body else []
        return [news for it in found for news in (wire.to_embedded(it.organization), wire.to_membership(it))]

    async def list_invitations(
        self, organization: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> list[Invitation]:
        """See Directory.list_invitations; the newest 2,000 at the most, without those that can't be read (logged)."""
        found: list[Invitation] = []
        for page in range(MAX_INVITATION_PAGES):
            params: Params = [("limit", str(PAGE)), ("offset", str(page * PAGE)), ("order_by", "-created_at")]
            params += [("status", status) for status in statuses]
            params += [("email_address", email)] if email else []
            body = await self._backend.send("GET", f"organizations/{organization}/invitations", params=params)
            listed = decode(body, _Invitations)
            good, bad = wire.read_all(wire.InvitationWire, listed.data)
            found += [wire.to_invitation(it) for it in good]
            for why in bad:
                log.warning("unreadable_invitation", organization=organization, why=why)
            if len(listed.data) < PAGE or (page + 1) * PAGE >= listed.total_count:
                break
        return found

    async def list_roles(self) -> InstanceRoles:
        """See RoleSource.list_roles. Where the instance has no organizations, there are none."""
        found: list[wire.RoleWire] = []
        while True:
            params: Params = [("limit", str(PAGE)), ("offset", str(len(found)))]
            try:
                body = await self._backend.find("organization_roles", params=params)
            except ProviderRefused as error:
                if error.status not in _NO_ORGANIZATIONS:
                    raise
                body = None
            listed: _Roles = decode(body, _Roles) if body else _Roles([])
            found += listed.data
            if not listed.data or len(found) >= listed.total_count:
                break
        settings = await self._backend.find("instance/organization_settings") if found else None
        default = decode(settings, _Settings).domains_default_role if settings else None
        return InstanceRoles([wire.to_role(it) for it in found], default)

    async def count_users(self) -> int:
        """How many users the instance has."""
        counted: _Count = decode(await self._backend.send("GET", "users/count"), _Count)
        return counted.total_count

    async def find_session(self, id: str) -> SessionState | None:
        """A session's present state, None where Clerk has no such session."""
        try:
            it = decode(await self._backend.send("GET", f"sessions/{id}"), _Session)
        except ProviderRefused as error:
            if error.status == 404:
                return None
            raise
        return SessionState(it.id, it.user_id, it.status, it.last_active_organization_id)

    async def fetch_jwks(self) -> dict[str, Any]:
        """The instance's public keys (RFC 7517)."""
        keys: dict[str, Any] = decode(await self._backend.send("GET", "jwks"), dict[str, Any])
        return keys
