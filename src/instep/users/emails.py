"""Change a user's email address: replacement, verification by code, or a new invitation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec import Struct

from instep.auth.principal import Principal
from instep.auth.repository import find_roles
from instep.core.clock import Clock
from instep.core.db import Conn
from instep.core.i18n import LazyString, lazy_gettext
from instep.domain.emails import is_same_email, validate_email_address
from instep.domain.errors import CONFLICT, FORBIDDEN, NOT_FOUND, ChangeRejectedError, ClerkRejectedError
from instep.domain.last_admin import collect_pending_changes
from instep.domain.models import ClerkEmailAddress, ClerkId
from instep.domain.ports import UsersApi
from instep.mirror import user_repository
from instep.mirror.user_repository import UserRow, find_sole_admin_organizations, lock_organizations_of_admin
from instep.operations.repository import encode_intent, find_by_idempotency_key, find_operation, list_open_intents
from instep.operations.workflow import (
    ConflictError,
    JsonObject,
    Operation,
    OperationPendingError,
    OperationRequest,
    TypedOperation,
    Workflow,
    Workflows,
    WorkflowStep,
)
from instep.users import repository
from instep.users.context import (
    UserCommandContext,
    get_clerk_id,
    lock_target,
    make_operation_request,
    require_email_free,
    scope_idempotency_key,
)
from instep.users.models import (
    EmailChange,
    EmailChangePolicy,
    EmailIntent,
    Reinvitation,
    ReinviteMemberIntent,
    ReinviteToApplicationIntent,
    ReplaceEmailIntent,
    SendEmailCodeIntent,
    TargetUser,
    UserMembership,
    UserPermissions,
    VerifyEmailIntent,
)
from instep.users.policies import require_another_admin, require_instance_admin, require_not_deleted
from instep.users.workflows import (
    REINVITE_MEMBER,
    REINVITE_TO_APPLICATION,
    EphemeralSecrets,
    apply_result,
    encode_result,
    extract_user,
    read_user,
    require_clerk_id,
)

REPLACE_EMAIL, SEND_EMAIL_CODE, VERIFY_EMAIL = "profile.email", "profile.email.code", "profile.email.verify"
INVITATION_LIFETIME_DAYS = 7
EMAIL_NOT_PRIMARY = "The new address is verified and added in Clerk but is not primary yet; the old one still works."
CODE_NOT_SENT = "The new address was added in Clerk but no code was sent to it. The old address still works."
CODE_NOT_TRIED = "The code was not tried. Enter it again."
CODE_REFUSALS = {
    "unverified": ("wrong_code", "This code is not correct."),
    "expired": ("code_expired", "This code has expired. Request a new one."),
    "failed": ("code_failed", "Too many attempts. Request a new code."),
}


class ReinvitationPlan(Struct, frozen=True, kw_only=True):
    """Memberships of a user who gets a new address.

    `movable` can be invited again (or just were, by the same request); `kept` belong to organizations that do not exist
    in Clerk and stay as they are. `has_memberships`: the user has any, including those that the caller may not see.
    """

    movable: list[UserMembership]
    kept: list[UserMembership]
    has_memberships: bool


@dataclass(frozen=True)
class EmailChangeService:
    """Change email addresses by `policy`. Accepted invitations lead to `redirect_url`.

    Each method raises ChangeRejectedError (nothing was changed), OperationPendingError and ConflictError.
    """

    context: UserCommandContext
    secrets: EphemeralSecrets
    policy: EmailChangePolicy
    redirect_url: str | None

    async def change(
        self, principal: Principal, user_id: str, email: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Change a user's address.

        Without a Clerk account only the database changes. Otherwise by the policy: invite the new address in each
        organization, send a code to it, or replace the old one.
        """
        target = await self.context.find_target(principal, user_id)
        email = validate_email_address(email)
        if is_same_email(email, target.user.email):
            return EmailChange(outcome="same", email=target.user.email or email)
        self.context.require_api_key_allowed(principal, {"email": email}, target.user)
        if self._needs_reinvitation(target.user):
            return await self._reinvite(principal, target, email, idempotency_key)
        return await self.start(principal, target, email, idempotency_key=idempotency_key)

    async def start(
        self, principal: Principal, target: TargetUser, email: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Start the change that an edit of the address requests; where a new invitation is required, only offer it."""
        if self._needs_reinvitation(target.user):
            return await self._offer_reinvitation(principal, target, email)
        if self._needs_verification_code(target):
            return await self._send_code(principal, target, email, idempotency_key)
        require_instance_admin(target.permissions, "change_email")
        user = target.user
        intent = ReplaceEmailIntent(user=user.id, clerk_id=get_clerk_id(user), email=email, old=user.email)
        request = make_operation_request(REPLACE_EMAIL, principal, user, idempotency_key, intent)
        precondition = partial(self._check_free, expected=user, email=email, is_final=True)
        await self.context.run_operation(request, precondition, display_name=email)
        return EmailChange(outcome="changed", email=email)

    async def verify(
        self, principal: Principal, user_id: str, verification: str, code: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Verify a new address by the code that was sent to it, make it primary and remove the old one.

        `verification` is the id of the operation that sent the code. The code stays in the memory of this process.
        """
        target = await self.context.find_target(principal, user_id)
        _require_can_change_email(target.permissions)
        user = target.user
        sent = await self.context.db.read(find_operation, verification) if verification.isprintable() else None
        if sent is None or not _is_verification_of(sent, user):
            message = lazy_gettext("This verification does not exist.")
            raise ChangeRejectedError(message, code="unknown_verification", status=NOT_FOUND)
        email = sent.intent["email"]
        with self.secrets.keep(code.strip()) as secret_name:
            intent = VerifyEmailIntent(
                user=user.id,
                clerk_id=get_clerk_id(user),
                email=email,
                old=user.email,
                address=sent.done["address"]["id"],
                verification=sent.done["code"]["verification"],
                secret=secret_name,
            )
            request = make_operation_request(VERIFY_EMAIL, principal, user, idempotency_key, intent)
            precondition = partial(self._check_free, expected=user, email=email)
            operation = await self.context.run_operation(request, precondition, display_name=email)
        reason = operation.done["old"]["kept"]
        note = lazy_gettext("Clerk kept the old address as well: %(reason)s", reason=reason) if reason else None
        return EmailChange(outcome="changed", email=email, note=note)

    def _needs_reinvitation(self, user: UserRow) -> bool:
        """Return whether a new address requires a new account; a user without an address keeps theirs and gets one."""
        return self.policy == "reinvite" and get_clerk_id(user) is not None and user.email is not None

    def _needs_verification_code(self, target: TargetUser) -> bool:
        """Return whether a code is sent first: by the policy, or where a user adds their own first address."""
        if get_clerk_id(target.user) is None:
            return False
        return self.policy == "verify" or (self.policy == "reinvite" and not target.permissions.is_admin)

    async def _send_code(
        self, principal: Principal, target: TargetUser, email: str, idempotency_key: str | None
    ) -> EmailChange:
        _require_can_change_email(target.permissions)
        user = target.user
        intent = SendEmailCodeIntent(user=user.id, clerk_id=get_clerk_id(user), email=email)
        request = make_operation_request(SEND_EMAIL_CODE, principal, user, idempotency_key, intent)
        precondition = partial(self._check_free, expected=user, email=email)
        operation = await self.context.run_operation(request, precondition, display_name=email)
        return EmailChange(
            outcome="requires_verification",
            email=email,
            verification=operation.id,
            expires_at=operation.done["code"]["expires_at"],
        )

    def _check_free(self, conn: Conn, *, expected: UserRow, email: str, is_final: bool = False) -> None:
        """Check that nobody else has the address; a user without a Clerk account gets it in the same transaction."""
        user = lock_target(conn, expected)
        require_email_free(conn, email, user.id)
        if is_final and user.clerk_id is None:
            user_repository.update_local_user(conn, user, {"email": email}, now=self.context.clock())

    async def _offer_reinvitation(self, principal: Principal, target: TargetUser, email: str) -> EmailChange:
        """Describe the effects of a new invitation; nothing is changed."""
        plan = await self._plan_reinvitation(principal, target, email, None)
        name, old = target.user.name, target.user.email or ""
        consequences = [
            lazy_gettext(
                "%(email)s is invited to %(organization)s as %(role)s, and %(old)s is deactivated there.",
                email=email,
                organization=it.name,
                role=it.role,
                old=old,
            )
            for it in plan.movable
        ]
        consequences += [
            lazy_gettext("%(organization)s is not in Clerk: %(old)s stays there.", organization=it.name, old=old)
            for it in plan.kept
        ]
        if not plan.has_memberships:
            consequences.append(
                lazy_gettext(
                    "%(email)s is invited to the application, and %(old)s is deactivated.", email=email, old=old
                )
            )
        elif not plan.movable:
            consequences.append(_describe_no_organization(name))
        if not plan.kept and (plan.movable or not plan.has_memberships):
            consequences.append(
                lazy_gettext(
                    "%(old)s can no longer sign in after that. The user signs in with %(email)s instead.",
                    old=old,
                    email=email,
                )
            )
        return EmailChange(outcome="requires_invitation", email=email, consequences=tuple(consequences))

    async def _reinvite(
        self, principal: Principal, target: TargetUser, email: str, idempotency_key: str | None
    ) -> EmailChange:
        """Invite the address in each organization; a failure in one does not stop the others."""
        plan = await self._plan_reinvitation(principal, target, email, idempotency_key)
        if not plan.has_memberships:
            return await self._reinvite_to_application(principal, target.user, email, idempotency_key)
        if not plan.movable:
            message = _describe_no_organization(target.user.name)
            raise ChangeRejectedError(message, code="no_organization", status=CONFLICT)
        results: list[Reinvitation] = []
        rejections: list[ChangeRejectedError] = []
        for membership in plan.movable:
            request = self._make_reinvite_request(
                principal, target.user, membership, email=email, idempotency_key=idempotency_key
            )
            try:
                results.append(await self._reinvite_member(request, target.user, membership, email))
            except (ChangeRejectedError, ConflictError) as error:
                results.append(_make_reinvitation(membership, "refused", detail=str(error)))
                rejections += [error] if isinstance(error, ChangeRejectedError) else []
        if rejections and len(rejections) == len(plan.movable):
            raise rejections[0]
        results += [_make_reinvitation(it, "kept", detail="This organization is not in Clerk.") for it in plan.kept]
        return EmailChange(outcome="invited", email=email, organizations=tuple(results))

    async def _reinvite_to_application(
        self, principal: Principal, user: UserRow, email: str, idempotency_key: str | None
    ) -> EmailChange:
        """Invite a user without an organization to the application; only instance admins see such users."""
        intent = ReinviteToApplicationIntent(
            user=user.id,
            clerk_id=ClerkId(user.clerk_id) if user.clerk_id else None,
            email=email,
            expires_in_days=INVITATION_LIFETIME_DAYS,
            redirect_url=self.redirect_url,
        )
        request = make_operation_request(REINVITE_TO_APPLICATION, principal, user, idempotency_key, intent)
        precondition = partial(_check_without_organization, expected=user, email=email)
        await self.context.run_operation(request, precondition, display_name=email)
        return EmailChange(outcome="invited", email=email)

    async def _reinvite_member(
        self, request: OperationRequest, user: UserRow, membership: UserMembership, email: str
    ) -> Reinvitation:
        precondition = partial(_check_membership, expected=user, membership=membership, email=email)
        try:
            operation = await self.context.run_operation(request, precondition, display_name=email)
        except OperationPendingError as error:
            return _make_reinvitation(membership, "checking", detail=str(error), operation_id=error.operation.id)
        return _make_reinvitation(membership, "invited", operation_id=operation.id)

    def _make_reinvite_request(
        self,
        principal: Principal,
        user: UserRow,
        membership: UserMembership,
        *,
        email: str,
        idempotency_key: str | None,
    ) -> OperationRequest:
        return OperationRequest(
            kind=REINVITE_MEMBER,
            target=f"membership:{membership.membership_id}",
            actor=principal.id,
            organization_id=membership.organization_id,
            idempotency_key=scope_idempotency_key(f"{REINVITE_MEMBER}:{membership.membership_id}", idempotency_key),
            intent=encode_intent(
                ReinviteMemberIntent(
                    user=user.id,
                    clerk_id=ClerkId(user.clerk_id) if user.clerk_id else None,
                    membership=membership.membership_id,
                    demoted_membership_id=membership.membership_id,
                    organization=ClerkId(membership.organization_clerk_id or ""),
                    email=email,
                    role=membership.role,
                    expires_in_days=INVITATION_LIFETIME_DAYS,
                    inviter=None,
                    redirect_url=self.redirect_url,
                )
            ),
        )

    async def _plan_reinvitation(
        self, principal: Principal, target: TargetUser, email: str, idempotency_key: str | None
    ) -> ReinvitationPlan:
        make_request = partial(
            self._make_reinvite_request, principal, target.user, email=email, idempotency_key=idempotency_key
        )
        return await self.context.db.read(_plan_reinvitation, target, email, make_request)


def _plan_reinvitation(
    conn: Conn, target: TargetUser, email: str, make_request: Callable[[UserMembership], OperationRequest]
) -> ReinvitationPlan:
    """Return the memberships that move to the new address. Raises ChangeRejectedError.

    One that this same request has moved already counts as movable, so that a repetition gets the same answer.
    """
    user, permissions = require_not_deleted(target.user), target.permissions
    if not (permissions.is_admin or permissions.managed_organization_ids):
        message = lazy_gettext("Ask an admin to change this address: the new one needs an invitation.")
        raise ChangeRejectedError(message, code="forbidden", status=FORBIDDEN, field="email")
    require_email_free(conn, email, user.id)
    memberships = repository.list_user_memberships(conn, [user.id]).get(user.id, [])
    active = [
        it for it in memberships if it.status == "active" or find_by_idempotency_key(conn, make_request(it)) is not None
    ]
    managed = [
        it for it in active if permissions.is_admin or it.organization_id in permissions.managed_organization_ids
    ]
    sole_admin_of = find_sole_admin_organizations(
        conn, user.id, find_roles(conn), pending=collect_pending_changes(list_open_intents(conn))
    )
    require_another_admin({it.organization_id: it.name for it in managed if it.organization_id in sole_admin_of})
    return ReinvitationPlan(
        movable=[it for it in managed if it.organization_clerk_id is not None],
        kept=[it for it in managed if it.organization_clerk_id is None],
        has_memberships=bool(memberships),
    )


def _check_without_organization(conn: Conn, *, expected: UserRow, email: str) -> None:
    """Check the present state of a user without an organization, in the transaction that stores the intent."""
    user = lock_target(conn, expected)
    require_email_free(conn, email, user.id)
    if repository.list_user_memberships(conn, [user.id]):
        raise ChangeRejectedError(
            lazy_gettext("%(name)s has joined an organization meanwhile.", name=user.name),
            code="changed_meanwhile",
            status=CONFLICT,
        )


def _check_membership(conn: Conn, *, expected: UserRow, membership: UserMembership, email: str) -> None:
    """Check the present state of one membership, in the transaction that stores the intent."""
    user = lock_target(conn, expected)
    require_email_free(conn, email, user.id)
    lock_organizations_of_admin(conn, user.id, find_roles(conn))
    sole_admin_of = find_sole_admin_organizations(
        conn, user.id, find_roles(conn), pending=collect_pending_changes(list_open_intents(conn))
    )
    organization_id = membership.organization_id
    require_another_admin({organization_id: sole_admin_of[organization_id]} if organization_id in sole_admin_of else {})
    present = repository.list_user_memberships(conn, [user.id]).get(user.id, [])
    if not any(it.membership_id == membership.membership_id and it.status == "active" for it in present):
        raise ChangeRejectedError(
            lazy_gettext(
                "%(name)s is not an active member of %(organization)s.", name=user.name, organization=membership.name
            ),
            code="not_a_member",
            status=CONFLICT,
        )


def _describe_no_organization(name: str) -> LazyString:
    return lazy_gettext("%(name)s has no organization to which they could be invited again.", name=name)


def _make_reinvitation(
    membership: UserMembership, state: Any, *, detail: str | None = None, operation_id: str | None = None
) -> Reinvitation:
    return Reinvitation(
        organization_id=membership.organization_id,
        name=membership.name,
        role=membership.role,
        state=state,
        detail=detail,
        operation_id=operation_id,
    )


def _is_verification_of(sent: Operation, user: UserRow) -> bool:
    return sent.kind == SEND_EMAIL_CODE and sent.state == "settled" and sent.intent["user"] == user.id


def _require_can_change_email(permissions: UserPermissions) -> None:
    if not (permissions.is_admin or permissions.is_self):
        message = lazy_gettext("You do not have permission to change this email address.")
        raise ChangeRejectedError(message, code="forbidden", status=FORBIDDEN, field="email")


def make_email_workflows(users: UsersApi, secrets: EphemeralSecrets, clock: Clock) -> Workflows:
    """Return the workflows that replace an address, send a code and verify it, by kind."""
    steps = [_make_verify_step(users, secrets), _make_primary_step(users), _make_remove_old_step(users)]
    return {
        REPLACE_EMAIL: _make_replace_workflow(users, clock),
        SEND_EMAIL_CODE: _make_send_code_workflow(users),
        VERIFY_EMAIL: Workflow(
            VerifyEmailIntent,
            steps,
            lambda conn, operation: _finalize_email(conn, operation, "old", clock),
            EMAIL_NOT_PRIMARY,
        ),
    }


def _make_replace_workflow(users: UsersApi, clock: Clock) -> Workflow[ReplaceEmailIntent]:
    """Create the workflow of `profile.email`. Without a Clerk account the precondition has written the address."""

    async def replace(operation: TypedOperation[ReplaceEmailIntent]) -> JsonObject:
        clerk_id = operation.intent.clerk_id
        if clerk_id is None:
            return {}
        return encode_result(await users.replace_email(clerk_id, operation.intent.email))

    async def find_replaced(operation: TypedOperation[ReplaceEmailIntent]) -> JsonObject | None:
        return await _find_primary(users, operation) if operation.intent.clerk_id is not None else {}

    return Workflow(
        ReplaceEmailIntent,
        [WorkflowStep("replace", replace, find_replaced)],
        lambda conn, operation: _finalize_email(conn, operation, "replace", clock),
    )


def _make_send_code_workflow(users: UsersApi) -> Workflow[SendEmailCodeIntent]:
    """Create the workflow of `profile.email.code`: add the address, unverified, and send a code to it.

    The mirror is unchanged until the address is verified.
    """

    async def add(operation: TypedOperation[SendEmailCodeIntent]) -> JsonObject:
        added = await find_added(operation)
        return added or _encode_address(await users.add_email(require_clerk_id(operation), operation.intent.email))

    async def find_added(operation: TypedOperation[SendEmailCodeIntent]) -> JsonObject | None:
        address = await _find_address(users, operation)
        return _encode_address(address) if address else None

    async def send(operation: TypedOperation[SendEmailCodeIntent]) -> JsonObject:
        sent = await users.send_code(ClerkId(operation.done["address"]["id"]))
        return {"verification": sent.verification, "expires_at": sent.expires_at}

    async def find_sent(_operation: TypedOperation[SendEmailCodeIntent]) -> JsonObject | None:
        return None  # sending another code is harmless

    steps = [WorkflowStep("address", add, find_added), WorkflowStep("code", send, find_sent)]
    return Workflow(SendEmailCodeIntent, steps, lambda _conn, _operation: None, CODE_NOT_SENT)


def _make_verify_step(users: UsersApi, secrets: EphemeralSecrets) -> WorkflowStep[VerifyEmailIntent]:
    """Create the step that tries the code."""

    async def verify(operation: TypedOperation[VerifyEmailIntent]) -> JsonObject:
        intent = operation.intent
        code = secrets.find(intent.secret)
        if code is None:
            raise ClerkRejectedError(CODE_NOT_TRIED, code="code_lost", status=409)
        status = await users.verify_code(intent.address, intent.verification, code)
        if status != "verified":
            error_code, message = CODE_REFUSALS.get(status, CODE_REFUSALS["failed"])
            raise ClerkRejectedError(message, code=error_code, status=422, param="code")
        return {"status": status}

    async def find_verified(operation: TypedOperation[VerifyEmailIntent]) -> JsonObject | None:
        address = await _find_address(users, operation)
        return {"status": "verified"} if address and address.is_verified else None

    return WorkflowStep("code", verify, find_verified)


def _make_primary_step(users: UsersApi) -> WorkflowStep[VerifyEmailIntent]:
    async def make_primary(operation: TypedOperation[VerifyEmailIntent]) -> JsonObject:
        return encode_result(await users.set_primary_email(require_clerk_id(operation), operation.intent.address))

    async def find_primary(operation: TypedOperation[VerifyEmailIntent]) -> JsonObject | None:
        return await _find_primary(users, operation)

    return WorkflowStep("primary", make_primary, find_primary)


def _make_remove_old_step(users: UsersApi) -> WorkflowStep[VerifyEmailIntent]:
    """Create the step that removes the old address; one that Clerk keeps (for a connected account) stays."""

    async def remove(operation: TypedOperation[VerifyEmailIntent]) -> JsonObject:
        addresses = await users.list_emails(require_clerk_id(operation))
        reason = ""
        for old in (it for it in addresses if is_same_email(it.email, operation.intent.old) and not it.is_primary):
            try:
                await users.remove_email(old.clerk_id)
            except ClerkRejectedError as refusal:
                reason = str(refusal)
        return {**encode_result(await read_user(users, require_clerk_id(operation))), "kept": reason}

    async def find_removed(_operation: TypedOperation[VerifyEmailIntent]) -> JsonObject | None:
        return None  # removing an address again is harmless

    return WorkflowStep("old", remove, find_removed)


async def _find_primary(users: UsersApi, operation: TypedOperation[EmailIntent]) -> JsonObject | None:
    present = await read_user(users, require_clerk_id(operation))
    user = extract_user(present)
    is_done = is_same_email(user.email, operation.intent.email) and user.is_email_verified
    return encode_result(present) if is_done else None


async def _find_address(users: UsersApi, operation: TypedOperation[EmailIntent]) -> ClerkEmailAddress | None:
    addresses = await users.list_emails(require_clerk_id(operation))
    return next((it for it in addresses if is_same_email(it.email, operation.intent.email)), None)


def _encode_address(address: ClerkEmailAddress) -> JsonObject:
    return {"id": address.clerk_id}


def _finalize_email(conn: Conn, operation: TypedOperation[EmailIntent], step: str, clock: Clock) -> None:
    apply_result(conn, operation, step, clock())
