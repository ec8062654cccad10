"""Shared context of user commands: loads the target user, checks permissions and runs operations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from instep.auth.principal import AuthUserRow, Principal, is_instance_admin
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.errors import TemporaryError
from instep.core.i18n import lazy_gettext
from instep.domain.errors import CONFLICT, ChangeRejectedError, ClerkRejectedError
from instep.domain.models import ClerkId
from instep.mirror.user_repository import UserRow, find_user, find_user_id_by_login, list_organization_ids_of_users
from instep.operations.executor import OperationExecutor
from instep.operations.repository import encode_intent
from instep.operations.workflow import (
    Operation,
    OperationFailedError,
    OperationRequest,
    OutcomeUnknownError,
    Precondition,
)
from instep.users import repository
from instep.users.models import TargetUser, UserIntent, UserProfile
from instep.users.policies import (
    determine_permissions,
    make_email_taken_error,
    make_user_not_found_error,
    require_api_key_allowed,
    require_not_deleted,
    translate_provider_refusal,
)

MAX_USER_ID_LENGTH = 200


class UserChangedError(TemporaryError):
    """The user was changed after the command had loaded them."""


@dataclass(frozen=True)
class UserCommandContext:
    """Dependencies and steps that all user commands share.

    `admins`: Clerk ids and addresses (lower case) of instance admins, from the settings. `publish` is called with the
    ids of the organizations whose members changed.
    """

    db: Database
    executor: OperationExecutor
    admins: frozenset[str]
    publish: Callable[[set[str]], None]
    clock: Clock

    async def find_target(self, principal: Principal, user_id: str) -> TargetUser:
        """Load a user by instep's id or Clerk's.

        Raises ChangeRejectedError (404) where there is none or the caller may not see them.
        """
        if not user_id.isprintable() or len(user_id) > MAX_USER_ID_LENGTH:
            raise make_user_not_found_error()
        return await self.db.read(self._find_target, principal, user_id)

    async def load_profile(self, principal: Principal, user_id: str) -> UserProfile:
        """Load a user as the caller may see them: admins of an organization see only the organizations they share."""
        target = await self.find_target(principal, user_id)
        user, permissions = target.user, target.permissions
        memberships = (await self.db.read(repository.list_user_memberships, [user.id])).get(user.id, [])
        if not (permissions.is_admin or permissions.is_self):
            memberships = [it for it in memberships if it.organization_id in permissions.shared_organization_ids]
        return UserProfile(user=user, memberships=tuple(memberships), is_complete=permissions.is_admin)

    def require_api_key_allowed(self, principal: Principal, fields: Mapping[str, Any], user: UserRow | None) -> None:
        """Check what an API key may change of a user, None for a new one; see `policies`."""
        is_target_instance_admin = user is not None and self._is_instance_admin(user)
        require_api_key_allowed(
            principal, fields, is_target_instance_admin=is_target_instance_admin, admins=self.admins
        )

    async def run_operation(
        self, request: OperationRequest, precondition: Precondition, *, display_name: str
    ) -> Operation:
        """Run an operation and publish the change.

        Raises ChangeRejectedError for what Clerk rejected, OperationPendingError and ConflictError.
        """
        try:
            operation = await self.executor.run(request, precondition=precondition)
        except OperationFailedError as error:
            raise translate_failure(error, request, display_name) from error
        self.publish(await self.db.read(list_organization_ids_of_users, [request.intent["user"]]))
        return operation

    def _find_target(self, conn: Conn, principal: Principal, user_id: str) -> TargetUser:
        user = find_user(conn, user_id)
        if user is None:
            raise make_user_not_found_error()
        shared = repository.list_shared_organizations(conn, principal, user.id)
        permissions = determine_permissions(
            principal, user.id, shared, is_target_instance_admin=self._is_instance_admin(user)
        )
        if not permissions.can_see:
            raise make_user_not_found_error()
        return TargetUser(user=user, permissions=permissions)

    def _is_instance_admin(self, user: UserRow) -> bool:
        auth_user = msgspec.convert(user, AuthUserRow, from_attributes=True)
        return is_instance_admin(auth_user, user.clerk_id or "", self.admins)


def translate_failure(error: OperationFailedError, request: OperationRequest, display_name: str) -> ChangeRejectedError:
    """Translate a failed operation; one that needs attention keeps its own message."""
    refusal = find_provider_refusal(error)
    if refusal is None or error.operation.state == "attention":
        return ChangeRejectedError(str(error), code=error.code, status=CONFLICT, refusal=refusal)
    return translate_provider_refusal(refusal, request.intent, display_name=display_name)


def find_provider_refusal(error: OperationFailedError) -> ClerkRejectedError | None:
    """Return Clerk's rejection that caused a failure, None where the outcome is unknown.

    For a repeated request it is rebuilt from the stored operation.
    """
    cause = error.__cause__
    if isinstance(cause, OutcomeUnknownError):
        return None
    if isinstance(cause, ClerkRejectedError):
        return cause
    return ClerkRejectedError(str(error), code=error.code, status=0)


def lock_target(conn: Conn, expected: UserRow) -> UserRow:
    """Lock and return the present row of a user that is not deleted.

    Raises UserChangedError where they got another Clerk account, or their first, since `expected` was read.
    """
    return require_same_clerk_account(
        require_not_deleted(find_user(conn, expected.id, is_locking=True)), expected.clerk_id
    )


def require_email_free(conn: Conn, email: str, user_id: str = "") -> None:
    """Raise ChangeRejectedError (409) where a user other than `user_id` has this address."""
    if find_user_id_by_login(conn, email=email, excluded_id=user_id):
        raise make_email_taken_error(email)


def require_same_clerk_account(user: UserRow, clerk_id: str | None) -> UserRow:
    """Return the user; raise UserChangedError unless they have this Clerk account."""
    if user.clerk_id != clerk_id:
        raise UserChangedError(lazy_gettext("This user was changed a moment ago. Nothing was changed; try again."))
    return user


def make_lock_target(user: UserRow) -> str:
    """Return the target that operations on a user lock."""
    return f"user:{user.id}"


def scope_idempotency_key(kind: str, idempotency_key: str | None) -> str | None:
    """Prefix a key by the kind of operation: the same key may be sent with different changes."""
    return f"{kind}:{idempotency_key}" if idempotency_key else None


def get_clerk_id(user: UserRow) -> ClerkId | None:
    """Return Clerk's id of a user who still exists in Clerk."""
    return ClerkId(user.clerk_id) if user.clerk_id and user.gone_at is None else None


def make_operation_request(
    kind: str, principal: Principal, user: UserRow, idempotency_key: str | None, intent: UserIntent
) -> OperationRequest:
    """Create the request of an operation on a user."""
    return OperationRequest(
        kind=kind,
        target=make_lock_target(user),
        actor=principal.id,
        idempotency_key=scope_idempotency_key(kind, idempotency_key),
        intent=encode_intent(intent),
    )
