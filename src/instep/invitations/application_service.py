"""Invite people to the application; list, resend and revoke these invitations."""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec.structs import replace

from instep.auth.principal import Principal, grants_instance_admin
from instep.core.clock import DAY, Clock
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database
from instep.core.i18n import lazy_gettext
from instep.domain.emails import canonicalize_email
from instep.domain.errors import CONFLICT, FORBIDDEN, NOT_FOUND, ClerkRejectedError
from instep.domain.models import ClerkApplicationInvitation
from instep.domain.ports import ApplicationInvitationsApi
from instep.invitations import models, policies, repository, workflows
from instep.invitations.models import DEFAULT_EXPIRY_DAYS, OPERATION_METADATA_KEY, ApplicationInvitationRequest
from instep.invitations.policies import (
    NOT_PENDING_ERRORS,
    InvitationRefusedError,
    convert_clerk_error,
    get_expiry_days,
    parse_invitation_id,
    validate_email,
    validate_expiry_days,
)
from instep.mirror.apply import ORGANIZATION_METADATA_KEY, ROLE_METADATA_KEY
from instep.mirror.repository import find_organization
from instep.operations.executor import OperationExecutor
from instep.operations.repository import find_by_idempotency_key, find_operation
from instep.operations.workflow import OperationFailedError, OperationRequest

APPLICATION_INVITATION_STATUSES = ("pending", "accepted", "revoked", "expired")
_ROLE_PATTERN = re.compile(r"[a-z][a-z0-9_:-]{0,63}", re.ASCII)
_ENDED_ERRORS = {
    "invitation_already_accepted": NOT_PENDING_ERRORS["accepted"],
    "invitation_already_revoked": NOT_PENDING_ERRORS["revoked"],
}


@dataclass(frozen=True)
class ApplicationInvitationService:
    """Invites to the application; for instance admins alone. `redirect_url` is where an accepted one leads."""

    db: Database
    runner: OperationExecutor
    clerk: ApplicationInvitationsApi
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def invite(
        self, principal: Principal, wanted: ApplicationInvitationRequest, *, idempotency_key: str | None = None
    ) -> ClerkApplicationInvitation:
        """Invite one address.

        1 the right, the address, the role and the organization are checked; 2 the operation is kept, unless too many
        were sent; 3 Clerk creates the invitation, with the role and the organization in the metadata that the user
        will have. Raises InvitationRefusedError (nothing was changed), Unsettled and Busy.
        """
        _require_instance_admin(principal)
        email = validate_email(wanted.email)
        organization = await self._organization(wanted.organization)
        role = validate_application_role(wanted.role, is_local=organization is not None)
        public = {ROLE_METADATA_KEY: role} | ({ORGANIZATION_METADATA_KEY: organization} if organization else {})
        _check_api_key_rights(principal, public)
        asked = OperationRequest(
            kind=models.APPLICATION_INVITE_KIND,
            target=f"application:{canonicalize_email(email)}",
            actor=principal.id,
            organization_id=organization,
            idempotency_key=idempotency_key,
            intent={
                "email": email,
                "expires_in_days": validate_expiry_days(wanted.expires_in_days),
                "notify": wanted.notify,
                "redirect_url": self.redirect_url,
                "public_metadata": public,
            },
        )
        step = await self._run(asked, "create", email, opening=partial(self._check, principal=principal, email=email))
        return workflows.deserialize_application_invitation(step)

    async def list(
        self, principal: Principal, *, status: str | None = None, query: str = ""
    ) -> list[ClerkApplicationInvitation]:
        """The newest ones; in all statuses but `revoked`, unless one is asked for. Raises InvitationRefusedError."""
        _require_instance_admin(principal)
        try:
            return await self.clerk.list_application_invitations(status=status, query=query)
        except ClerkRejectedError as refusal:
            raise convert_clerk_error(refusal, email="", role="") from refusal

    async def find(self, principal: Principal, invitation: str) -> ClerkApplicationInvitation:
        """One of those that are listed, or revoked. Raises InvitationRefusedError (404 for none)."""
        id = parse_invitation_id(invitation)
        if id is None:
            raise _make_not_found_error()
        listed = await self.list(principal, query=id) + await self.list(principal, status="revoked", query=id)
        found = next((it for it in listed if it.clerk_id == id), None)
        if found is None:
            raise _make_not_found_error()
        return found

    async def resend(
        self, principal: Principal, *, invitation: str, idempotency_key: str | None = None
    ) -> ClerkApplicationInvitation:
        """Send one again, an expired one too: the same address, role and organization, and as many days.

        1 the right, and that it waits for an answer; 2 the operation is kept, unless it was sent again just now or
        too many were; 3 Clerk revokes the old one; 4 and makes the new one: if that fails, the worker tries again.
        Raises InvitationRefusedError, Unsettled and Busy.
        """
        _require_instance_admin(principal)
        old = await self.find(principal, invitation)
        days = get_expiry_days(old) or await self._days_sent(old)
        public = {name: value for name, value in old.public_metadata.items() if name != OPERATION_METADATA_KEY}
        _check_api_key_rights(principal, public)
        asked = OperationRequest(
            kind=models.APPLICATION_RESEND_KIND,
            target=f"application:{canonicalize_email(old.email)}",
            actor=principal.id,
            organization_id=public.get(ORGANIZATION_METADATA_KEY),
            idempotency_key=idempotency_key,
            intent={
                "invitation": old.clerk_id,
                "email": old.email,
                "expires_in_days": days,
                "notify": True,
                "redirect_url": self.redirect_url,
                "public_metadata": public,
            },
        )
        if old.status not in ("pending", "expired") and await self.db.read(find_by_idempotency_key, asked) is None:
            code, status, words = NOT_PENDING_ERRORS[old.status]
            raise InvitationRefusedError(words, code=code, status=status)
        check = partial(self._check, principal=principal, email=old.email, is_resend=True)
        return workflows.deserialize_application_invitation(await self._run(asked, "create", old.email, opening=check))

    async def revoke(
        self, principal: Principal, *, invitation: str, idempotency_key: str | None = None
    ) -> ClerkApplicationInvitation:
        """Take one back. It does not stop its addressee from signing up by themselves.

        1 the right is checked; 2 the operation is kept; 3 Clerk revokes it, or says that it is over already.
        Raises InvitationRefusedError (nothing was changed), Unsettled and Busy.
        """
        _require_instance_admin(principal)
        id = parse_invitation_id(invitation)
        if id is None:
            raise _make_not_found_error()
        asked = OperationRequest(
            kind=models.APPLICATION_REVOKE_KIND,
            target=f"application:{id}",
            actor=principal.id,
            idempotency_key=idempotency_key,
            intent={"invitation": id},
        )
        return workflows.deserialize_application_invitation(await self._run(asked, "revoke", "This invitation"))

    async def _run(self, asked: OperationRequest, step: str, whom: str, *, opening: Any = None) -> dict[str, Any]:
        try:
            operation = await self.runner.run(asked, precondition=opening)
        except OperationFailedError as failed:
            raise _convert_operation_error(failed, whom) from failed
        done: dict[str, Any] = operation.done[step]
        return done

    async def _organization(self, ref: str | None) -> str | None:
        if ref is None:
            return None
        found = await self.db.read(find_organization, ref)
        if found is None:
            words = lazy_gettext("There is no organization %(ref)s.", ref=ref)
            raise InvitationRefusedError(words, code="organization_not_found", status=NOT_FOUND, field="organization")
        if found.clerk_id is not None:
            words = lazy_gettext("%(name)s is in Clerk: invite to it directly.", name=found.name)
            raise InvitationRefusedError(words, code="not_local", status=CONFLICT, field="organization")
        return found.id

    async def _days_sent(self, invitation: ClerkApplicationInvitation) -> int:
        """Return for how many days we made an invitation of which Clerk does not say it; of others': the default."""
        sent = await self.db.read(find_operation, str(invitation.public_metadata.get(OPERATION_METADATA_KEY, "")))
        return int(sent.intent.get("expires_in_days", DEFAULT_EXPIRY_DAYS)) if sent else DEFAULT_EXPIRY_DAYS

    def _check(self, conn: Conn, *, principal: Principal, email: str, is_resend: bool = False) -> None:
        now = self.clock()
        sent = repository.list_send_records(conn, organization_id="", actor=principal.id, since=now - DAY)
        if is_resend:
            policies.check_resend_cooldown([replace(it, is_here=True) for it in sent], email=email, now=now)
        policies.check_daily_limits(sent, actor=principal.id, emails=[email], now=now)


