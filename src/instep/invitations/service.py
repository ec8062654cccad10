"""Invite people; resend and revoke invitations, copy their links and read their history."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from instep.audit.repository import NewAuditEntry, record_entries
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
from instep.invitations.models import ALL_STATUSES, DEFAULT_EXPIRY_DAYS, InvitationHistory
from instep.invitations.policies import (
    InvitationRefusedError,
    authorize_organization_admin,
    build_not_pending_error,
    convert_clerk_error,
    get_inviter_id,
    get_operation_target,
)
from instep.mirror.repository import count_members
from instep.operations.executor import OperationExecutor
from instep.operations.repository import encode_intent, reopen_operation
from instep.operations.workflow import Operation, OperationFailedError, OperationIntent, OperationRequest

SEAT_QUOTA_EXCEEDED_CODE = "organization_membership_quota_exceeded"
ONLY_ADMINS_CAN_RESEND = lazy_gettext("Only admins can resend invitations.")
ONLY_ADMINS_CAN_REVOKE = lazy_gettext("Only admins can revoke invitations.")
ONLY_ADMINS_CAN_COPY_LINKS = lazy_gettext("Only admins can copy the link of an invitation.")
ONLY_ADMINS_CAN_SEE_TIMELINES = lazy_gettext("Only admins can see the timeline of an invitation.")
_UNREADABLE_INVITATION = lazy_gettext("This invitation")


@dataclass(frozen=True)
class InvitationService:
    """Invite people to an organization; resend and revoke invitations, copy their links and read their history.

    Each changing method is one operation: check the permission, commit the intent, call Clerk, finish both sides in
    one transaction. `redirect_url` is the page that an accepted invitation leads to; `instance_admins` are the
    canonical addresses of the instance admins. Errors: InvitationRefusedError (nothing was changed, unless its code is
    `invitation_lost`), OperationPendingError (the worker finishes it) and ConflictError (another change of the same
    address is running).
    """

    db: Database
    executor: OperationExecutor
    reader: ClerkReader
    organizations: OrganizationsApi
    redirect_url: str | None
    instance_admins: frozenset[str] = frozenset()
    clock: Clock = field(default=system_now)

    async def invite(
        self,
        access: OrganizationAccess,
        *,
        email: str,
        role: str | None = None,
        name: str | None = None,
        expires_in_days: int = DEFAULT_EXPIRY_DAYS,
        notify: bool = True,
        idempotency_key: str | None = None,
    ) -> ClerkInvitation:
        """Create an invitation in Clerk, which sends the email unless `notify` is off. `role` None: the default role.

        Raises:
            InvitationRefusedError: no permission, an invalid value, a daily limit, or a refusal of Clerk.
        """
        organization_id = authorize_organization_admin(access)
        address = policies.validate_email(email)
        name, role = policies.validate_name(name), policies.validate_role(access.roles, role)
        request = OperationRequest(
            kind=models.SEND_KIND,
            target=get_operation_target(organization_id, address),
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=idempotency_key,
            intent=encode_intent(
                models.SendIntent(
                    organization=organization_id,
                    email=address,
                    role=role,
                    expires_in_days=policies.validate_expiry_days(expires_in_days),
                    notify=notify,
                    inviter=get_inviter_id(access),
                    redirect_url=self.redirect_url,
                    private_metadata={models.NAME_METADATA_KEY: name} if name else {},
                )
            ),
        )
        check = partial(self._check_daily_limits, access=access, email=address)
        operation = await self._run(access, request, check)
        return workflows.deserialize_invitation(operation.done["create"])

    async def resend(
        self,
        access: OrganizationAccess,
        invitation_id: str,
        *,
        notify: bool = True,
        idempotency_key: str | None = None,
    ) -> ClerkInvitation:
        """Revoke a pending invitation and create a new one with the same address, role and metadata.

        An expired one is only created again. Returns the new invitation, which has another link.

        Raises:
            InvitationRefusedError: no permission; it was accepted or revoked; it was resent less than a minute ago; a
                daily limit; a refusal of Clerk. Code `invitation_lost`: it was revoked, and the new one not created.
        """
        organization_id = authorize_organization_admin(access, message=ONLY_ADMINS_CAN_RESEND)
        old = await self._find(organization_id, invitation_id)
        inviter_id = await self.db.read(_choose_inviter_id, access, old)
        intent, subject = None, invitation_id
        if old is not None:
            intent = self._build_resend_intent(access, organization_id, old, notify=notify, inviter_id=inviter_id)
            subject = old.email
        request = _build_request(access, models.RESEND_KIND, organization_id, subject, intent, idempotency_key)
        operation = await self._run(access, request, partial(self._check_can_resend, access=access, old=old))
        return workflows.deserialize_invitation(operation.done["create"])

    async def retry_lost(self, access: OrganizationAccess, operation_id: str) -> Operation:
        """Reopen the resend operation of a lost invitation; the worker runs it within a second.

        Raises:
            InvitationRefusedError: no permission, or the invitation is not lost, or is being retried already.
        """
        authorize_organization_admin(access, message=ONLY_ADMINS_CAN_RESEND)
        reopened = await self.db.write(self._reopen, access.organization_id, operation_id)
        if reopened is None:
            raise InvitationRefusedError(
                lazy_gettext("This invitation is not lost, or is already being retried."),
                code="not_lost",
                status=CONFLICT,
            )
        return reopened

    async def revoke(
        self, access: OrganizationAccess, invitation_id: str, *, idempotency_key: str | None = None
    ) -> ClerkInvitation:
        """Revoke a pending invitation; its link stops working.

        Raises:
            InvitationRefusedError: no permission; it was accepted or revoked, or has expired; a refusal of Clerk.
        """
        organization_id = authorize_organization_admin(access, message=ONLY_ADMINS_CAN_REVOKE)
        found = await self._find(organization_id, invitation_id)
        intent, subject = None, invitation_id
        if found is not None:
            intent, subject = _build_revoke_intent(access, organization_id, found), found.email
        request = _build_request(access, models.REVOKE_KIND, organization_id, subject, intent, idempotency_key)
        operation = await self._run(access, request, partial(self._check_can_revoke, access=access, found=found))
        return workflows.deserialize_invitation(operation.done["revoke"])

    async def copy_link(self, access: OrganizationAccess, invitation_id: str) -> str:
        """Return the secret link that accepts a pending invitation, after recording the access in the audit.

        A person who opens the link has proved the invited address. So the link to the address of an instance admin is
        given only to instance admins who are signed in themselves, not to API keys or impersonators.

        Raises:
            InvitationRefusedError: no permission; it is not pending; Clerk gives no link.
        """
        organization_id = authorize_organization_admin(access, message=ONLY_ADMINS_CAN_COPY_LINKS)
        found = await self._find(organization_id, invitation_id)
        if found is None or found.status != "pending":
            raise await self.db.read(load_not_pending_error, access, found, now=self.clock())
        is_admin_address = canonicalize_email(found.email) in self.instance_admins
        if is_admin_address and not _is_signed_in_instance_admin(access.principal):
            raise InvitationRefusedError(
                lazy_gettext("This address belongs to an instance admin. The link is only sent by email."),
                code="rights_by_link",
                status=FORBIDDEN,
            )
        link = await self.organizations.find_accept_url(organization_id, found.clerk_id)
        if link is None:
            raise InvitationRefusedError(
                lazy_gettext("Clerk gives no link for this invitation."), code="no_link", status=CONFLICT
            )
        await self.db.write(self._record_link_copy, access, organization_id, found)
        return link

    async def get_timeline(self, access: OrganizationAccess, invitation_id: str) -> InvitationHistory:
        """Return the history of an invitation across its resends, from Clerk and from our operations.

        The address of an invitation that Clerk no longer has is taken from our operations.

        Raises:
            InvitationRefusedError: no permission; no such invitation; a refusal of Clerk.
        """
        organization_id = authorize_organization_admin(access, message=ONLY_ADMINS_CAN_SEE_TIMELINES)
        found = await self._find(organization_id, invitation_id)
        email = (
            found.email
            if found
            else await self.db.read(repository.find_invited_email, access.organization_id, invitation_id)
        )
        if email is None:
            raise convert_clerk_error(build_not_pending_error(None), email="", role="")
        try:
            listed = await self.reader.list_invitations(organization_id, statuses=ALL_STATUSES, email=email)
        except ClerkRejectedError as refusal:
            raise convert_clerk_error(refusal, email=email, role="") from refusal
        target = get_operation_target(organization_id, email)
        return await self.db.read(self._load_history, access, target, email, invitation_id, listed)

    async def list_lost(self, organization_id: str) -> list[LostInvitation]:
        """Return the lost invitations of an organization, newest first."""
        return await self.db.read(repository.list_lost_invitations, organization_id)

    async def list_cooldowns(self, access: OrganizationAccess) -> dict[str, int]:
        """Return the canonical addresses that cannot be resent to yet, with the time when they can."""
        now = self.clock()
        sent = await self.db.read(repository.list_recent_send_records, access, now=now)
        return policies.find_resend_cooldowns(sent, now=now)

    def _build_resend_intent(
        self,
        access: OrganizationAccess,
        organization_id: ClerkId,
        old: ClerkInvitation,
        *,
        notify: bool,
        inviter_id: ClerkId | None,
    ) -> models.ResendIntent:
        return models.ResendIntent(
            organization=organization_id,
            invitation=old.clerk_id,
            by=get_inviter_id(access),
            email=old.email,
            role=old.role,
            status=old.status,
            expires_in_days=policies.get_expiry_days(old) or DEFAULT_EXPIRY_DAYS,
            notify=notify,
            inviter=inviter_id,
            redirect_url=self.redirect_url,
            public_metadata=old.public_metadata,
            private_metadata={
                key: value for key, value in old.private_metadata.items() if key != models.OPERATION_METADATA_KEY
            },
        )

    async def _find(self, organization_id: ClerkId, invitation_id: str) -> ClerkInvitation | None:
        """Return the invitation's present state in Clerk. Raises InvitationRefusedError when Clerk refuses to read."""
        clerk_id = policies.parse_invitation_id(invitation_id)
        try:
            return await self.organizations.find_invitation(organization_id, clerk_id) if clerk_id else None
        except ClerkRejectedError as refusal:
            raise convert_clerk_error(refusal, email=_UNREADABLE_INVITATION, role="") from refusal

    async def _run(
        self, access: OrganizationAccess, request: OperationRequest, check: Callable[[Conn], None]
    ) -> Operation:
        """Run an operation whose intent is committed together with `check`; convert its failure."""
        try:
            return await self.executor.run(request, precondition=check)
        except OperationFailedError as failed:
            raise await self._convert_failure(access, failed) from failed

    async def _convert_failure(
        self, access: OrganizationAccess, failed: OperationFailedError
    ) -> InvitationRefusedError:
        """Return the error to show: a lost invitation, the seats in use, or Clerk's refusal."""
        intent, refusal = failed.operation.intent, get_clerk_error(failed)
        if failed.operation.state == "attention":
            return InvitationRefusedError(str(failed), code="invitation_lost", status=CONFLICT, refusal=refusal)
        if refusal.code == SEAT_QUOTA_EXCEEDED_CODE and access.organization_clerk_id:
            return await self._build_no_seats_error(ClerkId(access.organization_clerk_id), access, refusal)
        return convert_clerk_error(refusal, email=intent["email"], role=intent.get("role", ""))

    async def _build_no_seats_error(
        self, organization_id: ClerkId, access: OrganizationAccess, refusal: ClerkRejectedError
    ) -> InvitationRefusedError:
        totals = await self.db.read(count_members, access.organization_id)
        members = sum(count for (status, _), count in totals.items() if status != "removed")
        try:
            invitations = len(await self.reader.list_invitations(organization_id, statuses=("pending",)))
        except InstepError:
            return convert_clerk_error(refusal, email="", role="")
        message = lazy_gettext(
            "All %(seats)s seats are in use: %(members)s members, %(invitations)s invitations.",
            seats=members + invitations,
            members=members,
            invitations=invitations,
        )
        return InvitationRefusedError(message, code="no_seats", status=CONFLICT, refusal=refusal)

    def _check_daily_limits(self, conn: Conn, *, access: OrganizationAccess, email: str) -> None:
        now = self.clock()
        sent = repository.list_recent_send_records(conn, access, now=now)
        policies.check_daily_limits(sent, actor=access.principal.id, emails=[email], now=now)

    def _check_can_resend(self, conn: Conn, *, access: OrganizationAccess, old: ClerkInvitation | None) -> None:
        now = self.clock()
        if old is None or old.status not in ("pending", "expired"):
            raise load_not_pending_error(conn, access, old, now=now)
        sent = repository.list_recent_send_records(conn, access, now=now)
        policies.check_resend_cooldown(sent, email=old.email, now=now)
        policies.check_daily_limits(sent, actor=access.principal.id, emails=[old.email], now=now)

    def _check_can_revoke(self, conn: Conn, *, access: OrganizationAccess, found: ClerkInvitation | None) -> None:
        if found is None or found.status != "pending":
            raise load_not_pending_error(conn, access, found, now=self.clock())

    def _reopen(self, conn: Conn, organization_id: str, operation_id: str) -> Operation | None:
        lost = repository.list_lost_invitations(conn, organization_id)
        is_lost = any(it.operation_id == operation_id for it in lost)
        return reopen_operation(conn, operation_id, now=self.clock()) if is_lost else None

    def _record_link_copy(
        self, conn: Conn, access: OrganizationAccess, organization_id: ClerkId, invitation: ClerkInvitation
    ) -> None:
        entry = NewAuditEntry(
            actor=access.principal.id,
            action=models.LINK_COPIED_ACTION,
            target=get_operation_target(organization_id, invitation.email),
            organization_id=access.organization_id,
            details={"invitation": invitation.clerk_id},
        )
        record_entries(conn, [entry], now=self.clock())

    def _load_history(
        self,
        conn: Conn,
        access: OrganizationAccess,
        target: str,
        email: str,
        invitation_id: str,
        listed: list[ClerkInvitation],
    ) -> InvitationHistory:
        user_id = next((it.user for it in listed if it.status == "accepted"), None)
        sources = models.InvitationHistorySources(
            invitations=listed,
            operations=repository.list_operations(
                conn, targets=[target], operation_ids=models.list_operation_ids(listed)
            ),
            link_copies=repository.list_link_copies(conn, target),
            membership=repository.find_invitee_membership(
                conn, access.organization_id, clerk_user_id=user_id, email=email
            ),
        )
        events = tuple(models.build_history(invitation_id, sources, now=self.clock()))
        names = repository.get_person_names(conn, {event.actor for event in events if event.actor})
        return InvitationHistory(email=email, events=events, names=names)


