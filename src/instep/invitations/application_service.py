"""Invite people to the application; list, resend and revoke these invitations."""

import re
from collections.abc import Callable
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
from instep.invitations.models import (
    DEFAULT_EXPIRY_DAYS,
    OPERATION_METADATA_KEY,
    ApplicationInvitationRequest,
    ApplicationInviteIntent,
    ApplicationResendIntent,
    ApplicationRevokeIntent,
)
from instep.invitations.policies import (
    NOT_PENDING_ERRORS,
    InvitationRefusedError,
    convert_clerk_error,
    parse_invitation_id,
)
from instep.invitations.service import get_clerk_error
from instep.mirror.apply import ORGANIZATION_METADATA_KEY, ROLE_METADATA_KEY
from instep.mirror.repository import find_organization
from instep.operations.executor import OperationExecutor
from instep.operations.repository import encode_intent, find_by_idempotency_key, find_operation
from instep.operations.workflow import OperationFailedError, OperationRequest

_ROLE_PATTERN = re.compile(r"[a-z][a-z0-9_:-]{0,63}", re.ASCII)
_THIS_INVITATION = lazy_gettext("This invitation")
_ENDED_ERRORS = {
    "invitation_already_accepted": NOT_PENDING_ERRORS["accepted"],
    "invitation_already_revoked": NOT_PENDING_ERRORS["revoked"],
}


@dataclass(frozen=True)
class ApplicationInvitationService:
    """Invite people to the application; list, resend and revoke these invitations. For instance admins only.

    Each changing method is one operation: check the permission, commit the intent, call Clerk. `redirect_url` is the
    page that an accepted invitation leads to. Errors: InvitationRefusedError (nothing was changed),
    OperationPendingError (the worker finishes it) and ConflictError (another change of the same address is running).
    """

    db: Database
    executor: OperationExecutor
    applications: ApplicationInvitationsApi
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def invite(
        self, principal: Principal, invitation: ApplicationInvitationRequest, *, idempotency_key: str | None = None
    ) -> ClerkApplicationInvitation:
        """Create an invitation in Clerk; its role and organization are in the metadata that the user will have.

        Raises:
            InvitationRefusedError: no permission, an invalid value, a daily limit, or a refusal of Clerk.
        """
        _require_instance_admin(principal)
        email = policies.validate_email(invitation.email)
        organization_id = await self._find_local_organization_id(invitation.organization)
        role = validate_application_role(invitation.role, is_local=organization_id is not None)
        public = {ROLE_METADATA_KEY: role}
        if organization_id:
            public[ORGANIZATION_METADATA_KEY] = organization_id
        _check_api_key_rights(principal, public)
        request = OperationRequest(
            kind=models.APPLICATION_INVITE_KIND,
            target=f"application:{canonicalize_email(email)}",
            actor=principal.id,
            organization_id=organization_id,
            idempotency_key=idempotency_key,
            intent=encode_intent(
                ApplicationInviteIntent(
                    email=email,
                    expires_in_days=policies.validate_expiry_days(invitation.expires_in_days),
                    notify=invitation.notify,
                    redirect_url=self.redirect_url,
                    public_metadata=public,
                )
            ),
        )
        check = partial(self._check_limits, principal=principal, email=email)
        result = await self._run(request, "create", email, check)
        return workflows.deserialize_application_invitation(result)

    async def list(
        self, principal: Principal, *, status: str | None = None, query: str = ""
    ) -> list[ClerkApplicationInvitation]:
        """Return the newest invitations, in every status except `revoked` unless one is given.

        Raises:
            InvitationRefusedError: no permission, or a refusal of Clerk.
        """
        _require_instance_admin(principal)
        try:
            return await self.applications.list_application_invitations(status=status, query=query)
        except ClerkRejectedError as refusal:
            raise convert_clerk_error(refusal, email="", role="") from refusal

    async def get(self, principal: Principal, invitation_id: str) -> ClerkApplicationInvitation:
        """Return one invitation in any status. Raises InvitationRefusedError (404 if there is none)."""
        clerk_id = parse_invitation_id(invitation_id)
        if clerk_id is None:
            raise _make_not_found_error()
        listed = await self.list(principal, query=clerk_id)
        listed += await self.list(principal, status="revoked", query=clerk_id)
        found = next((it for it in listed if it.clerk_id == clerk_id), None)
        if found is None:
            raise _make_not_found_error()
        return found

    async def resend(
        self, principal: Principal, invitation_id: str, *, idempotency_key: str | None = None
    ) -> ClerkApplicationInvitation:
        """Revoke an invitation and create a new one with the same address, role, organization and number of days.

        An expired one is only created again. When creating fails, the worker retries.

        Raises:
            InvitationRefusedError: no permission; it was accepted or revoked; it was resent less than a minute ago; a
                daily limit; a refusal of Clerk.
        """
        _require_instance_admin(principal)
        old = await self.get(principal, invitation_id)
        days = policies.get_expiry_days(old) or await self._find_requested_days(old)
        public = {key: value for key, value in old.public_metadata.items() if key != OPERATION_METADATA_KEY}
        _check_api_key_rights(principal, public)
        request = OperationRequest(
            kind=models.APPLICATION_RESEND_KIND,
            target=f"application:{canonicalize_email(old.email)}",
            actor=principal.id,
            organization_id=public.get(ORGANIZATION_METADATA_KEY),
            idempotency_key=idempotency_key,
            intent=encode_intent(
                ApplicationResendIntent(
                    invitation=old.clerk_id,
                    email=old.email,
                    expires_in_days=days,
                    notify=True,
                    redirect_url=self.redirect_url,
                    public_metadata=public,
                )
            ),
        )
        is_ended = old.status not in ("pending", "expired")
        if is_ended and await self.db.read(find_by_idempotency_key, request) is None:
            code, status, message = NOT_PENDING_ERRORS[old.status]
            raise InvitationRefusedError(message, code=code, status=status)
        check = partial(self._check_limits, principal=principal, email=old.email, is_resend=True)
        result = await self._run(request, "create", old.email, check)
        return workflows.deserialize_application_invitation(result)

    async def revoke(
        self, principal: Principal, invitation_id: str, *, idempotency_key: str | None = None
    ) -> ClerkApplicationInvitation:
        """Revoke a pending invitation. The person can still sign up where sign-up is open to all.

        Raises:
            InvitationRefusedError: no permission; it was accepted or revoked; a refusal of Clerk.
        """
        _require_instance_admin(principal)
        clerk_id = parse_invitation_id(invitation_id)
        if clerk_id is None:
            raise _make_not_found_error()
        request = OperationRequest(
            kind=models.APPLICATION_REVOKE_KIND,
            target=f"application:{clerk_id}",
            actor=principal.id,
            idempotency_key=idempotency_key,
            intent=encode_intent(ApplicationRevokeIntent(invitation=clerk_id)),
        )
        result = await self._run(request, "revoke", _THIS_INVITATION)
        return workflows.deserialize_application_invitation(result)

    async def _run(
        self, request: OperationRequest, step: str, email: str, check: Callable[[Conn], None] | None = None
    ) -> dict[str, Any]:
        """Run an operation whose intent is committed together with `check`, and return the result of a step."""
        try:
            operation = await self.executor.run(request, precondition=check)
        except OperationFailedError as failed:
            raise _convert_failure(failed, email) from failed
        result: dict[str, Any] = operation.done[step]
        return result

    async def _find_local_organization_id(self, reference: str | None) -> str | None:
        """Return the id of a local organization by its id or slug. Raises InvitationRefusedError for another one."""
        if reference is None:
            return None
        found = await self.db.read(find_organization, reference)
        if found is None:
            message = lazy_gettext("There is no organization %(reference)s.", reference=reference)
            raise InvitationRefusedError(message, code="organization_not_found", status=NOT_FOUND, field="organization")
        if found.clerk_id is not None:
            message = lazy_gettext("%(name)s is in Clerk. Invite to it directly.", name=found.name)
            raise InvitationRefusedError(message, code="not_local", status=CONFLICT, field="organization")
        return found.id

    async def _find_requested_days(self, invitation: ClerkApplicationInvitation) -> int:
        """Return the number of days that instep created the invitation for; the default if it was created elsewhere.

        For an invitation whose expiry Clerk leaves out.
        """
        operation_id = str(invitation.public_metadata.get(OPERATION_METADATA_KEY, ""))
        operation = await self.db.read(find_operation, operation_id)
        return int(operation.intent.get("expires_in_days", DEFAULT_EXPIRY_DAYS)) if operation else DEFAULT_EXPIRY_DAYS

    def _check_limits(self, conn: Conn, *, principal: Principal, email: str, is_resend: bool = False) -> None:
        now = self.clock()
        sent = repository.list_send_records(conn, organization_id="", actor=principal.id, since=now - DAY)
        if is_resend:
            policies.check_resend_cooldown([replace(it, is_here=True) for it in sent], email=email, now=now)
        policies.check_daily_limits(sent, actor=principal.id, emails=[email], now=now)