def _check_api_key_rights(principal: Principal, public_metadata: dict[str, Any]) -> None:
    """Raise InvitationRefusedError where an API key would make an instance admin, who would outlive the key's revocation."""
    if principal.kind == "api_key" and grants_instance_admin(public_metadata):
        words = "An API key can't invite instance admins. Nothing was sent."
        raise InvitationRefusedError(words, code="rights_by_key", status=FORBIDDEN, field="role")


def validate_application_role(role: str, *, is_local: bool) -> str:
    """A role as it is kept in the metadata: of the application, or (`is_local`) of one organization.

    These are kept apart: `admin` of the application is an admin of this installation, `org:admin` is not.
    Raises InvitationRefusedError for what can't be a role.
    """
    if not _ROLE_PATTERN.fullmatch(role) or (not is_local and ":" in role):
        raise InvitationRefusedError(
            lazy_gettext("%(value)s can't be a role here.", value=role[:64]), code="unknown_role", field="role"
        )
    return f"org:{role}" if is_local and ":" not in role else role


def _require_instance_admin(principal: Principal) -> None:
    if not (principal.is_instance_admin and principal.has_scope("write")):
        words = lazy_gettext("Only admins of this installation can invite to the application.")
        raise InvitationRefusedError(words, code="forbidden", status=FORBIDDEN)


def _make_not_found_error() -> InvitationRefusedError:
    code, status, words = NOT_PENDING_ERRORS["gone"]
    return InvitationRefusedError(words, code=code, status=status)


def _convert_operation_error(failed: OperationFailedError, whom: str) -> InvitationRefusedError:
    cause = failed.__cause__
    refusal = (
        cause if isinstance(cause, ClerkRejectedError) else ClerkRejectedError(str(failed), code=failed.code, status=0)
    )
    if refusal.code in _ENDED_ERRORS:
        code, status, words = _ENDED_ERRORS[refusal.code]
        return InvitationRefusedError(words, code=code, status=status, refusal=refusal)
    if refusal.code == "resource_not_found":
        return _make_not_found_error()
    if refusal.code == "form_identifier_exists":
        words = lazy_gettext("%(whom)s has an account already.", whom=whom)
        return InvitationRefusedError(words, code="already_user", status=CONFLICT, field="email", refusal=refusal)
    return convert_clerk_error(refusal, email=whom, role="")