def load_not_pending_error(
    conn: Conn, access: OrganizationAccess, invitation: ClerkInvitation | None, *, now: int
) -> InvitationRefusedError:
    """Return the error for an invitation that cannot be changed; for one revoked here, with the person and the time."""
    error = convert_clerk_error(build_not_pending_error(invitation), email="", role="")
    if invitation is None or invitation.status != "revoked" or access.organization_clerk_id is None:
        return error
    target = get_operation_target(access.organization_clerk_id, invitation.email)
    for operation in reversed(repository.list_operations(conn, targets=[target])):
        if operation.intent.get("invitation") != invitation.clerk_id or not operation.done:
            continue
        if operation.kind in (models.REVOKE_KIND, models.RESEND_KIND):
            names = repository.get_person_names(conn, [operation.actor])
            name = names.get(operation.actor, operation.actor)
            minutes = max(0, now - operation.changed_at) // MINUTE
            message = (
                lazy_gettext("Already revoked by %(name)s %(minutes)s min ago.", name=name, minutes=minutes)
                if operation.kind == models.REVOKE_KIND
                else lazy_gettext("Already resent by %(name)s %(minutes)s min ago.", name=name, minutes=minutes)
            )
            return InvitationRefusedError(message, code=error.code, status=error.status)
    return error


