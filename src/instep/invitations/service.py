"""Invite people; resend and revoke invitations, copy their links and read their history."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from instep.audit.entries import NewAuditEntry
from instep.audit.repository import record_entries
from instep.auth.principal import OrganizationAccess, Principal
from instep.core.clock import MINUTE, Clock
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database
from instep.core.errors import InstepError
from instep.core.i18n import lazy_gettext
from instep.domain.emails import canonicalize_email
from instep.domain.errors import CONFLICT, FORBIDDEN, ClerkRejectedError
from instep.domain.models import ClerkId, ClerkInvitation, LostInvitation
from instep.domain.ports import ClerkReader, OrganizationsApi
from instep.invitations import models, policies, repository, workflows
from instep.invitations.application_service import ApplicationInvitationService
from instep.invitations.bulk_service import BulkInvitationService
from instep.invitations.models import (
    ALL_STATUSES,
    DEFAULT_EXPIRY_DAYS,
    LINK_COPIED_ACTION,
    ClerkInvitationsApi,
    InvitationHistory,
    InvitationHistorySources,
    InvitationRequest,
    build_history,
    list_operation_ids,
)
from instep.invitations.policies import (
    InvitationRefusedError,
    authorize_organization_admin,
    build_not_pending_error,
    convert_clerk_error,
    get_expiry_days,
    get_inviter_id,
    get_operation_target,
    parse_invitation_id,
    validate_email,
    validate_expiry_days,
    validate_name,
    validate_role,
)
from instep.invitations.repository import list_recent_send_records
from instep.mirror.repository import count_members
from instep.operations.executor import OperationExecutor
from instep.operations.repository import reopen_operation
from instep.operations.workflow import Operation, OperationFailedError, OperationRequest

"""Kinds of operations that wait for hours by plan: as many as Clerk takes in one."""


@dataclass(frozen=True)
class InvitationSender:
    """Sends invitations to an organization. `redirect_url` is where an accepted one leads."""

    db: Database
    runner: OperationExecutor
    directory: ClerkReader
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def __call__(
        self,
        access: OrganizationAccess,
        *,
        email: str,
        role: str | None = None,
        expires_in_days: int = DEFAULT_EXPIRY_DAYS,
        idempotency_key: str | None = None,
    ) -> ClerkInvitation:
        """Invite one address by a mail; see `send`."""
        wanted = InvitationRequest(email=email, role=role, expires_in_days=expires_in_days)
        return await self.send(access, wanted, idempotency_key=idempotency_key)

    async def send(
        self, access: OrganizationAccess, wanted: InvitationRequest, *, idempotency_key: str | None = None
    ) -> ClerkInvitation:
        """Invite one address.

        1 the right, the address and the rest are checked; 2 the operation is kept, unless too many were sent; 3 it is
        carried out: Clerk creates the invitation and sends the mail. Raises InvitationRefusedError (nothing was changed),
        Unsettled (the worker finds out and finishes) and Busy.
        """
        organization = authorize_organization_admin(access)
        address = validate_email(wanted.email)
        name, role = validate_name(wanted.name), validate_role(access.roles, wanted.role)
        asked = OperationRequest(
            kind=models.SEND_KIND,
            target=get_operation_target(organization, address),
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=idempotency_key,
            intent={
                "organization": organization,
                "email": address,
                "role": role,
                "expires_in_days": validate_expiry_days(wanted.expires_in_days),
                "notify": wanted.notify,
                "inviter": get_inviter_id(access),
                "redirect_url": self.redirect_url,
                "private_metadata": {models.NAME_METADATA_KEY: name} if name else {},
            },
        )
        try:
            operation = await self.runner.run(asked, opening=partial(self._check, access=access, email=address))
        except OperationFailedError as failed:
            raise await InvitationErrorBuilder(self.db, self.directory).of(access, failed) from failed
        return workflows.deserialize_invitation(operation.done["create"])

    def _check(self, conn: Conn, *, access: OrganizationAccess, email: str) -> None:
        now = self.clock()
        sent = list_recent_send_records(conn, access, now=now)
        policies.check_daily_limits(sent, actor=access.principal.id, emails=[email], now=now)


@dataclass(frozen=True)
class InvitationResender:
    """Sends invitations again: with the same address, role and metadata, under a new link."""

    db: Database
    runner: OperationExecutor
    actor: OrganizationsApi
    directory: ClerkReader
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def __call__(
        self, access: OrganizationAccess, *, invitation: str, notify: bool = True, idempotency_key: str | None = None
    ) -> ClerkInvitation:
        """Send one again; gives the new one.

        1 the right is checked and the invitation read in Clerk; 2 the operation is kept with everything that the new
        one needs, unless the old one is over (told apart), too fresh, or too many were sent; 3 a pending one is
        revoked, and its link is dead; 4 the new one is made. Raises InvitationRefusedError (`invitation_lost`: revoked and not
        made anew; else nothing was changed), Unsettled (the worker goes on until it is there) and Busy.
        """
        organization = authorize_organization_admin(access, doing="send invitations again")
        found = await find_invitation(self.actor, organization, invitation)
        inviter = await self.db.read(_choose_inviter_id, access, found)
        asked = _build_operation_request(access, models.RESEND_KIND, organization, invitation, found, idempotency_key)
        if found is not None:
            private = {
                name: value for name, value in found.private_metadata.items() if name != models.OPERATION_METADATA_KEY
            }
            asked.intent.update(
                role=found.role,
                status=found.status,
                expires_in_days=get_expiry_days(found) or DEFAULT_EXPIRY_DAYS,
                notify=notify,
                inviter=inviter,
                redirect_url=self.redirect_url,
                public_metadata=found.public_metadata,
                private_metadata=private,
            )
        try:
            operation = await self.runner.run(asked, opening=partial(self._check, access=access, found=found))
        except OperationFailedError as failed:
            raise await InvitationErrorBuilder(self.db, self.directory).of(access, failed) from failed
        return workflows.deserialize_invitation(operation.done["create"])

    async def again(self, access: OrganizationAccess, *, operation: str) -> Operation:
        """Try anew to make an invitation that got lost: the worker takes it on within a second.

        Raises InvitationRefusedError where it is not lost (any more).
        """
        authorize_organization_admin(access, doing="send invitations again")
        reopened = await self.db.write(self._reopen, access.organization_id, operation)
        if reopened is None:
            raise InvitationRefusedError(
                "This invitation is not lost, or is tried already.", code="not_lost", status=409
            )
        return reopened

    async def list_lost(self, organization_id: str) -> list[LostInvitation]:
        """The invitations of an organization that got lost, newest first."""
        return await self.db.read(repository.list_lost_invitations, organization_id)

    async def list_cooldowns(self, access: OrganizationAccess) -> dict[str, int]:
        """The addresses (lower case) whose invitation can't be sent again just yet, and until when."""
        now = self.clock()
        sent = await self.db.read(list_recent_send_records, access, now=now)
        return policies.find_resend_cooldowns(sent, now=now)

    def _reopen(self, conn: Conn, organization_id: str, id: str) -> Operation | None:
        is_lost = any(it.operation_id == id for it in repository.list_lost_invitations(conn, organization_id))
        return reopen_operation(conn, id, now=self.clock()) if is_lost else None

    def _check(self, conn: Conn, *, access: OrganizationAccess, found: ClerkInvitation | None) -> None:
        now = self.clock()
        if found is None or found.status not in ("pending", "expired"):
            raise load_not_pending_error(conn, access, found, now=now)
        sent = list_recent_send_records(conn, access, now=now)
        policies.check_resend_cooldown(sent, email=found.email, now=now)
        policies.check_daily_limits(sent, actor=access.principal.id, emails=[found.email], now=now)


