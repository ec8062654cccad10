"""Use cases of members: list, export, change one or many, and preview the impact of a change."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from instep.auth.principal import OrganizationAccess, Principal
from instep.auth.repository import find_access, list_accesses
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, PermanentError, TemporaryError, describe_error
from instep.core.i18n import lazy_gettext
from instep.domain.emails import canonicalize_email
from instep.domain.errors import FORBIDDEN, NOT_FOUND, ChangeRejectedError, ClerkRejectedError
from instep.domain.last_admin import collect_pending_changes
from instep.domain.models import ClerkId, ClerkInvitationList, LostInvitation
from instep.members import policies, repository, workflows
from instep.members.listing import build_invitation_rows, decode_cursor, merge_page
from instep.members.models import (
    MAX_BULK_MEMBERS,
    BulkMemberAction,
    ChangeRoleIntent,
    DeactivateIntent,
    DeactivationPolicy,
    InvitationRow,
    InvitationsUnavailable,
    LeaveIntent,
    MemberChangeImpact,
    MemberChangeOutcome,
    MemberExport,
    MemberExportFormat,
    MemberFilter,
    MemberIntent,
    MemberListPage,
    MemberOutcome,
    MemberOutcomes,
    MemberOutcomeStatus,
    MemberQueryResult,
    MemberRecord,
    ReactivateIntent,
    RemoveIntent,
    RestoreIntent,
    TransferIntent,
)
from instep.members.schemas import stream_csv, stream_json
from instep.mirror import membership_status
from instep.operations.executor import OperationExecutor
from instep.operations.repository import encode_intent, list_open_intents
from instep.operations.workflow import (
    JsonObject,
    Operation,
    OperationFailedError,
    OperationPendingError,
    OperationRequest,
)

log = structlog.get_logger(__name__)
T = TypeVar("T")
CLERK_TIMEOUT = 2.0  # seconds that a page waits for Clerk
LISTED_INVITATION_STATUSES = ("pending", "expired")
EXPORT_PAGE_SIZE = 500
BULK_CONCURRENCY = 4
MAX_ATTEMPTS = 3  # of a change whose member is changed by others at the same time
CLERK_PENDING_NOTICE = lazy_gettext("Clerk is not responding. The rest of the change is made as soon as it does.")


class ConcurrentMemberChangeError(TemporaryError):
    """The member was changed by someone else at the same time."""


@dataclass(frozen=True)
class MemberChange:
    """One kind of change to a member, as `MemberService` starts it.

    `check` raises ChangeRejectedError; `apply_now` writes what the database decides alone, with the intent.
    `intent_fields` are the fields that `intent_type` adds to those of every change.
    `is_admin_loss`: an admin stops being one. `is_own`: made by the member, who need not be an admin.
    Two operations on the same `target` of a member wait for each other. A deactivation has a target of its own, because
    it must not wait for a change of role.
    """

    kind: str
    check: Callable[[Conn, OrganizationAccess, MemberRecord], None]
    intent_type: type[MemberIntent]
    intent_fields: JsonObject = field(default_factory=dict)
    apply_now: Callable[[Conn, MemberRecord], None] | None = None
    is_admin_loss: bool = False
    is_own: bool = False
    target: str = "membership"


@dataclass(frozen=True)
class MemberService:
    """List, export and change the members of an organization.

    A change is one operation: check the permission, commit the intent, call Clerk, finish both sides in one
    transaction. `member_id` is the user's id (instep's or Clerk's) or instep's id of the membership. Changes raise
    ChangeRejectedError (nothing was changed), OperationFailedError (a part was changed: a person must look),
    OperationPendingError (the worker finds out and finishes) and ConflictError.

    `deactivation_policy`: how far Clerk follows a deactivation. `on_change` gets the ids of organizations whose lists
    changed. `list_lost` reads the lost invitations of an organization. `clerk_timeout`: seconds that reading waits for
    Clerk; changes are not limited by it.
    """

    db: Database
    clerk: workflows.ClerkMembershipApi
    executor: OperationExecutor
    clock: Clock
    deactivation_policy: DeactivationPolicy = "database"
    on_change: Callable[[Iterable[str]], None] = lambda _organization_ids: None
    list_lost: Callable[[Conn, str], Sequence[LostInvitation]] = lambda _conn, _organization_id: ()
    clerk_timeout: float = CLERK_TIMEOUT

    async def list_people(self, access: OrganizationAccess, filters: MemberFilter) -> MemberListPage:
        """Return one page of members and invitations.

        1 members from the database and invitations from Clerk are read side by side; 2 an expired invitation whose
        address has joined since is left out; 3 both are merged.

        Raises:
            DatabaseUnavailableError. A failure of Clerk is a warning of the page instead.
        """
        if not filters.includes_invitations():
            members = await self.db.read(repository.find_members, access.organization_id, filters, access.roles)
            return merge_page(filters, members, None)
        reading = asyncio.ensure_future(self._read_invitations(access))
        try:
            members, lost = await self.db.read(self._read_members, access, filters)
            found = await reading
            unreadable = 0 if isinstance(found, InvitationsUnavailable) else found.unreadable
            rows = await self._build_invitation_rows(access, found)
            return merge_page(filters, members, rows, lost, unreadable=unreadable)
        finally:
            reading.cancel()

    async def list_visible_people(
        self, principal: Principal, organization_id: str, filters: MemberFilter
    ) -> MemberListPage | None:
        """Return one page of an organization; None where there is none that the principal may see.

        `organization_id` is instep's id, Clerk's id or the slug. Where the page needs no invitations, this is a single
        visit to the database. Raises as `list_people`.
        """
        if filters.includes_invitations():
            access = await self.db.read(find_access, principal, organization_id)
            return await self.list_people(access, filters) if access else None
        members = await self.db.read(_find_visible_members, principal, organization_id, filters)
        return merge_page(filters, members, None) if members else None

    async def export(
        self, access: OrganizationAccess, filters: MemberFilter, *, export_format: MemberExportFormat
    ) -> MemberExport:
        """Export all pages of the list.

        The first page is read before anything is sent, so that its failure can be answered; the rest while sending.
        """
        first_page = await self.list_people(access, replace(filters, limit=EXPORT_PAGE_SIZE, cursor=None))
        pages = self._iterate_pages(access, filters, first_page)
        chunks = stream_csv(pages) if export_format == "csv" else stream_json(first_page, pages)
        return MemberExport(first_page.warnings, chunks)

    async def change_role(
        self, access: OrganizationAccess, *, member_id: str, role: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Change a member's role, in Clerk first. Assigning the present role is no change."""
        member = await self._get_member(access, member_id)
        if access.can_manage and member.status == "active" and member.role == role:
            return MemberChangeOutcome(member=member)
        is_admin = access.roles.is_admin(role)
        change = MemberChange(
            workflows.CHANGE_ROLE,
            lambda _conn, present, current: policies.check_role(present, current, role),
            ChangeRoleIntent,
            {"role": role, "promoted_membership_id": member.id if is_admin else UNSET},
            is_admin_loss=not is_admin,
        )
        return await self._run(access, member_id, change, idempotency_key)

    async def deactivate(
        self, access: OrganizationAccess, *, member_id: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Deactivate a member; access ends with the next request, whatever Clerk answers.

        1 one transaction commits the intent and deactivates the member here; 2 Clerk follows as far as the
        `deactivation_policy` says; 3 the user's sessions are revoked in Clerk. Clerk's sessions do not belong to one
        organization, so that all of them end; a user with other organizations signs in again. A refusal of Clerk is a
        notice of the outcome; while Clerk is down, the outcome `is_open`.
        """
        member = await self._get_member(access, member_id)
        scope = await self._choose_deactivation_scope(access, member)
        change = MemberChange(
            workflows.DEACTIVATE,
            lambda _conn, present, current: policies.check_deactivate(present, current),
            DeactivateIntent,
            {"deactivation": scope},
            apply_now=lambda conn, current: membership_status.deactivate_membership(
                conn, current.id, scope=scope, now=self.clock()
            ),
            is_admin_loss=True,
            target="standing",
        )
        try:
            return await self._run(access, member_id, change, idempotency_key)
        except OperationPendingError as pending:
            return await self._build_outcome(access, member, pending.operation, notices=(CLERK_PENDING_NOTICE,))

    async def reactivate(
        self, access: OrganizationAccess, *, member_id: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Reactivate a deactivated member with the previous role.

        1 the effect of the deactivation in Clerk is undone: the membership is created again, or the ban lifted; 2 the
        mirror follows: the row stays the same, with Clerk's new id.
        """
        member = await self._get_member(access, member_id)
        scope = member.deactivation
        change = MemberChange(
            workflows.REACTIVATE,
            lambda _conn, present, current: policies.check_reactivate(present, current),
            ReactivateIntent,
            {"role": member.role, "is_out": scope == "membership", "has_ban": scope == "ban"},
            target="standing",
        )
        return await self._run(access, member_id, change, idempotency_key)

    async def remove(
        self, access: OrganizationAccess, *, member_id: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Remove a member: 1 in Clerk; 2 the user's sessions are revoked there; 3 the row is marked as removed."""
        change = MemberChange(
            workflows.REMOVE,
            lambda _conn, present, current: policies.check_remove(present, current),
            RemoveIntent,
            is_admin_loss=True,
        )
        return await self._run(access, member_id, change, idempotency_key)

    async def leave(self, access: OrganizationAccess, *, idempotency_key: str | None = None) -> MemberChangeOutcome:
        """Leave the organization: removed in Clerk, then here; the user's sessions stay."""
        change = MemberChange(
            workflows.LEAVE,
            lambda _conn, present, current: policies.check_leave(present, current),
            LeaveIntent,
            is_admin_loss=True,
            is_own=True,
        )
        return await self._run(access, access.principal.user_id or "", change, idempotency_key)

    async def restore(
        self, access: OrganizationAccess, *, member_id: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Restore a removed member with the previous role: a new membership in Clerk, and a new row."""
        member = await self._get_member(access, member_id)
        change = MemberChange(
            workflows.RESTORE,
            lambda _conn, present, current: policies.check_restore(present, current),
            RestoreIntent,
            {"role": member.role, "is_out": True, "has_ban": member.deactivation == "ban"},
        )
        return await self._run(access, member_id, change, idempotency_key)

    async def transfer_ownership(
        self, access: OrganizationAccess, *, member_id: str, idempotency_key: str | None = None
    ) -> MemberChangeOutcome:
        """Make another member an admin and then the caller an ordinary member, in one operation."""
        member = await self._get_member(access, member_id)
        own = await self.db.read(repository.find_member, access.organization_id, access.principal.user_id or "")

        def check(conn: Conn, present: OrganizationAccess, current: MemberRecord) -> None:
            current_own = repository.find_member(conn, present.organization_id, own.user_id) if own else None
            policies.check_transfer(present, current_own, current)

        role = own.role if own is not None else access.roles.highest_role
        fields: JsonObject = {
            "role": role,
            "own_role": access.roles.default,
            "own_user": own.clerk_user_id if own else None,
            "own_membership": own.id if own else "",
            "promoted_membership_id": member.id,
            "demoted_membership_id": own.id if own else UNSET,
        }
        change = MemberChange(workflows.TRANSFER, check, TransferIntent, fields, is_own=True)
        return await self._run(access, member_id, change, idempotency_key)

    async def change_many(
        self,
        access: OrganizationAccess,
        action: BulkMemberAction,
        member_ids: Sequence[str],
        *,
        role: str | None = None,
        idempotency_key: str | None = None,
    ) -> MemberOutcomes:
        """Change up to MAX_BULK_MEMBERS members independently, BULK_CONCURRENCY at a time.

        The last-admin guard holds: each change is checked when it starts, with all others in progress.

        Raises:
            ChangeRejectedError: the caller may not make changes, or the request is invalid; nothing was changed.
        """
        _check_can_manage(access)
        if action == "role" and not role:
            raise ChangeRejectedError(lazy_gettext("Choose a role."), code="role_missing", field="role")
        distinct_ids = list(dict.fromkeys(member_ids))
        if not 0 < len(distinct_ids) <= MAX_BULK_MEMBERS:
            raise ChangeRejectedError(
                lazy_gettext("Choose between 1 and %(max)s people.", max=MAX_BULK_MEMBERS),
                code="too_many",
                field="members",
            )
        semaphore = asyncio.Semaphore(BULK_CONCURRENCY)

        async def change_one(member_id: str) -> MemberOutcome:
            key = f"{idempotency_key}:{member_id}" if idempotency_key else None
            async with semaphore:
                return await self._change_one(access, action, member_id, role or "", key)

        return MemberOutcomes(rows=tuple(await asyncio.gather(*map(change_one, distinct_ids))))

    async def find_impact(self, access: OrganizationAccess, *, member_id: str) -> MemberChangeImpact:
        """Return the expected effects of removing or deactivating a member, read from both sides.

        Raises:
            ChangeRejectedError: the caller may not make changes, or there is no such member.
        """
        _check_can_manage(access)
        member = await self._get_member(access, member_id)
        sessions, invitations, (organizations, no_removal, no_deactivation) = await asyncio.gather(
            self._count_sessions(member),
            self._list_sent_invitations(access, member),
            self.db.read(_read_local_impact, access, member),
        )
        return MemberChangeImpact(
            member=member,
            sessions=sessions,
            invitations=invitations,
            organizations=organizations,
            no_removal=no_removal,
            no_deactivation=no_deactivation,
            is_admin=access.roles.is_admin(member.role),
        )

    def _read_members(
        self, conn: Conn, access: OrganizationAccess, filters: MemberFilter
    ) -> tuple[MemberQueryResult, Sequence[LostInvitation]]:
        has_lost = access.can_manage and filters.includes_lost_invitations()
        lost = self.list_lost(conn, access.organization_id) if has_lost else ()
        return repository.find_members(conn, access.organization_id, filters, access.roles), lost

    async def _read_invitations(self, access: OrganizationAccess) -> ClerkInvitationList | InvitationsUnavailable:
        if access.organization_clerk_id is None:
            return ClerkInvitationList()
        organization_id = ClerkId(access.organization_clerk_id)
        try:
            async with asyncio.timeout(self.clerk_timeout):
                return await self.clerk.list_invitations(organization_id, statuses=LISTED_INVITATION_STATUSES)
        except (InstepError, TimeoutError) as error:
            log.warning("invitations_unavailable", organization=organization_id, error=str(error) or "timeout")
            return InvitationsUnavailable(str(error) or f"Clerk took longer than {self.clerk_timeout:g} s.")
        except Exception as error:  # an unforeseen failure of the invitations must not hide the members
            log.exception("invitations_failed", organization=organization_id)
            return InvitationsUnavailable(f"{type(error).__name__}: {error}")

    async def _build_invitation_rows(
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

    async def _iterate_pages(
        self, access: OrganizationAccess, filters: MemberFilter, first_page: MemberListPage
    ) -> AsyncIterator[MemberListPage]:
        page = first_page
        yield page
        while page.next_cursor:
            cursor = decode_cursor(page.next_cursor)
            page = await self.list_people(access, replace(filters, limit=EXPORT_PAGE_SIZE, cursor=cursor))
            yield page

    async def _get_member(self, access: OrganizationAccess, member_id: str) -> MemberRecord:
        found = await self.db.read(repository.find_member, access.organization_id, member_id)
        if found is None:
            raise _member_not_found()
        return found

    async def _choose_deactivation_scope(self, access: OrganizationAccess, member: MemberRecord) -> DeactivationPolicy:
        """Return how far Clerk follows: not for a local member, and no ban of a user with other organizations."""
        if access.organization_clerk_id is None or member.clerk_user_id is None:
            return "database"
        if self.deactivation_policy != "ban":
            return self.deactivation_policy
        others = await self.db.read(repository.list_other_organizations, member.user_id, access.organization_id)
        return "database" if others else "ban"

    async def _run(
        self, access: OrganizationAccess, member_id: str, change: MemberChange, idempotency_key: str | None
    ) -> MemberChangeOutcome:
        """Run a change as an operation, started against the present state; translate its refusal."""
        if not change.is_own:
            _check_can_manage(access)
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            member = await self._get_member(access, member_id)
            request = _build_request(access, member, change, idempotency_key)
            try:
                operation = await self.executor.run(request, precondition=partial(_start, access, member, change))
            except OperationFailedError as failed:
                self.on_change([access.organization_id])
                _raise_readable_refusal(failed, member, change)
            except ConcurrentMemberChangeError:
                if attempts_left:
                    continue
                raise
            return await self._build_outcome(access, member, operation)
        raise AssertionError("unreachable")

    async def _build_outcome(
        self, access: OrganizationAccess, member: MemberRecord, operation: Operation, *, notices: tuple[str, ...] = ()
    ) -> MemberChangeOutcome:
        self.on_change([access.organization_id])
        current = await self.db.read(repository.find_member, access.organization_id, member.user_id)
        return MemberChangeOutcome(
            member=current or member,
            operation_id=operation.id,
            is_open=operation.state == "open",
            notices=(*notices, *policies.build_notices(operation.done)),
        )

    async def _change_one(
        self, access: OrganizationAccess, action: BulkMemberAction, member_id: str, role: str, key: str | None
    ) -> MemberOutcome:
        methods = {"deactivate": self.deactivate, "reactivate": self.reactivate, "remove": self.remove}
        try:
            if action == "role":
                outcome = await self.change_role(access, member_id=member_id, role=role, idempotency_key=key)
            else:
                outcome = await methods[action](access, member_id=member_id, idempotency_key=key)
        except OperationPendingError as pending:
            return MemberOutcome(
                member_id=member_id, status="open", messages=_get_messages(pending), operation_id=pending.operation.id
            )
        except InstepError as error:
            code = error.code if isinstance(error, PermanentError) else "temporarily_unavailable"
            return MemberOutcome(member_id=member_id, status="refused", code=code, messages=_get_messages(error))
        status: MemberOutcomeStatus = "open" if outcome.is_open else "done" if outcome.operation_id else "unchanged"
        return MemberOutcome(
            member_id=member_id, status=status, messages=outcome.notices, operation_id=outcome.operation_id
        )

    async def _count_sessions(self, member: MemberRecord) -> int | None:
        if member.clerk_user_id is None:
            return 0
        return await self._read_from_clerk(self.clerk.count_sessions(ClerkId(member.clerk_user_id)))

    async def _list_sent_invitations(self, access: OrganizationAccess, member: MemberRecord) -> tuple[str, ...] | None:
        if access.organization_clerk_id is None or member.clerk_user_id is None:
            return ()
        organization_id = ClerkId(access.organization_clerk_id)
        found = await self._read_from_clerk(self.clerk.list_invitations(organization_id, statuses=("pending",)))
        if found is None:
            return None
        return tuple(invitation.email for invitation in found if invitation.inviter_id == member.clerk_user_id)

    async def _read_from_clerk(self, reading: Awaitable[T]) -> T | None:
        """Return what Clerk answers, None if it fails or does not answer in time."""
        try:
            async with asyncio.timeout(self.clerk_timeout):
                return await reading
        except (InstepError, TimeoutError) as error:
            log.warning("member_impact_unavailable", error=describe_error(error) or "timeout")
            return None


def _check_can_manage(access: OrganizationAccess) -> None:
    if not access.can_manage:
        raise ChangeRejectedError("Only admins can make changes.", code="forbidden", status=FORBIDDEN)


def _member_not_found() -> ChangeRejectedError:
    return ChangeRejectedError("Member not found in this organization.", code="not_found", status=NOT_FOUND)


def _find_visible_members(
    conn: Conn, principal: Principal, organization_id: str, filters: MemberFilter
) -> MemberQueryResult | None:
    access = find_access(conn, principal, organization_id)
    return repository.find_members(conn, access.organization_id, filters, access.roles) if access else None


def _build_request(
    access: OrganizationAccess, member: MemberRecord, change: MemberChange, idempotency_key: str | None
) -> OperationRequest:
    is_in_clerk = access.organization_clerk_id is not None and member.clerk_user_id is not None
    fields: JsonObject = {
        "membership": member.id,
        "clerk_membership": member.clerk_id,
        "organization": access.organization_clerk_id if is_in_clerk else None,
        "user": member.clerk_user_id,
        "before": {"role": member.role, "status": member.status},
        "demoted_membership_id": member.id if change.is_admin_loss else UNSET,
        **change.intent_fields,
    }
    return OperationRequest(
        kind=change.kind,
        target=f"{change.target}:{member.id}",
        actor=access.principal.id,
        organization_id=access.organization_id,
        idempotency_key=idempotency_key,
        intent=encode_intent(change.intent_type(**fields)),
    )


def _start(access: OrganizationAccess, expected: MemberRecord, change: MemberChange, conn: Conn) -> None:
    """Check a change and apply its local part, in the transaction that commits the intent.

    The organization is locked, so that its admins cannot change meanwhile.
    """
    organization_id = access.organization_id
    membership_status.lock_organization(conn, organization_id)
    present = find_access(conn, access.principal, organization_id)
    member = repository.find_member(conn, organization_id, expected.user_id)
    if present is None or member is None:
        raise _member_not_found()
    change.check(conn, present, member)
    if _get_comparable_state(member) != _get_comparable_state(expected):
        raise ConcurrentMemberChangeError(
            lazy_gettext("This member was changed at the same time. Nothing was changed; try again.")
        )
    if change.is_admin_loss:
        admins = repository.list_admins(conn, organization_id, present.roles)
        policies.check_admin_stays(member, admins, collect_pending_changes(list_open_intents(conn)))
    if change.apply_now is not None:
        change.apply_now(conn, member)


def _get_comparable_state(member: MemberRecord) -> tuple[str | None, ...]:
    return member.id, member.clerk_id, member.role, member.deactivation


def _raise_readable_refusal(failed: OperationFailedError, member: MemberRecord, change: MemberChange) -> NoReturn:
    if failed.operation.state == "attention":
        raise failed
    cause = failed.__cause__
    refusal = (
        cause if isinstance(cause, ClerkRejectedError) else ClerkRejectedError(str(failed), code=failed.code, status=0)
    )
    raise policies.translate_refusal(refusal, member=member, role=change.intent_fields.get("role")) from failed


def _get_messages(error: InstepError) -> tuple[str, ...]:
    """Return the sentence of an error, still translatable."""
    message = error.args[0] if error.args else ""
    return (message if isinstance(message, str) else str(error),)


def _read_local_impact(
    conn: Conn, access: OrganizationAccess, member: MemberRecord
) -> tuple[tuple[str, ...], str | None, str | None]:
    """Return the other organizations, and the reasons against removal and against deactivation."""
    others = repository.list_other_organizations(conn, member.user_id, access.organization_id)
    if others and not access.principal.is_instance_admin:
        visible_ids = {each.organization_id for each in list_accesses(conn, access.principal)}
        others = [(organization_id, name) for organization_id, name in others if organization_id in visible_ids]
    admins = repository.list_admins(conn, access.organization_id, access.roles)
    pending = collect_pending_changes(list_open_intents(conn))
    last_admin = _find_refusal_reason(policies.check_admin_stays, member, admins, pending)
    no_removal = _find_refusal_reason(policies.check_remove, access, member) or last_admin
    no_deactivation = _find_refusal_reason(policies.check_deactivate, access, member) or last_admin
    return tuple(name for _, name in others), no_removal, no_deactivation


def _find_refusal_reason(check: Callable[..., None], *args: Any) -> str | None:
    try:
        check(*args)
    except ChangeRejectedError as refusal:
        return _get_messages(refusal)[0]
    return None