def validate_application_role(role: str, *, is_local: bool) -> str:
    """Return a role as stored in the metadata: of the application, or (`is_local`) of one organization.

    Roles of an organization are stored as `org:...`: `admin` of the application is an instance admin, `org:admin` is
    not.

    Raises:
        InvitationRefusedError: the text cannot be a role.
    """
    if not _ROLE_PATTERN.fullmatch(role) or (not is_local and ":" in role):
        raise InvitationRefusedError(
            lazy_gettext("%(role)s is not a valid role here.", role=role[:64]), code="unknown_role", field="role"
        )
    return f"org:{role}" if is_local and ":" not in role else role


def _require_instance_admin(principal: Principal) -> None:
    if not (principal.is_instance_admin and principal.has_scope("write")):
        message = lazy_gettext("Only instance admins can invite to the application.")
        raise InvitationRefusedError(message, code="forbidden", status=FORBIDDEN)


def _check_api_key_rights(principal: Principal, public_metadata: dict[str, Any]) -> None:
    """Raise InvitationRefusedError if an API key would create an instance admin, who would outlive the key."""
    if principal.kind == "api_key" and grants_instance_admin(public_metadata):
        message = lazy_gettext("An API key cannot invite instance admins. Nothing was sent.")
        raise InvitationRefusedError(message, code="rights_by_key", status=FORBIDDEN, field="role")


def _make_not_found_error() -> InvitationRefusedError:
    code, status, message = NOT_PENDING_ERRORS["gone"]
    return InvitationRefusedError(message, code=code, status=status)


def _convert_failure(failed: OperationFailedError, email: str) -> InvitationRefusedError:
    refusal = get_clerk_error(failed)
    if refusal.code in _ENDED_ERRORS:
        code, status, message = _ENDED_ERRORS[refusal.code]
        return InvitationRefusedError(message, code=code, status=status, refusal=refusal)
    if refusal.code == "resource_not_found":
        return _make_not_found_error()
    if refusal.code == "form_identifier_exists":
        message = lazy_gettext("%(email)s already has an account.", email=email)
        return InvitationRefusedError(message, code="already_user", status=CONFLICT, field="email", refusal=refusal)
    return convert_clerk_error(refusal, email=email, role="")