@dataclass(frozen=True)
class InvitationRevoker:
    """Takes invitations back."""

    db: Database
    runner: OperationExecutor
    actor: OrganizationsApi
    directory: ClerkReader
    clock: Clock = field(default=system_now)

    async def __call__(
        self, access: OrganizationAccess, *, invitation: str, idempotency_key: str | None = None
    ) -> ClerkInvitation:
        """Revoke one.

        1 the right is checked and the invitation read in Clerk; 2 the operation is kept, unless it is over (told
        apart); 3 Clerk revokes it, and its link is dead. Raises InvitationRefusedError (nothing was changed), Unsettled, Busy.
        """
        organization = authorize_organization_admin(access, doing="revoke invitations")
        found = await find_invitation(self.actor, organization, invitation)
        asked = _build_operation_request(access, models.REVOKE_KIND, organization, invitation, found, idempotency_key)
        try:
            operation = await self.runner.run(asked, opening=partial(self._check, access=access, found=found))
        except OperationFailedError as failed:
            raise await InvitationErrorBuilder(self.db, self.directory).of(access, failed) from failed
        return workflows.deserialize_invitation(operation.done["revoke"])

    def _check(self, conn: Conn, *, access: OrganizationAccess, found: ClerkInvitation | None) -> None:
        if found is None or found.status != "pending":
            raise load_not_pending_error(conn, access, found, now=self.clock())


