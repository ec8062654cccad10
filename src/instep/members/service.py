"""Use cases of members: list, export, change one or many, and preview the impact of a change."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar

import structlog
from msgspec.structs import replace

from instep.auth.principal import OrganizationAccess, Principal
from instep.auth.repository import find_access, list_accesses
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, PermanentError, TemporaryError, describe_error
from instep.core.i18n import lazy_gettext
from instep.domain.emails import canonicalize_email
from instep.domain.errors import FORBIDDEN, NOT_FOUND, ChangeRejectedError, ClerkRejectedError
from instep.domain.last_admin import ADMIN_GAIN_KEY, ADMIN_LOSS_KEY, collect_pending_changes
from instep.domain.models import ClerkId, ClerkInvitationList, LostInvitation
from instep.domain.ports import ClerkReader, UsersApi
from instep.members import policies, repository, workflows
from instep.members.listing import build_invitation_rows, decode_cursor, merge_page, stream_csv, stream_json
from instep.members.models import (
    MAX_BULK_MEMBERS,
    BulkMemberAction,
    DeactivationPolicy,
    InvitationRow,
    InvitationsUnavailable,
    MemberChangeImpact,
    MemberChangeOutcome,
    MemberExport,
    MemberExportFormat,
    MemberFilter,
    MemberListPage,
    MemberOutcome,
    MemberOutcomes,
    MemberOutcomeStatus,
    MemberQueryResult,
    MemberRecord,
)
from instep.mirror import membership_status
from instep.operations.executor import OperationExecutor
from instep.operations.repository import list_open_intents
from instep.operations.workflow import (
    JsonObject,
    Operation,
    OperationFailedError,
    OperationPendingError,
    OperationRequest,
)

BULK_CONCURRENCY = 4


@dataclass(frozen=True)
class MemberChangeSpec:
    """One kind of change. `check` raises Refused, `write` is what the database decides at once.

    `loses_admin`: an admin would be one no longer; `is_own`: by the person, who need not be an admin for it.
    Two operations on the same `target` of a member wait for each other: a deactivation waits for no other change
    than of this kind, for it can't wait.
    """

    kind: str
    check: Callable[[Conn, OrganizationAccess, MemberRecord], None]
    intent: JsonObject = field(default_factory=dict)
    write: Callable[[Conn, MemberRecord], None] | None = None
    loses_admin: bool = False
    is_own: bool = False
    target: str = "membership"


@dataclass(frozen=True)
class MemberChangeService:
    """Changes members of one organization. `policy` is how far Clerk follows a deactivation.

    `told` hears the organizations whose lists changed. Each method takes `member` (the person's id, ours or Clerk's)
    and raises Refused (nothing was changed), Failed (a part was: a person must look), Unsettled (the worker finds out
    and finishes) and Busy.
    """

    db: Database
    runner: OperationExecutor
    clock: Clock
    policy: DeactivationPolicy = "database"
    told: Callable[[Iterable[str]], None] = lambda _organizations: None

    async def set_role(
        self, access: OrganizationAccess, *, member: str, role: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Change a member's role: Clerk first, then the mirror. The role they have already is no change."""
        found = await self._get(access, member)
        if access.can_manage and found.status == "active" and found.role == role:
            return MemberChangeOutcome(member=found)
        wish = MemberChangeSpec(
            workflows.CHANGE_ROLE,
            lambda _conn, now, it: policies.check_role(now, it, role),
            {"role": role} | ({ADMIN_GAIN_KEY: found.id} if access.roles.is_admin(role) else {}),
            loses_admin=not access.roles.is_admin(role),
        )
        return await self._change(access, member, wish, idempotency_key)

    async def deactivate(
        self, access: OrganizationAccess, *, member: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Put a member out, at once.

        1 in one transaction the intent is kept and the member is deactivated: out at the next request, whatever Clerk
        says or does; 2 Clerk follows as far as `policy` says; 3 the person's sessions are revoked in Clerk. Clerk has
        no sessions of one organization, so all of them end; who is active elsewhere signs in again. What Clerk
        refuses is told in `notices`; while it is down, the answer `is_open`.
        """
        found = await self._get(access, member)
        how = await self._how(access, found)
        wish = MemberChangeSpec(
            workflows.DEACTIVATE,
            lambda _conn, now, it: policies.check_deactivate(now, it),
            {"deactivation": how},
            write=lambda conn, it: membership_status.deactivate_membership(conn, it.id, scope=how, now=self.clock()),
            loses_admin=True,
            target="standing",
        )
        try:
            return await self._change(access, member, wish, idempotency_key)
        except OperationPendingError as unsettled:
            return await self._changed(access, found, unsettled.operation, notices=(CLERK_PENDING_NOTICE,))

    async def reactivate(
        self, access: OrganizationAccess, *, member: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Let a deactivated member in again, with the remembered role.

        1 what the deactivation did in Clerk is undone: the membership is made again, or the ban lifted; 2 the mirror
        follows: it is the same row, under Clerk's new id.
        """
        found = await self._get(access, member)
        how = found.deactivation
        intent = {"role": found.role, "is_out": how == "membership", "has_ban": how == "ban"}
        wish = MemberChangeSpec(
            workflows.REACTIVATE, lambda _conn, now, it: policies.check_reactivate(now, it), intent, target="standing"
        )
        return await self._change(access, member, wish, idempotency_key)

    async def remove(
        self, access: OrganizationAccess, *, member: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Take a member out: 1 in Clerk, 2 the person's sessions are revoked there, 3 the row is marked removed."""
        wish = MemberChangeSpec(
            workflows.REMOVE, lambda _conn, now, it: policies.check_remove(now, it), loses_admin=True
        )
        return await self._change(access, member, wish, idempotency_key)

    async def leave(self, access: OrganizationAccess, *, idempotency_key: str | None = None) -> MemberChangeOutcome:
        """Leave an organization oneself: removed in Clerk, then here; the sessions go on."""
        wish = MemberChangeSpec(
            workflows.LEAVE, lambda _conn, now, it: policies.check_leave(now, it), loses_admin=True, is_own=True
        )
        return await self._change(access, access.principal.user_id or "", wish, idempotency_key)

    async def restore(
        self, access: OrganizationAccess, *, member: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Make a former member one again, with the remembered role: a new membership in Clerk, and a new row."""
        found = await self._get(access, member)
        intent = {"role": found.role, "is_out": True, "has_ban": found.deactivation == "ban"}
        wish = MemberChangeSpec(workflows.RESTORE, lambda _conn, now, it: policies.check_restore(now, it), intent)
        return await self._change(access, member, wish, idempotency_key)

    async def transfer(
        self, access: OrganizationAccess, *, member: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Hand an organization over: 1 the other becomes an admin, 2 oneself an ordinary member. One operation."""
        found = await self._get(access, member)
        own = await self.db.read(repository.find_member, access.organization_id, access.principal.user_id or "")

        def check(conn: Conn, now: OrganizationAccess, it: MemberRecord) -> None:
            present = repository.find_member(conn, now.organization_id, own.user_id) if own else None
            policies.check_transfer(now, present, it)

        role = own.role if own is not None else access.roles.highest_role
        intent: JsonObject = {"role": role, "own_role": access.roles.default, ADMIN_GAIN_KEY: found.id}
        if own is not None:
            intent |= {"own_user": own.clerk_user_id, "own_membership": own.id, ADMIN_LOSS_KEY: own.id}
        wish = MemberChangeSpec(workflows.TRANSFER, check, intent, is_own=True)
        return await self._change(access, member, wish, idempotency_key)

    async def _change(
        self, access: OrganizationAccess, ref: str, wish: MemberChangeSpec, key: str | None
    ) -> MemberChangeOutcome:
        """1 who may not act is told so; 2 the operation, opened against the present state; 3 words for its end."""
        if not (access.can_manage or wish.is_own):
            raise ChangeRejectedError("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
        for left in reversed(range(MAX_ATTEMPTS)):
            found = await self._get(access, ref)
            asked = self._asked(access, found, wish, key)
            try:
                operation = await self.runner.run(asked, precondition=partial(self._open, access, found, wish))
            except OperationFailedError as failed:
                self.told([access.organization_id])
                _raise_readable_refusal(failed, found, wish)
            except ConcurrentMemberChangeError:
                if left:
                    continue
                raise
            return await self._changed(access, found, operation)
        raise AssertionError("unreachable")

    def _asked(
        self, access: OrganizationAccess, found: MemberRecord, wish: MemberChangeSpec, key: str | None
    ) -> OperationRequest:
        is_in_clerk = access.organization_clerk_id is not None and found.clerk_user_id is not None
        intent: JsonObject = {
            "membership": found.id,
            "clerk_membership": found.clerk_id,
            "organization": access.organization_clerk_id if is_in_clerk else None,
            "user": found.clerk_user_id,
            "before": {"role": found.role, "status": found.status},
            **({ADMIN_LOSS_KEY: found.id} if wish.loses_admin else {}),
            **wish.intent,
        }
        return OperationRequest(
            kind=wish.kind,
            target=f"{wish.target}:{found.id}",
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=key,
            intent=intent,
        )

    def _open(self, access: OrganizationAccess, found: MemberRecord, wish: MemberChangeSpec, conn: Conn) -> None:
        """In the transaction that keeps the intent: nobody else changes this organization's standing meanwhile."""
        organization = access.organization_id
        membership_status.lock_organization(conn, organization)
        present = find_access(conn, access.principal, organization)
        member = repository.find_member(conn, organization, found.user_id)
        if present is None or member is None:
            raise _member_not_found()
        wish.check(conn, present, member)
        if _comparable_state(member) != _comparable_state(found):
            raise ConcurrentMemberChangeError(
                "This member was changed at the same moment. Nothing was changed; try again."
            )
        if wish.loses_admin:
            policies.check_admin_stays(
                member,
                repository.list_admins(conn, organization, present.roles),
                collect_pending_changes(list_open_intents(conn)),
            )
        if wish.write is not None:
            wish.write(conn, member)

    async def _how(self, access: OrganizationAccess, found: MemberRecord) -> DeactivationPolicy:
        """How far Clerk shall follow: not at all where it has no part, and no ban for who belongs elsewhere too."""
        if access.organization_clerk_id is None or found.clerk_user_id is None:
            return "database"
        if self.policy != "ban":
            return self.policy
        others = await self.db.read(repository.list_other_organizations, found.user_id, access.organization_id)
        return "database" if others else "ban"

    async def _get(self, access: OrganizationAccess, ref: str) -> MemberRecord:
        found = await self.db.read(repository.find_member, access.organization_id, ref)
        if found is None:
            raise _member_not_found()
        return found

    async def _changed(
        self, access: OrganizationAccess, found: MemberRecord, operation: Operation, *, notices: tuple[str, ...] = ()
    ) -> MemberChangeOutcome:
        self.told([access.organization_id])
        now = await self.db.read(repository.find_member, access.organization_id, found.user_id)
        return MemberChangeOutcome(
            member=now or found,
            operation_id=operation.id,
            is_open=operation.state == "open",
            notices=(*notices, *policies.build_notices(operation.done)),
        )


@dataclass(frozen=True)
class BulkMemberService:
    """Many changes, a few at once."""

    changes: MemberChangeService

    async def __call__(
        self,
        access: OrganizationAccess,
        action: BulkMemberAction,
        members: Sequence[str],
        *,
        role: str | None = None,
        idempotency_key: str | None = None,
    ) -> MemberOutcomes:
        """Change each of `members` (ids, ours or Clerk's), whatever becomes of the others.

        The last admin stays here too: each change is checked as it begins, with all others that are under way.
        Raises Refused for a wish that makes no sense, or from someone who may not act; then nothing was changed.
        """
        if not access.can_manage:
            raise ChangeRejectedError("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
        if action == "role" and not role:
            raise ChangeRejectedError("Say which role.", code="role_missing", field="role")
        wanted = list(dict.fromkeys(members))
        if not 0 < len(wanted) <= MAX_BULK_MEMBERS:
            raise ChangeRejectedError(
                lazy_gettext("Choose from 1 to %(most)s people.", most=MAX_BULK_MEMBERS),
                code="too_many",
                field="members",
            )
        turns = asyncio.Semaphore(BULK_CONCURRENCY)

        async def one(member: str) -> MemberOutcome:
            key = f"{idempotency_key}:{member}" if idempotency_key else None
            async with turns:
                return await self._one(access, action, member, role or "", key)

        return MemberOutcomes(rows=tuple(await asyncio.gather(*map(one, wanted))))

    async def _one(
        self, access: OrganizationAccess, action: BulkMemberAction, member: str, role: str, key: str | None
    ) -> MemberOutcome:
        try:
            return _build_outcome(member, await self._change(access, action, member, role, key))
        except OperationPendingError as unsettled:
            operation = unsettled.operation.id
            return MemberOutcome(member=member, outcome="open", message=str(unsettled), operation_id=operation)
        except InstepError as error:
            code = error.code if isinstance(error, PermanentError) else "temporarily_unavailable"
            return MemberOutcome(member=member, outcome="refused", code=code, message=str(error))

    async def _change(
        self, access: OrganizationAccess, action: BulkMemberAction, member: str, role: str, key: str | None
    ) -> MemberChangeOutcome:
        changes = self.changes
        if action == "role":
            return await changes.set_role(access, member=member, role=role, idempotency_key=key)
        if action == "deactivate":
            return await changes.deactivate(access, member=member, idempotency_key=key)
        if action == "reactivate":
            return await changes.reactivate(access, member=member, idempotency_key=key)
        return await changes.remove(access, member=member, idempotency_key=key)


def _build_outcome(member: str, changed: MemberChangeOutcome) -> MemberOutcome:
    outcome: MemberOutcomeStatus = "open" if changed.is_open else "done" if changed.operation_id else "unchanged"
    message = " ".join(changed.notices)
    return MemberOutcome(member=member, outcome=outcome, message=message, operation_id=changed.operation_id)


MAX_ATTEMPTS = 3
CLERK_PENDING_NOTICE = "Clerk does not answer; the rest is done as soon as it does."


class ConcurrentMemberChangeError(TemporaryError):
    """The member was changed by someone else at the same moment."""


def _comparable_state(member: MemberRecord) -> tuple[str | None, ...]:
    return member.id, member.clerk_id, member.role, member.deactivation


def _member_not_found() -> ChangeRejectedError:
    return ChangeRejectedError("There is no such person in this organization.", code="not_found", status=NOT_FOUND)


def _raise_readable_refusal(failed: OperationFailedError, member: MemberRecord, wish: MemberChangeSpec) -> NoReturn:
    if failed.operation.state == "attention":
        raise failed
    cause = failed.__cause__
    refusal = (
        cause if isinstance(cause, ClerkRejectedError) else ClerkRejectedError(str(failed), code=failed.code, status=0)
    )
    raise policies.translate_refusal(refusal, member=member, role=wish.intent.get("role")) from failed


log = structlog.get_logger(__name__)
T = TypeVar("T")
CLERK_TIMEOUT = 2.0


@dataclass(frozen=True)
class MemberImpactService:
    """Asks both sides. `patience` is how long Clerk may take, in seconds."""

    db: Database
    directory: ClerkReader
    accounts: UsersApi
    patience: float = CLERK_TIMEOUT

    async def __call__(self, access: OrganizationAccess, *, member: str) -> MemberChangeImpact:
        """What removing or deactivating this member will do. Raises Refused for who may not, and for nobody."""
        if not access.can_manage:
            raise ChangeRejectedError("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
        found = await self.db.read(repository.find_member, access.organization_id, member)
        if found is None:
            raise ChangeRejectedError(
                "There is no such person in this organization.", code="not_found", status=NOT_FOUND
            )
        sessions, invitations, (organizations, no_removal, no_deactivation) = await asyncio.gather(
            self._sessions(found), self._invitations(access, found), self.db.read(_read_local_impact, access, found)
        )
        return MemberChangeImpact(
            member=found,
            sessions=sessions,
            invitations=invitations,
            organizations=organizations,
            no_removal=no_removal,
            no_deactivation=no_deactivation,
            is_admin=access.roles.is_admin(found.role),
        )

    async def _sessions(self, member: MemberRecord) -> int | None:
        if member.clerk_user_id is None:
            return 0
        return await self._ask(self.accounts.count_sessions(ClerkId(member.clerk_user_id)))

    async def _invitations(self, access: OrganizationAccess, member: MemberRecord) -> tuple[str, ...] | None:
        if access.organization_clerk_id is None or member.clerk_user_id is None:
            return ()
        organization = ClerkId(access.organization_clerk_id)
        listed = await self._ask(self.directory.list_invitations(organization, statuses=("pending",)))
        if listed is None:
            return None
        return tuple(it.email for it in listed if it.inviter_id == member.clerk_user_id)

    async def _ask(self, question: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.patience):
                return await question
        except (InstepError, TimeoutError) as error:
            log.warning("consequences_unknown", error=describe_error(error) or "timeout")
            return None


def _read_local_impact(
    conn: Conn, access: OrganizationAccess, member: MemberRecord
) -> tuple[tuple[str, ...], str | None, str | None]:
    """What the database says: the other organizations, and why not to remove and not to deactivate."""
    others = repository.list_other_organizations(conn, member.user_id, access.organization_id)
    if others and not access.principal.is_instance_admin:
        seen = {it.organization_id for it in list_accesses(conn, access.principal)}
        others = [it for it in others if it[0] in seen]
    admins = repository.list_admins(conn, access.organization_id, access.roles)
    stays = _find_refusal_reason(
        policies.check_admin_stays, member, admins, collect_pending_changes(list_open_intents(conn))
    )
    no_removal = _find_refusal_reason(policies.check_remove, access, member) or stays
    no_deactivation = _find_refusal_reason(policies.check_deactivate, access, member) or stays
    return tuple(name for _, name in others), no_removal, no_deactivation


def _find_refusal_reason(check: Callable[..., None], *args: Any) -> str | None:
    try:
        check(*args)
    except ChangeRejectedError as refused:
        return str(refused)
    return None


EXPORT_PAGE_SIZE = 500


@dataclass(frozen=True)
class MemberExportService:
    """Exports the list."""

    list_people: Callable[[OrganizationAccess, MemberFilter], Awaitable[MemberListPage]]

    async def __call__(
        self, access: OrganizationAccess, ask: MemberFilter, *, format: MemberExportFormat
    ) -> MemberExport:
        """1 the first page is read, so that a failure is told before anything is sent; 2 the rest as it is sent."""
        first = await self.list_people(access, replace(ask, limit=EXPORT_PAGE_SIZE, cursor=None))
        pages = self._pages(access, ask, first)
        return MemberExport(first.warnings, stream_csv(pages) if format == "csv" else stream_json(first, pages))

    async def _pages(
        self, access: OrganizationAccess, ask: MemberFilter, first: MemberListPage
    ) -> AsyncIterator[MemberListPage]:
        page = first
        yield page
        while page.next_cursor:
            cursor = decode_cursor(page.next_cursor)
            page = await self.list_people(access, replace(ask, limit=EXPORT_PAGE_SIZE, cursor=cursor))
            yield page


LISTED_INVITATION_STATUSES = ("pending", "expired")


@dataclass(frozen=True)
class PeopleListService:
    """The list of one organization. `patience` is how long Clerk may take, in seconds.

    `list_lost` reads the invitations of an organization that got lost, for those who may send them again.
    """

    db: Database
    directory: ClerkReader
    clock: Clock
    patience: float = CLERK_TIMEOUT
    list_lost: Callable[[Conn, str], Sequence[LostInvitation]] = lambda _conn, _organization_id: ()

    async def __call__(self, access: OrganizationAccess, ask: MemberFilter) -> MemberListPage:
        """One page.

        1 members from the database and invitations from Clerk are read side by side; 2 an expired invitation whose
        address joined since is left out; 3 both are merged. Raises DatabaseUnavailableError; Clerk's failure is a warning.
        """
        if not ask.includes_invitations():
            return merge_page(
                ask, await self.db.read(repository.find_members, access.organization_id, ask, access.roles), None
            )
        reading = asyncio.ensure_future(self._invitations(access))
        try:
            members, lost = await self.db.read(self._read, access, ask)
            found = await reading
            unreadable = 0 if isinstance(found, InvitationsUnavailable) else found.unreadable
            return merge_page(ask, members, await self._rows(access, found), lost, unreadable=unreadable)
        finally:
            reading.cancel()

    async def of(self, principal: Principal, ref: str, ask: MemberFilter) -> MemberListPage | None:
        """The same of whatever organization `ref` names; None where there is none that they may see.

        Where only members are asked for, all of it is one visit to the database. Raises as the list itself.
        """
        if ask.includes_invitations():
            access = await self.db.read(find_access, principal, ref)
            return await self(access, ask) if access else None
        members = await self.db.read(_find_visible_members, principal, ref, ask)
        return merge_page(ask, members, None) if members else None

    def _read(
        self, conn: Conn, access: OrganizationAccess, ask: MemberFilter
    ) -> tuple[MemberQueryResult, Sequence[LostInvitation]]:
        is_shown = access.can_manage and ask.includes_lost_invitations()
        lost = self.list_lost(conn, access.organization_id) if is_shown else ()
        return repository.find_members(conn, access.organization_id, ask, access.roles), lost

    async def _invitations(self, access: OrganizationAccess) -> ClerkInvitationList | InvitationsUnavailable:
        if access.organization_clerk_id is None:
            return ClerkInvitationList()
        organization = ClerkId(access.organization_clerk_id)
        try:
            async with asyncio.timeout(self.patience):
                return await self.directory.list_invitations(organization, statuses=LISTED_INVITATION_STATUSES)
        except (InstepError, TimeoutError) as error:
            log.warning("invitations_unavailable", organization=organization, error=str(error) or "timeout")
            return InvitationsUnavailable(str(error) or f"Clerk took longer than {self.patience:g} s.")
        except Exception as error:  # whatever is wrong with the invitations, the members are still shown
            log.exception("invitations_broke", organization=organization)
            return InvitationsUnavailable(f"{type(error).__name__}: {error}")

    async def _rows(
        self, access: OrganizationAccess, invitations: ClerkInvitationList | InvitationsUnavailable
    ) -> list[InvitationRow] | InvitationsUnavailable:
        if isinstance(invitations, InvitationsUnavailable):
            return invitations
        now = self.clock()
        rows = build_invitation_rows(invitations, now=now, joined=())
        expired = {canonicalize_email(row.email) for row in rows if row.status == "expired"}
        if not expired:
            return rows
        joined = await self.db.read(repository.find_joined_addresses, access.organization_id, sorted(expired))
        return build_invitation_rows(invitations, now=now, joined=joined)


def _find_visible_members(conn: Conn, principal: Principal, ref: str, ask: MemberFilter) -> MemberQueryResult | None:
    access = find_access(conn, principal, ref)
    return repository.find_members(conn, access.organization_id, ask, access.roles) if access else None


@dataclass(frozen=True)
class MemberService:
    """The flows of this slice."""

    list_people: PeopleListService
    export: MemberExportService
    changes: MemberChangeService
    bulk: BulkMemberService
    consequences: MemberImpactService
