"""Reading Clerk: the directory, sessions, and the public keys."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import structlog

from instep.clerk import wire
from instep.clerk.call import Backend, Params, decode
from instep.clerk.pages import id_of
from instep.identity.addresses import canonical, stored_forms
from instep.identity.events import Absent, Found, News, Seen, UnreadableAnswer
from instep.identity.model import ClerkId, Entity, Invitations, Key, Membership
from instep.identity.ports import ProviderRefused
from instep.identity.roles import InstanceRoles
from instep.identity.rules import AskAgain
from instep.identity.session import SessionState
from instep.kit.pace import Urgency

W = TypeVar("W", bound=msgspec.Struct)
log = structlog.get_logger(__name__)
PAGE = 500
IDS_PER_PAGE = 100
ADDRESSES_PER_PAGE = 100
MAX_INVITATION_PAGES = 4
_NO_ORGANIZATIONS = (402, 403)


"""How Clerk answers where the instance has no organizations: by its plan, or since they are switched off."""


class _Rows(msgspec.Struct):
    """A page of which each row is read by itself."""

    data: list[msgspec.Raw]
    total_count: int = 0


class _Roles(msgspec.Struct):
    data: list[wire.RoleWire]
    total_count: int = 0


class _Settings(msgspec.Struct):
    domains_default_role: str | None = None


class _Count(msgspec.Struct):
    total_count: int


class _Instance(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Session(msgspec.Struct):
    id: str
    user_id: str
    status: str
    last_active_organization_id: str | None = None


class Reading:
    """The reading half of ClerkClient: see identity.ports.Directory and access.ports.SessionSource."""

    _backend: Backend

    async def find_instance(self) -> str | None:
        """See Directory.find_instance (GET /v1/instance); None for a key that may not ask (403 or 404)."""
        try:
            body = await self._backend.at(Urgency.REFETCH).send("GET", "instance")
        except ProviderRefused as error:
            if error.status in (403, 404):
                return None
            raise
        found: _Instance = decode(body, _Instance)
        return found.id

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
        found, bad = _read_rows(wire.UserWire, wire.to_user, decode(body, list[msgspec.Raw]))
        missing = set(ids) - {news.key.id for news in found}
        # A bad row without an id may be anybody's of those that are missing.
        why = {id: bad[id] if id in bad else bad.get(None) for id in missing}
        return [*found, *(_not_shown(Key("user", id), why[id]) for id in missing)]

    async def _look_organization(self, key: Key) -> list[Found]:
        try:
            body = await self._backend.at(Urgency.REFETCH).send("GET", f"organizations/{key.id}")
        except ProviderRefused as error:
            if error.status == 404:
                return [Absent(key)]
            raise
        found, bad = _read_rows(wire.OrganizationWire, wire.to_organization, [msgspec.Raw(body)])
        return [*found, *(UnreadableAnswer(key, why) for why in bad.values())]

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
        found, bad = _read_rows(wire.MembershipWire, wire.to_membership, decode(body, _Rows).data)
        why = next(iter(bad.values()), None)
        return [news for news in found if news.key == ask.key] or [_not_shown(ask.key, why, ask.entity)]

    async def list_memberships_of(self, user: ClerkId) -> list[News]:
        """See Directory.list_memberships_of; without those that can't be read (logged)."""
        body = await self._backend.find(f"users/{user}/organization_memberships", params=[("limit", PAGE)])
        found, bad = wire.read_all(wire.MembershipWire, decode(body, _Rows).data if body else [])
        for why in bad:
            log.warning("unreadable_membership", user=user, why=why)
        return [news for it in found for news in (wire.to_embedded(it.organization), wire.to_membership(it))]

    async def list_invitations(
        self, organization: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> Invitations:
        """See Directory.list_invitations; the newest 2,000 at the most, without those that can't be read (counted)."""
        found = Invitations()
        for page in range(MAX_INVITATION_PAGES):
            params: Params = [("limit", str(PAGE)), ("offset", str(page * PAGE)), ("order_by", "-created_at")]
            params += [("status", status) for status in statuses]
            params += [("email_address", email)] if email else []
            body = await self._backend.send("GET", f"organizations/{organization}/invitations", params=params)
            listed = decode(body, _Rows)
            good, bad = wire.read_all(wire.InvitationWire, listed.data)
            found += [wire.to_invitation(it) for it in good]
            found.unreadable += len(bad)
            for why in bad:
                log.warning("unreadable_invitation", organization=organization, why=why)
            if len(listed.data) < PAGE or (page + 1) * PAGE >= listed.total_count:
                break
        return found

    async def find_holders(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """See Directory.find_holders: up to 100 addresses a call."""
        forms = sorted({form for email in emails for form in stored_forms(email)})
        wanted = {canonical(email) for email in emails}
        found: dict[str, ClerkId] = {}
        for place in range(0, len(forms), ADDRESSES_PER_PAGE):
            params: Params = [("email_address", form) for form in forms[place : place + ADDRESSES_PER_PAGE]]
            body = await self._backend.send("GET", "users", params=[*params, ("limit", str(PAGE))])
            users, _ = wire.read_all(wire.UserWire, decode(body, list[msgspec.Raw]))
            for user in users:
                theirs = {canonical(it.email) for it in wire.to_emails(user)}
                found |= dict.fromkeys(theirs & wanted, ClerkId(user.id))
        return found

    async def list_roles(self) -> InstanceRoles:
        """See RoleSource.list_roles. Where the instance has no organizations, there are none."""
        found: list[wire.RoleWire] = []
        read = 0
        while True:
            params: Params = [("limit", str(PAGE)), ("offset", str(read))]
            try:
                body = await self._backend.find("organization_roles", params=params)
            except ProviderRefused as error:
                if error.status not in _NO_ORGANIZATIONS:
                    raise
                body = None
            listed: _Rows = decode(body, _Rows) if body else _Rows([])
            good, bad = wire.read_all(wire.RoleWire, listed.data)
            for why in bad:
                log.warning("unreadable_role", why=why)
            found += good
            read += len(listed.data)
            if not listed.data or read >= listed.total_count:
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


def _read_rows(
    type_: type[W], say: Callable[[W], Seen], raws: Sequence[msgspec.Raw]
) -> tuple[list[Seen], dict[str | None, str]]:
    """Rows in our words, and why each other one can't be read, by its id (None: not even that can be read)."""
    found: list[Seen] = []
    bad: dict[str | None, str] = {}
    read = msgspec.json.Decoder(type_).decode
    for raw in raws:
        try:
            found.append(say(wire.read(read, raw)))
        except wire.Unreadable as error:
            bad[id_of(raw)] = str(error)
    return found, bad


def _not_shown(key: Key, why: str | None, entity: Entity | None = None) -> Found:
    """What Clerk did not show: absent, unless it may be the row that can't be read."""
    return Absent(key, entity) if why is None else UnreadableAnswer(key, why)