@dataclass(frozen=True)
class InvitationLinkReader:
    """Gives the address by which an invitation is accepted.

    Whoever opens it has proved the invited address. `admins` are the addresses (lower case) that make somebody an
    instance admin: a link for one of these is for instance admins alone, in person.
    """

    db: Database
    actor: OrganizationsApi
    clock: Clock = field(default=system_now)
    admins: frozenset[str] = frozenset()

    async def __call__(self, access: OrganizationAccess, *, invitation: str) -> str:
        """The link of a pending invitation.

        1 the right is checked; 2 the invitation is read in Clerk, and told apart where it is over; 3 the link is read;
        4 the audit says who has it; only then is it given. Raises InvitationRefusedError.
        """
        organization = authorize_organization_admin(access, doing="copy the link of an invitation")
        found = await find_invitation(self.actor, organization, invitation)
        if found is None or found.status != "pending":
            raise await self.db.read(load_not_pending_error, access, found, now=self.clock())
        if canonicalize_email(found.email) in self.admins and not _is_signed_in_instance_admin(access.principal):
            words = "This address belongs to an instance admin. Only the mail gives the link to it."
            raise InvitationRefusedError(words, code="rights_by_link", status=FORBIDDEN)
        link = await self.actor.find_accept_url(organization, found.clerk_id)
        if link is None:
            raise InvitationRefusedError("Clerk gives no link for this invitation.", code="no_link", status=409)
        await self.db.write(self._record, access, organization, found)
        return link

    def _record(self, conn: Conn, access: OrganizationAccess, organization: ClerkId, found: ClerkInvitation) -> None:
        entry = NewAuditEntry(
            actor=access.principal.id,
            action=LINK_COPIED_ACTION,
            target=get_operation_target(organization, found.email),
            organization_id=access.organization_id,
            details={"invitation": found.clerk_id},
        )
        record_entries(conn, [entry], now=self.clock())


@dataclass(frozen=True)
class InvitationHistoryReader:
    """Tells the story of an invitation across its resends."""

    db: Database
    actor: OrganizationsApi
    directory: ClerkReader
    clock: Clock = field(default=system_now)

    async def __call__(self, access: OrganizationAccess, *, invitation: str) -> InvitationHistory:
        """The story of one invitation.

        1 the right is checked; 2 the invitation is read in Clerk, and where it is no more its address is found in our
        operations; 3 all invitations of that address are read; 4 what we did and have is put beside them.
        Raises InvitationRefusedError.
        """
        organization = authorize_organization_admin(access, doing="see the timeline of an invitation")
        found = await find_invitation(self.actor, organization, invitation)
        email = (
            found.email
            if found
            else await self.db.read(repository.find_invited_email, access.organization_id, invitation)
        )
        if email is None:
            raise convert_clerk_error(build_not_pending_error(None), email="", role="")
        try:
            listed = await self.directory.list_invitations(organization, statuses=ALL_STATUSES, email=email)
        except ClerkRejectedError as refusal:
            raise convert_clerk_error(refusal, email=email, role="") from refusal
        return await self.db.read(self._tell, access, organization, email, invitation, listed)

    def _tell(
        self,
        conn: Conn,
        access: OrganizationAccess,
        organization: ClerkId,
        email: str,
        id: str,
        listed: list[ClerkInvitation],
    ) -> InvitationHistory:
        target = get_operation_target(organization, email)
        operations = repository.list_operations(conn, targets=[target], ids=list_operation_ids(listed))
        accepted = next((it.user for it in listed if it.status == "accepted"), None)
        facts = InvitationHistorySources(
            invitations=listed,
            operations=operations,
            copied=repository.list_link_copies(conn, target, action=LINK_COPIED_ACTION),
            joined=repository.find_invitee_membership(
                conn, access.organization_id, clerk_user_id=accepted, email=email
            ),
        )
        events = tuple(build_history(id, facts, now=self.clock()))
        names = repository.get_person_names(conn, {it.actor for it in events if it.actor})
        return InvitationHistory(email=email, events=events, names=names)


@dataclass(frozen=True)
class InvitationService:
    """The flows of this slice."""

    invite: InvitationSender
    invite_many: BulkInvitationService
    resend: InvitationResender
    revoke: InvitationRevoker
    copy_link: InvitationLinkReader
    timeline: InvitationHistoryReader
    applications: ApplicationInvitationService


def make_invitation_service(
    db: Database,
    runner: OperationExecutor,
    clerk: ClerkInvitationsApi,
    *,
    redirect_url: str | None,
    clock: Clock,
    admins: frozenset[str] = frozenset(),
) -> InvitationService:
    """The flows with what they need. `redirect_url` is where an accepted invitation leads; `admins`: see InvitationLinkReader."""
    return InvitationService(
        invite=InvitationSender(db, runner, clerk, redirect_url, clock),
        invite_many=BulkInvitationService(db, runner, clerk, redirect_url, clock),
        resend=InvitationResender(db, runner, clerk, clerk, redirect_url, clock),
        revoke=InvitationRevoker(db, runner, clerk, clerk, clock),
        copy_link=InvitationLinkReader(db, clerk, clock, admins),
        timeline=InvitationHistoryReader(db, clerk, clerk, clock),
        applications=ApplicationInvitationService(db, runner, clerk, redirect_url, clock),
    )


