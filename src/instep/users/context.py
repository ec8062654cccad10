"""Shared context of user commands: loads the target user, checks permissions and runs operations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from instep.auth.principal import AuthUserRow, Principal, is_instance_admin
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.errors import TemporaryError
from instep.domain.errors import CONFLICT, ChangeRejectedError, ClerkRejectedError
from instep.domain.models import ClerkId
from instep.mirror.user_repository import UserRow, find_user, list_organization_ids_of_users
from instep.operations.executor import OperationExecutor
from instep.operations.workflow import (
    Operation,
    OperationFailedError,
    OperationRequest,
    OutcomeUnknownError,
    Precondition,
)
from instep.users import repository
from instep.users.models import TargetUser, UserProfile
from instep.users.policies import (
    determine_permissions,
    make_user_not_found_error,
    require_api_key_allowed,
    translate_provider_refusal,
)

MAX_USER_REF_LENGTH = 200


class UserChangedError(TemporaryError):
    """The person is not as they were when the change was asked for."""


@dataclass(frozen=True)
class UserCommandContext:
    """What the flows share. `admins`: Clerk ids and addresses (lower case) of instance admins, from the settings.

    `told` hears in which organizations somebody changed.
    """

    db: Database
    runner: OperationExecutor
    admins: frozenset[str]
    told: Callable[[set[str]], None]
    clock: Clock

    async def find(self, principal: Principal, ref: str) -> TargetUser:
        """A person by instep's id or Clerk's. Raises Refused (404) for nobody, and for one they may not know of."""
        if not ref.isprintable() or len(ref) > MAX_USER_REF_LENGTH:
            raise make_user_not_found_error()
        return await self.db.read(self._find, principal, ref)

    async def profile(self, principal: Principal, ref: str) -> UserProfile:
        """A person as the asker may see them: an organization's people see what is theirs, and nothing of others."""
        subject = await self.find(principal, ref)
        person, rights = subject.person, subject.rights
        found = (await self.db.read(repository.list_user_memberships, [person.id])).get(person.id, [])
        is_known = rights.is_admin or rights.is_self
        belongings = [it for it in found if is_known or it.organization_id in rights.shared]
        return UserProfile(person=person, memberships=tuple(belongings), is_whole=rights.is_admin)

    def require_api_key_allowed(self, principal: Principal, fields: Mapping[str, Any], person: UserRow | None) -> None:
        """Check what an API key may change of somebody, None for a new person. Raises Refused; see `rules`."""
        is_above_all = person is not None and self._is_admin(person)
        require_api_key_allowed(principal, fields, is_target_instance_admin=is_above_all, admins=self.admins)

    async def run_operation(self, asked: OperationRequest, opening: Precondition, *, whom: str) -> Operation:
        """Run an operation; what Clerk refused is said in words. Raises Refused, Unsettled, Busy."""
        try:
            operation = await self.runner.run(asked, precondition=opening)
        except OperationFailedError as failed:
            raise self.say(failed, asked, whom) from failed
        self.told(await self.db.read(list_organization_ids_of_users, [asked.intent["user"]]))
        return operation

    def say(self, failed: OperationFailedError, asked: OperationRequest, whom: str) -> ChangeRejectedError:
        """An operation that did not end as it was asked, in words."""
        refusal = find_provider_refusal(failed)
        if refusal is None or failed.operation.state == "attention":
            return ChangeRejectedError(str(failed), code=failed.code, status=CONFLICT, refusal=refusal)
        return translate_provider_refusal(refusal, asked.intent, whom=whom)

    def _find(self, conn: Conn, principal: Principal, ref: str) -> TargetUser:
        person = find_user(conn, ref)
        if person is None:
            raise make_user_not_found_error()
        ties = repository.list_shared_organizations(conn, principal, person.id)
        rights = determine_permissions(principal, person.id, ties, is_target_instance_admin=self._is_admin(person))
        if not rights.can_see:
            raise make_user_not_found_error()
        return TargetUser(person=person, rights=rights)

    def _is_admin(self, person: UserRow) -> bool:
        known = {name: getattr(person, name) for name in AuthUserRow.__struct_fields__}
        return is_instance_admin(AuthUserRow(**known), person.clerk_id or "", self.admins)


def find_provider_refusal(failed: OperationFailedError) -> ClerkRejectedError | None:
    """Clerk's own refusal behind a failure; of a repetition, what is kept of it. None where it was none."""
    cause = failed.__cause__
    if isinstance(cause, OutcomeUnknownError):
        return None
    return (
        cause if isinstance(cause, ClerkRejectedError) else ClerkRejectedError(str(failed), code=failed.code, status=0)
    )


def require_same_clerk_account(person: UserRow, clerk_id: str | None) -> UserRow:
    """Raises UserChangedError where the person got another Clerk account, or their first, since the flow looked."""
    if person.clerk_id != clerk_id:
        raise UserChangedError("This person was changed a moment ago. Nothing was changed by you; try again.")
    return person


def make_lock_target(person: UserRow) -> str:
    """What operations on a person lock."""
    return f"user:{person.id}"


def scope_idempotency_key(kind: str, idempotency_key: str | None) -> str | None:
    """One key may come with different changes: each kind has its own."""
    return f"{kind}:{idempotency_key}" if idempotency_key else None


def get_clerk_id(person: UserRow) -> ClerkId | None:
    """Clerk's id of somebody whom Clerk still has."""
    return ClerkId(person.clerk_id) if person.clerk_id and person.gone_at is None else None


def make_operation_request(
    kind: str, principal: Principal, person: UserRow, key: str | None, intent: dict[str, Any]
) -> OperationRequest:
    """An operation on a person."""
    return OperationRequest(
        kind=kind,
        target=make_lock_target(person),
        actor=principal.id,
        idempotency_key=scope_idempotency_key(kind, key),
        intent={"user": person.id, "clerk_id": get_clerk_id(person), **intent},
    )