def get_clerk_error(failed: OperationFailedError) -> ClerkRejectedError:
    """Return Clerk's refusal that ended an operation; for a repeated request only its code is known."""
    cause = failed.__cause__
    if isinstance(cause, ClerkRejectedError):
        return cause
    return ClerkRejectedError(str(failed), code=failed.code, status=0)


def _build_revoke_intent(
    access: OrganizationAccess, organization_id: ClerkId, invitation: ClerkInvitation
) -> models.RevokeIntent:
    return models.RevokeIntent(
        organization=organization_id,
        invitation=invitation.clerk_id,
        email=invitation.email,
        by=get_inviter_id(access),
    )


def _build_request(
    access: OrganizationAccess,
    kind: str,
    organization_id: ClerkId,
    subject: str,
    intent: OperationIntent | None,
    idempotency_key: str | None,
) -> OperationRequest:
    """Build the request of an operation on the invitation to an address.

    For an invitation that Clerk does not have, `subject` is its id, and there is no intent: such a request repeats an
    earlier one, or is rejected by its precondition.
    """
    return OperationRequest(
        kind=kind,
        target=get_operation_target(organization_id, subject),
        actor=access.principal.id,
        organization_id=access.organization_id,
        idempotency_key=idempotency_key,
        intent=encode_intent(intent) if intent is not None else {},
    )


def _choose_inviter_id(conn: Conn, access: OrganizationAccess, old: ClerkInvitation | None) -> ClerkId | None:
    """Return the old invitation's inviter while they may still invite, else the person who resends."""
    inviter_id = old.inviter_id if old else None
    if inviter_id and repository.is_active_manager(
        conn, access.organization_id, inviter_id, sorted(access.roles.managing_roles)
    ):
        return inviter_id
    return get_inviter_id(access)


def _is_signed_in_instance_admin(principal: Principal) -> bool:
    return principal.is_instance_admin and principal.kind != "api_key" and principal.actor is None
