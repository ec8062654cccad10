"""Client of Clerk's Backend API: reads users, organizations, sessions and keys, and combines the write mixins."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import httpx2
import msgspec
import structlog

from instep.clerk import parsing
from instep.clerk.http import API_VERSION, ClerkHttpClient, QueryParams, decode_response
from instep.clerk.instance_scanner import InstanceScanner
from instep.clerk.invitations import ApplicationInvitationsMixin
from instep.clerk.organizations import OrganizationsMixin
from instep.clerk.pagination import ClerkPageReader
from instep.clerk.parsing import parse_id
from instep.clerk.rate_limiter import ClerkRateLimiter
from instep.clerk.sliding_window import RequestPriority
from instep.clerk.users import UsersMixin
from instep.domain.emails import canonicalize_email, list_stored_forms
from instep.domain.errors import ClerkRejectedError
from instep.domain.events import Absence, EntityState, LookupResult, Observation, UnreadableEntity
from instep.domain.models import ClerkId, ClerkInvitationList, ClerkMembership, ClerkSession, Entity, EntityKey
from instep.domain.reconcile import NeedsRefetch
from instep.domain.roles import InstanceRoles

__all__ = ["API_VERSION", "ClerkClient"]


class ReaderMixin:
    """The reading half of ClerkClient: see identity.ports.Directory and access.ports.SessionsApi."""

    _backend: ClerkHttpClient

    async def find_instance(self) -> str | None:
        """See Directory.find_instance (GET /v1/instance); None for a key that may not ask (403 or 404)."""
        try:
            body = await self._backend.at(RequestPriority.REFETCH).send("GET", "instance")
        except ClerkRejectedError as error:
            if error.status in (403, 404):
                return None
            raise
        found: _InstancePayload = decode_response(body, _InstancePayload)
        return found.id

    async def fetch(self, requests: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """See Directory.look: users by up to 100 ids a call, the others side by side."""
        users = [ask.key.id for ask in requests if ask.key.kind == "user"]
        batches = [users[i : i + IDS_PER_PAGE] for i in range(0, len(users), IDS_PER_PAGE)]
        reads = [self._look_users(batch) for batch in batches]
        reads += [self._look_organization(ask.key) for ask in requests if ask.key.kind == "organization"]
        reads += [self._look_membership(ask) for ask in requests if ask.key.kind == "membership"]
        return [news for found in await asyncio.gather(*reads) for news in found]

    async def _look_users(self, ids: Sequence[ClerkId]) -> list[LookupResult]:
        params: QueryParams = [("user_id", id) for id in ids] + [("limit", str(len(ids)))]
        body = await self._backend.at(RequestPriority.REFETCH).send("GET", "users", params=params)
        found, bad = _parse_rows_by_id(
            parsing.ClerkUserPayload, parsing.to_user, decode_response(body, list[msgspec.Raw])
        )
        missing = set(ids) - {news.key.id for news in found}
        # A bad row without an id may be anybody's of those that are missing.
        why = {id: bad[id] if id in bad else bad.get(None) for id in missing}
        return [*found, *(_to_absent_or_unreadable(EntityKey("user", id), why[id]) for id in missing)]

    async def _look_organization(self, key: EntityKey) -> list[LookupResult]:
        try:
            body = await self._backend.at(RequestPriority.REFETCH).send("GET", f"organizations/{key.id}")
        except ClerkRejectedError as error:
            if error.status == 404:
                return [Absence(key)]
            raise
        found, bad = _parse_rows_by_id(parsing.ClerkOrganizationPayload, parsing.to_organization, [msgspec.Raw(body)])
        return [*found, *(UnreadableEntity(key, why) for why in bad.values())]

    async def _look_membership(self, ask: NeedsRefetch) -> list[LookupResult]:
        if not isinstance(ask.entity, ClerkMembership):
            return []
        path = f"organizations/{ask.entity.organization}/memberships"
        try:
            body = await self._backend.at(RequestPriority.REFETCH).send(
                "GET", path, params=[("user_id", ask.entity.user), ("limit", "1")]
            )
        except ClerkRejectedError as error:
            if error.status == 404:
                return [Absence(ask.key, ask.entity)]
            raise
        found, bad = _parse_rows_by_id(
            parsing.ClerkMembershipPayload, parsing.to_membership, decode_response(body, _RowsPayload).data
        )
        why = next(iter(bad.values()), None)
        return [news for news in found if news.key == ask.key] or [_to_absent_or_unreadable(ask.key, why, ask.entity)]

    async def list_user_memberships(self, user_id: ClerkId) -> list[EntityState]:
        """See Directory.list_memberships_of; without those that can't be read (logged)."""
        body = await self._backend.find(f"users/{user_id}/organization_memberships", params=[("limit", PAGE_SIZE)])
        found, bad = parsing.parse_rows(
            parsing.ClerkMembershipPayload, decode_response(body, _RowsPayload).data if body else []
        )
        for why in bad:
            log.warning("unreadable_membership", user=user_id, why=why)
        return [
            news
            for it in found
            for news in (parsing.to_embedded_organization(it.organization), parsing.to_membership(it))
        ]

    async def list_invitations(
        self, organization_id: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> ClerkInvitationList:
        """See Directory.list_invitations; the newest 2,000 at the most, without those that can't be read (counted)."""
        found = ClerkInvitationList()
        for page in range(MAX_INVITATION_PAGES):
            params: QueryParams = [
                ("limit", str(PAGE_SIZE)),
                ("offset", str(page * PAGE_SIZE)),
                ("order_by", "-created_at"),
            ]
            params += [("status", status) for status in statuses]
            params += [("email_address", email)] if email else []
            body = await self._backend.send("GET", f"organizations/{organization_id}/invitations", params=params)
            listed = decode_response(body, _RowsPayload)
            good, bad = parsing.parse_rows(parsing.ClerkInvitationPayload, listed.data)
            found += [parsing.to_invitation(it) for it in good]
            found.unreadable += len(bad)
            for why in bad:
                log.warning("unreadable_invitation", organization=organization_id, why=why)
            if len(listed.data) < PAGE_SIZE or (page + 1) * PAGE_SIZE >= listed.total_count:
                break
        return found

    async def find_user_ids_by_email(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """See Directory.find_holders: up to 100 addresses a call."""
        forms = sorted({form for email in emails for form in list_stored_forms(email)})
        wanted = {canonicalize_email(email) for email in emails}
        found: dict[str, ClerkId] = {}
        for place in range(0, len(forms), ADDRESSES_PER_PAGE):
            params: QueryParams = [("email_address", form) for form in forms[place : place + ADDRESSES_PER_PAGE]]
            body = await self._backend.send("GET", "users", params=[*params, ("limit", str(PAGE_SIZE))])
            users, _ = parsing.parse_rows(parsing.ClerkUserPayload, decode_response(body, list[msgspec.Raw]))
            for user in users:
                theirs = {canonicalize_email(it.email) for it in parsing.to_email_addresses(user)}
                found |= dict.fromkeys(theirs & wanted, ClerkId(user.id))
        return found

    async def list_roles(self) -> InstanceRoles:
        """See RolesApi.list_roles. Where the instance has no organizations, there are none."""
        found: list[parsing.ClerkRolePayload] = []
        read = 0
        while True:
            params: QueryParams = [("limit", str(PAGE_SIZE)), ("offset", str(read))]
            try:
                body = await self._backend.find("organization_roles", params=params)
            except ClerkRejectedError as error:
                if error.status not in _ORGANIZATIONS_DISABLED_STATUSES:
                    raise
                body = None
            listed: _RowsPayload = decode_response(body, _RowsPayload) if body else _RowsPayload([])
            good, bad = parsing.parse_rows(parsing.ClerkRolePayload, listed.data)
            for why in bad:
                log.warning("unreadable_role", why=why)
            found += good
            read += len(listed.data)
            if not listed.data or read >= listed.total_count:
                break
        settings = await self._backend.find("instance/organization_settings") if found else None
        default = decode_response(settings, _OrganizationSettings).domains_default_role if settings else None
        return InstanceRoles([parsing.to_role(it) for it in found], default)

    async def count_users(self) -> int:
        """How many users the instance has."""
        counted: _CountPayload = decode_response(await self._backend.send("GET", "users/count"), _CountPayload)
        return counted.total_count

    async def find_session(self, id: str) -> ClerkSession | None:
        """A session's present state, None where Clerk has no such session."""
        try:
            it = decode_response(await self._backend.send("GET", f"sessions/{id}"), _SessionPayload)
        except ClerkRejectedError as error:
            if error.status == 404:
                return None
            raise
        return ClerkSession(it.id, it.user_id, it.status, it.last_active_organization_id)

    async def fetch_jwks(self) -> dict[str, Any]:
        """The instance's public keys (RFC 7517)."""
        keys: dict[str, Any] = decode_response(await self._backend.send("GET", "jwks"), dict[str, Any])
        return keys


class ClerkClient(ReaderMixin, OrganizationsMixin, UsersMixin, ApplicationInvitationsMixin):
    """One Clerk instance: Directory, Actor, Accounts and the sessions in one.

    `secret_key` None means that Clerk is not configured: every call raises ClerkRejectedError `not_configured`.
    `timeout` is in seconds; `transport` stands in for the network in tests. `pacer` None: no call waits.
    """

    def __init__(
        self,
        secret_key: str | None,
        *,
        api_url: str = "https://api.clerk.com",
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        pacer: ClerkRateLimiter | None = None,
    ) -> None:
        self._backend = ClerkHttpClient(secret_key, api_url=api_url, timeout=timeout, transport=transport, pacer=pacer)

    def everything(self) -> InstanceScanner:
        """Reading all of it, page by page."""
        return InstanceScanner(ClerkPageReader(self._backend.at(RequestPriority.BACKFILL)))

    async def close(self) -> None:
        """Close the connections."""
        await self._backend.close()


W = TypeVar("W", bound=msgspec.Struct)
log = structlog.get_logger(__name__)
PAGE_SIZE = 500
IDS_PER_PAGE = 100
ADDRESSES_PER_PAGE = 100
MAX_INVITATION_PAGES = 4
_ORGANIZATIONS_DISABLED_STATUSES = (402, 403)


"""How Clerk answers where the instance has no organizations: by its plan, or since they are switched off."""


class _RowsPayload(msgspec.Struct):
    """A page of which each row is read by itself."""

    data: list[msgspec.Raw]
    total_count: int = 0


class _RolesPayload(msgspec.Struct):
    data: list[parsing.ClerkRolePayload]
    total_count: int = 0


class _OrganizationSettings(msgspec.Struct):
    domains_default_role: str | None = None


class _CountPayload(msgspec.Struct):
    total_count: int


class _InstancePayload(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _SessionPayload(msgspec.Struct):
    id: str
    user_id: str
    status: str
    last_active_organization_id: str | None = None


def _parse_rows_by_id(
    type_: type[W], say: Callable[[W], Observation], raws: Sequence[msgspec.Raw]
) -> tuple[list[Observation], dict[str | None, str]]:
    """Rows in our words, and why each other one can't be read, by its id (None: not even that can be read)."""
    found: list[Observation] = []
    bad: dict[str | None, str] = {}
    read = msgspec.json.Decoder(type_).decode
    for raw in raws:
        try:
            found.append(say(parsing.parse_object(read, raw)))
        except parsing.UnreadableDataError as error:
            bad[parse_id(raw)] = str(error)
    return found, bad


def _to_absent_or_unreadable(key: EntityKey, why: str | None, entity: Entity | None = None) -> LookupResult:
    """What Clerk did not show: absent, unless it may be the row that can't be read."""
    return Absence(key, entity) if why is None else UnreadableEntity(key, why)
