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
from instep.clerk.pagination import PAGE_SIZE, ClerkPageReader
from instep.clerk.parsing import parse_id
from instep.clerk.rate_limiter import ClerkRateLimiter, RequestPriority
from instep.clerk.users import UsersMixin
from instep.domain.emails import canonicalize_email, list_stored_forms
from instep.domain.errors import ClerkRejectedError
from instep.domain.events import Absence, EntityState, LookupResult, Observation, UnreadableEntity
from instep.domain.models import ClerkId, ClerkInvitationList, ClerkMembership, ClerkSession, Entity, EntityKey
from instep.domain.reconcile import NeedsRefetch
from instep.domain.roles import InstanceRoles

__all__ = ["API_VERSION", "ClerkClient"]
log = structlog.get_logger(__name__)
W = TypeVar("W", bound=msgspec.Struct)
IDS_PER_PAGE = 100
ADDRESSES_PER_PAGE = 100
MAX_INVITATION_PAGES = 4
_ORGANIZATIONS_DISABLED_STATUSES = (402, 403)  # responses of an instance whose plan or settings have no organizations


class _RowsPayload(msgspec.Struct):
    """A page whose rows are decoded one by one."""

    data: list[msgspec.Raw]
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


class ReaderMixin:
    """Read methods of ClerkClient. Implements ClerkReader, RolesApi and SessionsApi."""

    _backend: ClerkHttpClient

    async def find_instance(self) -> str | None:
        """Return the instance's id; None if the key may not read it (status 403 or 404)."""
        try:
            body = await self._backend.with_priority(RequestPriority.REFETCH).send("GET", "instance")
        except ClerkRejectedError as error:
            if error.status in (403, 404):
                return None
            raise
        found: _InstancePayload = decode_response(body, _InstancePayload)
        return found.id

    async def fetch(self, requests: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """Fetch the current state of entities: users in batches of up to 100 ids, all requests concurrently."""
        users = [request.key.id for request in requests if request.key.kind == "user"]
        batches = [users[i : i + IDS_PER_PAGE] for i in range(0, len(users), IDS_PER_PAGE)]
        reads = [self._look_users(batch) for batch in batches]
        reads += [self._look_organization(request.key) for request in requests if request.key.kind == "organization"]
        reads += [self._look_membership(request) for request in requests if request.key.kind == "membership"]
        return [observation for found in await asyncio.gather(*reads) for observation in found]

    async def _look_users(self, user_ids: Sequence[ClerkId]) -> list[LookupResult]:
        params: QueryParams = [("user_id", user_id) for user_id in user_ids] + [("limit", str(len(user_ids)))]
        body = await self._backend.with_priority(RequestPriority.REFETCH).send("GET", "users", params=params)
        found, unreadable = _parse_rows_by_id(
            parsing.ClerkUserPayload, parsing.to_user, decode_response(body, list[msgspec.Raw])
        )
        missing = set(user_ids) - {observation.key.id for observation in found}
        # An unreadable row without an id may be any of the missing users.
        reasons = {
            user_id: unreadable[user_id] if user_id in unreadable else unreadable.get(None) for user_id in missing
        }
        return [
            *found,
            *(_to_absent_or_unreadable(EntityKey("user", user_id), reasons[user_id]) for user_id in missing),
        ]

    async def _look_organization(self, key: EntityKey) -> list[LookupResult]:
        try:
            body = await self._backend.with_priority(RequestPriority.REFETCH).send("GET", f"organizations/{key.id}")
        except ClerkRejectedError as error:
            if error.status == 404:
                return [Absence(key)]
            raise
        found, unreadable = _parse_rows_by_id(
            parsing.ClerkOrganizationPayload, parsing.to_organization, [msgspec.Raw(body)]
        )
        return [*found, *(UnreadableEntity(key, reason) for reason in unreadable.values())]

    async def _look_membership(self, request: NeedsRefetch) -> list[LookupResult]:
        if not isinstance(request.entity, ClerkMembership):
            return []
        path = f"organizations/{request.entity.organization}/memberships"
        try:
            body = await self._backend.with_priority(RequestPriority.REFETCH).send(
                "GET", path, params=[("user_id", request.entity.user), ("limit", "1")]
            )
        except ClerkRejectedError as error:
            if error.status == 404:
                return [Absence(request.key, request.entity)]
            raise
        found, unreadable = _parse_rows_by_id(
            parsing.ClerkMembershipPayload, parsing.to_membership, decode_response(body, _RowsPayload).data
        )
        reason = next(iter(unreadable.values()), None)
        return [observation for observation in found if observation.key == request.key] or [
            _to_absent_or_unreadable(request.key, reason, request.entity)
        ]

    async def list_user_memberships(self, user_id: ClerkId) -> list[EntityState]:
        """Return a user's organizations and memberships; unreadable rows are logged and left out."""
        body = await self._backend.find(f"users/{user_id}/organization_memberships", params=[("limit", PAGE_SIZE)])
        found, unreadable = parsing.parse_rows(
            parsing.ClerkMembershipPayload, decode_response(body, _RowsPayload).data if body else []
        )
        for reason in unreadable:
            log.warning("unreadable_membership", user=user_id, reason=reason)
        return [
            observation
            for row in found
            for observation in (parsing.to_embedded_organization(row.organization), parsing.to_membership(row))
        ]

    async def list_invitations(
        self, organization_id: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> ClerkInvitationList:
        """Return up to 2,000 of the newest invitations; unreadable rows are logged, counted and left out."""
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
            good, unreadable = parsing.parse_rows(parsing.ClerkInvitationPayload, listed.data)
            found += [parsing.to_invitation(row) for row in good]
            found.unreadable += len(unreadable)
            for reason in unreadable:
                log.warning("unreadable_invitation", organization=organization_id, reason=reason)
            if len(listed.data) < PAGE_SIZE or (page + 1) * PAGE_SIZE >= listed.total_count:
                break
        return found

    async def find_user_ids_by_email(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return user ids by canonical email address; up to 100 addresses per request."""
        forms = sorted({form for email in emails for form in list_stored_forms(email)})
        wanted = {canonicalize_email(email) for email in emails}
        found: dict[str, ClerkId] = {}
        for start in range(0, len(forms), ADDRESSES_PER_PAGE):
            params: QueryParams = [("email_address", form) for form in forms[start : start + ADDRESSES_PER_PAGE]]
            body = await self._backend.send("GET", "users", params=[*params, ("limit", str(PAGE_SIZE))])
            users, _ = parsing.parse_rows(parsing.ClerkUserPayload, decode_response(body, list[msgspec.Raw]))
            for user in users:
                user_emails = {canonicalize_email(row.email) for row in parsing.to_email_addresses(user)}
                found |= dict.fromkeys(user_emails & wanted, ClerkId(user.id))
        return found

    async def list_roles(self) -> InstanceRoles:
        """Return the instance's roles; none if it has no organizations."""
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
            good, unreadable = parsing.parse_rows(parsing.ClerkRolePayload, listed.data)
            for reason in unreadable:
                log.warning("unreadable_role", reason=reason)
            found += good
            read += len(listed.data)
            if not listed.data or read >= listed.total_count:
                break
        settings = await self._backend.find("instance/organization_settings") if found else None
        default = decode_response(settings, _OrganizationSettings).domains_default_role if settings else None
        return InstanceRoles([parsing.to_role(row) for row in found], default)

    async def count_users(self) -> int:
        """Return the number of users of the instance."""
        counted: _CountPayload = decode_response(await self._backend.send("GET", "users/count"), _CountPayload)
        return counted.total_count

    async def find_session(self, session_id: str) -> ClerkSession | None:
        """Return the current state of a session; None if Clerk does not have it."""
        try:
            session = decode_response(await self._backend.send("GET", f"sessions/{session_id}"), _SessionPayload)
        except ClerkRejectedError as error:
            if error.status == 404:
                return None
            raise
        return ClerkSession(session.id, session.user_id, session.status, session.last_active_organization_id)

    async def fetch_jwks(self) -> dict[str, Any]:
        """Return the instance's public keys as a JSON Web Key Set (RFC 7517)."""
        keys: dict[str, Any] = decode_response(await self._backend.send("GET", "jwks"), dict[str, Any])
        return keys


class ClerkClient(ReaderMixin, OrganizationsMixin, UsersMixin, ApplicationInvitationsMixin):
    """Client of one Clerk instance. Implements all ports to Clerk in `domain.ports`.

    `secret_key` None: Clerk is not configured, and every call raises ClerkRejectedError `not_configured`. `timeout` is
    in seconds. `transport` replaces the network in tests. `rate_limiter` None: requests are not throttled.
    """

    def __init__(
        self,
        secret_key: str | None,
        *,
        api_url: str = "https://api.clerk.com",
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        rate_limiter: ClerkRateLimiter | None = None,
    ) -> None:
        self._backend = ClerkHttpClient(
            secret_key, api_url=api_url, timeout=timeout, transport=transport, rate_limiter=rate_limiter
        )

    def make_scanner(self) -> InstanceScanner:
        """Return a scanner of the whole instance; its requests have the lowest priority."""
        return InstanceScanner(ClerkPageReader(self._backend.with_priority(RequestPriority.BACKFILL)))

    async def close(self) -> None:
        """Close the connections."""
        await self._backend.close()


def _parse_rows_by_id(
    type_: type[W], convert: Callable[[W], Observation], raws: Sequence[msgspec.Raw]
) -> tuple[list[Observation], dict[str | None, str]]:
    """Convert rows to observations. Also return the reason for each unreadable row by its id, or None without one."""
    found: list[Observation] = []
    unreadable: dict[str | None, str] = {}
    decode = msgspec.json.Decoder(type_).decode
    for raw in raws:
        try:
            found.append(convert(parsing.parse_object(decode, raw)))
        except parsing.UnreadableDataError as error:
            unreadable[parse_id(raw)] = str(error)
    return found, unreadable


def _to_absent_or_unreadable(key: EntityKey, reason: str | None, entity: Entity | None = None) -> LookupResult:
    """Return an Absence for an entity that was not in the response, unless it may be an unreadable row."""
    return Absence(key, entity) if reason is None else UnreadableEntity(key, reason)