async def find_invitation(actor: OrganizationsApi, organization: ClerkId, id: str) -> ClerkInvitation | None:
    """An invitation as Clerk has it now. Raises InvitationRefusedError where Clerk does not let itself be asked."""
    checked = parse_invitation_id(id)
    try:
        return await actor.find_invitation(organization, checked) if checked else None
    except ClerkRejectedError as refusal:
        raise convert_clerk_error(refusal, email="This invitation", role="") from refusal


def load_not_pending_error(
    conn: Conn, access: OrganizationAccess, found: ClerkInvitation | None, *, now: int
) -> InvitationRefusedError:
    """Why an invitation can't be changed any more; of one that is revoked also by whom, if it was done here."""
    refused = convert_clerk_error(build_not_pending_error(found), email="", role="")
    if found is None or found.status != "revoked" or access.organization_clerk_id is None:
        return refused
    target = get_operation_target(access.organization_clerk_id, found.email)
    kinds = {models.REVOKE_KIND: "Already revoked", models.RESEND_KIND: "Already sent again"}
    for operation in reversed(repository.list_operations(conn, targets=[target])):
        if operation.kind in kinds and operation.intent.get("invitation") == found.clerk_id and operation.done:
            who = repository.get_person_names(conn, [operation.actor]).get(operation.actor, operation.actor)
            words = lazy_gettext(
                "%(value)s by %(who)s %(value_2)s min ago.",
                value=kinds[operation.kind],
                who=who,
                value_2=max(0, now - operation.changed_at) // MINUTE,
            )
            return InvitationRefusedError(words, code=refused.code, status=refused.status)
    return refused


def _build_operation_request(
    access: OrganizationAccess,
    kind: str,
    organization: ClerkId,
    id: str,
    found: ClerkInvitation | None,
    key: str | None,
) -> OperationRequest:
    intent: dict[str, Any] = {"organization": organization, "invitation": id, "by": get_inviter_id(access)}
    if found is not None:
        intent["email"] = found.email
    return OperationRequest(
        kind=kind,
        target=get_operation_target(organization, found.email if found else id),
        actor=access.principal.id,
        organization_id=access.organization_id,
        idempotency_key=key,
        intent=intent,
    )


def _choose_inviter_id(conn: Conn, access: OrganizationAccess, found: ClerkInvitation | None) -> ClerkId | None:
    """In whose name the new one is made: the old one's inviter while they may invite, else whoever sends it again."""
    before = found.inviter_id if found else None
    if before and repository.is_active_manager(
        conn, access.organization_id, before, sorted(access.roles.managing_roles)
    ):
        return before
    return get_inviter_id(access)


def _is_signed_in_instance_admin(who: Principal) -> bool:
    return who.is_instance_admin and who.kind != "api_key" and who.actor is None


SEAT_QUOTA_EXCEEDED_CODE = "organization_membership_quota_exceeded"


@dataclass(frozen=True)
class InvitationErrorBuilder:
    """Puts failures into words; reads what it needs to be exact."""

    db: Database
    directory: ClerkReader

    async def of(self, access: OrganizationAccess, failed: OperationFailedError) -> InvitationRefusedError:
        """The refusal as a sentence: that something was lost, how many seats are in use, or what Clerk said."""
        intent, refusal = failed.operation.intent, _get_clerk_error(failed)
        if failed.operation.state == "attention":
            return InvitationRefusedError(str(failed), code="invitation_lost", status=CONFLICT, refusal=refusal)
        if refusal.code == SEAT_QUOTA_EXCEEDED_CODE and access.organization_clerk_id:
            return await self._no_seats(ClerkId(access.organization_clerk_id), access, refusal)
        return convert_clerk_error(refusal, email=intent["email"], role=intent.get("role", ""))

    async def _no_seats(
        self, organization: ClerkId, access: OrganizationAccess, refusal: ClerkRejectedError
    ) -> InvitationRefusedError:
        totals = await self.db.read(count_members, access.organization_id)
        members = sum(count for (status, _), count in totals.items() if status != "removed")
        try:
            invited = len(await self.directory.list_invitations(organization, statuses=("pending",)))
        except InstepError:
            return convert_clerk_error(refusal, email="", role="")
        words = lazy_gettext(
            "All %(value)s seats are in use (%(members)s members, %(invited)s invitations).",
            value=members + invited,
            members=members,
            invited=invited,
        )
        return InvitationRefusedError(words, code="no_seats", status=CONFLICT, refusal=refusal)


def _get_clerk_error(failed: OperationFailedError) -> ClerkRejectedError:
    """Clerk's refusal behind a failure; of a repetition only its code is known."""
    cause = failed.__cause__
    return (
        cause if isinstance(cause, ClerkRejectedError) else ClerkRejectedError(str(failed), code=failed.code, status=0)
    )
