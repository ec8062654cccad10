"""Workflows of member operations: their steps in Clerk, verification and finalization."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from instep.audit.repository import build_superseded_entries, record_entries
from instep.core.clock import Clock
from instep.core.db import Conn
from instep.core.i18n import lazy_gettext
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError, translate_clerk_error
from instep.domain.events import Observation, Tombstone, decode_entity_state, encode_entity_state
from instep.domain.models import ClerkId, ClerkMembership, EntityKey
from instep.domain.ports import ClerkReader, OrganizationsApi, UsersApi
from instep.members.models import (
    ChangeRoleIntent,
    DeactivateIntent,
    LeaveIntent,
    MemberIntent,
    ReactivateIntent,
    RemoveIntent,
    RestoreIntent,
    TransferIntent,
)
from instep.mirror import membership_status
from instep.mirror.apply import apply_observations
from instep.operations.workflow import JsonObject, TypedOperation, Workflow, Workflows, WorkflowStep

CHANGE_ROLE, DEACTIVATE, REACTIVATE = "member.role", "member.deactivate", "member.reactivate"
REMOVE, LEAVE, RESTORE, TRANSFER = "member.remove", "member.leave", "member.restore", "member.transfer"
PARTIAL_TRANSFER_NOTICE = lazy_gettext("The other person is an admin now, but your own role was not changed.")
PARTIAL_RETURN_NOTICE = lazy_gettext("The ban was lifted, but the person is not a member.")
_NO_RESULT: JsonObject = {}
_MemberIntent = TypeVar("_MemberIntent", bound=MemberIntent)


class ClerkMembershipApi(ClerkReader, OrganizationsApi, UsersApi, Protocol):
    """The calls to Clerk that changes of members need."""


@dataclass(frozen=True)
class MemberWorkflows:
    """Workflows of member operations.

    The keys of step results ("news", "words", ...) and the names of steps are stored: they stay.
    """

    clerk: ClerkMembershipApi
    clock: Clock

    def get_workflows(self) -> Workflows:
        """Return the workflows by kind of operation."""
        change_role = self._build_role_step("role", _get_new_role)
        lower_own_role = self._build_role_step("lower", _get_own_role)
        remove = WorkflowStep("out", self._remove, self._verify_removed)
        follow = WorkflowStep("follow", self._follow, self._verify_followed)
        rejoin = [
            WorkflowStep("lift", self._unban, self._verify_unbanned),
            WorkflowStep("join", self._join, self._verify_joined),
        ]
        wait_for_sessions = self._build_sessions_step(is_patient=True)
        end_sessions = self._build_sessions_step(is_patient=False)
        return {
            CHANGE_ROLE: Workflow(ChangeRoleIntent, [change_role], self._finalize_role),
            DEACTIVATE: Workflow(DeactivateIntent, [follow, wait_for_sessions], self._finalize_deactivation),
            REACTIVATE: Workflow(ReactivateIntent, rejoin, self._finalize_reactivation, PARTIAL_RETURN_NOTICE),
            REMOVE: Workflow(RemoveIntent, [remove, end_sessions], self._finalize_removal),
            LEAVE: Workflow(LeaveIntent, [remove], self._finalize_removal),
            RESTORE: Workflow(RestoreIntent, rejoin, self._finalize_restoration, PARTIAL_RETURN_NOTICE),
            TRANSFER: Workflow(
                TransferIntent, [change_role, lower_own_role], self._finalize_transfer, PARTIAL_TRANSFER_NOTICE
            ),
        }

    def _build_role_step(
        self, name: str, get_user_and_role: Callable[[_MemberIntent], tuple[ClerkId | None, str]]
    ) -> WorkflowStep[_MemberIntent]:
        """Build the step that sets the role of one of the intent's users.

        In a transfer, the caller's own role is lowered last; a caller who has left meanwhile needs no role.
        """

        async def execute(operation: TypedOperation[_MemberIntent]) -> JsonObject:
            user_id, role = get_user_and_role(operation.intent)
            ids = _pair_clerk_ids(operation.intent.organization, user_id)
            if ids is None:
                return _NO_RESULT
            try:
                return _build_observation_result(await self.clerk.set_role(*ids, role))
            except ClerkRejectedError as refusal:
                if name == "lower" and refusal.status == 404:
                    return _NO_RESULT
                raise

        async def verify(operation: TypedOperation[_MemberIntent]) -> JsonObject | None:
            user_id, role = get_user_and_role(operation.intent)
            ids = _pair_clerk_ids(operation.intent.organization, user_id)
            found = await self.clerk.find_membership(*ids) if ids else None
            if found is None or _get_role(found) != role:
                return None
            return _build_observation_result(found)

        return WorkflowStep(name, execute, verify)

    async def _remove(self, operation: TypedOperation[MemberIntent]) -> JsonObject:
        """Remove a member; one who is not a member any more is fine."""
        ids = _find_clerk_ids(operation)
        if ids is None:
            return _NO_RESULT
        try:
            return _build_observation_result(await self.clerk.remove_member(*ids))
        except ClerkRejectedError as refusal:
            if refusal.status != 404:
                raise
            return _build_tombstone_result(operation)

    async def _verify_removed(self, operation: TypedOperation[MemberIntent]) -> JsonObject | None:
        """Return a result if Clerk has no such membership, or a later one, which this operation must not end."""
        ids = _find_clerk_ids(operation)
        if ids is None:
            return _NO_RESULT
        found = await self.clerk.find_membership(*ids)
        is_same = found is not None and operation.intent.clerk_membership in (None, found.key.id)
        return None if is_same else _build_tombstone_result(operation)

    async def _follow(self, operation: TypedOperation[DeactivateIntent]) -> JsonObject:
        """Apply a deactivation in Clerk. A refusal is recorded: the member is deactivated here all the same."""
        scope = operation.intent.deactivation
        try:
            if scope == "membership":
                return await self._remove(operation)
            return await self._ban(operation) if scope == "ban" else _NO_RESULT
        except ClerkRejectedError as refusal:
            return _build_refusal_result(refusal)
        except ClerkUnavailableError as error:
            raise _mark_retryable(error) from error

    async def _verify_followed(self, operation: TypedOperation[DeactivateIntent]) -> JsonObject | None:
        scope = operation.intent.deactivation
        if scope == "membership":
            return await self._verify_removed(operation)
        if scope == "ban" and operation.intent.user is not None:
            found = await self.clerk.find_user(operation.intent.user)
            return _build_observation_result(found) if found is not None and _is_banned(found) else None
        return _NO_RESULT

    async def _ban(self, operation: TypedOperation[DeactivateIntent]) -> JsonObject:
        """Ban the user, but only if Clerk has no membership in another organization."""
        ids = _find_clerk_ids(operation)
        if ids is None:
            return _NO_RESULT
        organization_id, user_id = ids
        observations = await self.clerk.list_user_memberships(user_id)
        memberships = [each.entity for each in observations if isinstance(each.entity, ClerkMembership)]
        if any(membership.organization != organization_id for membership in memberships):
            return {"is_elsewhere": True}
        return _build_observation_result(await self.clerk.ban_user(user_id))

    def _build_sessions_step(self, *, is_patient: bool) -> WorkflowStep[MemberIntent]:
        """Build the step that ends every session of the user; a refusal of Clerk is recorded.

        Clerk's sessions belong to a user, not to an organization: a member of other organizations signs in again. A
        deactivation waits until Clerk has done it (`is_patient`); a removal does not, because Clerk has already taken
        the organization out of the user's tokens.
        """

        async def execute(operation: TypedOperation[MemberIntent]) -> JsonObject:
            ids = _find_clerk_ids(operation)
            if ids is None:
                return _NO_RESULT
            try:
                return {"ended": await self.clerk.revoke_all_sessions(ids[1])}
            except ClerkRejectedError as refusal:
                return _build_refusal_result(refusal)
            except ClerkUnavailableError as error:
                if is_patient:
                    raise _mark_retryable(error) from error
                return {"refused": "down", "status": 503, "words": str(error)}

        return WorkflowStep("sessions", execute, _skip_verification)

    async def _unban(self, operation: TypedOperation[ReactivateIntent]) -> JsonObject:
        """Lift the ban that the deactivation imposed."""
        user_id = operation.intent.user
        if user_id is None or not operation.intent.has_ban:
            return _NO_RESULT
        return _build_observation_result(await self.clerk.unban_user(user_id))

    async def _verify_unbanned(self, operation: TypedOperation[ReactivateIntent]) -> JsonObject | None:
        user_id = operation.intent.user
        if user_id is None or not operation.intent.has_ban:
            return _NO_RESULT
        found = await self.clerk.find_user(user_id)
        return _build_observation_result(found) if found is not None and not _is_banned(found) else None

    async def _join(self, operation: TypedOperation[ReactivateIntent]) -> JsonObject:
        """Create the membership again with the previous role; one that exists already is fine."""
        ids = _find_clerk_ids(operation) if operation.intent.is_out else None
        if ids is None:
            return _NO_RESULT
        try:
            return _build_observation_result(await self.clerk.add_member(*ids, operation.intent.role))
        except ClerkRejectedError as refusal:
            found = await self.clerk.find_membership(*ids) if refusal.code.startswith("already_a_member") else None
            if found is None:
                raise
            return _build_observation_result(found)

    async def _verify_joined(self, operation: TypedOperation[ReactivateIntent]) -> JsonObject | None:
        ids = _find_clerk_ids(operation) if operation.intent.is_out else None
        if ids is None:
            return _NO_RESULT
        found = await self.clerk.find_membership(*ids)
        return _build_observation_result(found) if found is not None else None

    def _finalize_role(self, conn: Conn, operation: TypedOperation[ChangeRoleIntent]) -> None:
        now, intent = self._apply_observations(conn, operation), operation.intent
        if _find_clerk_ids(operation) is None:
            membership_status.set_membership_role(conn, intent.membership, intent.role, now=now)

    def _finalize_transfer(self, conn: Conn, operation: TypedOperation[TransferIntent]) -> None:
        now, intent = self._apply_observations(conn, operation), operation.intent
        if _find_clerk_ids(operation) is None:
            membership_status.set_membership_role(conn, intent.membership, intent.role, now=now)
            membership_status.set_membership_role(conn, intent.own_membership, intent.own_role, now=now)

    def _finalize_deactivation(self, conn: Conn, operation: TypedOperation[DeactivateIntent]) -> None:
        """Store how far Clerk followed; the member was deactivated here when the operation was started."""
        self._apply_observations(conn, operation)
        if operation.done["follow"].keys() & {"refused", "is_elsewhere"}:
            membership_status.set_deactivation_scope(conn, operation.intent.membership, scope="database")

    def _finalize_reactivation(self, conn: Conn, operation: TypedOperation[ReactivateIntent]) -> None:
        now = self._apply_observations(conn, operation)
        membership_status.reactivate_membership(conn, operation.intent.membership, now=now)

    def _finalize_removal(self, conn: Conn, operation: TypedOperation[MemberIntent]) -> None:
        now = self._apply_observations(conn, operation)
        membership_status.remove_memberships_of_same_user(conn, operation.intent.membership, now=now)

    def _finalize_restoration(self, conn: Conn, operation: TypedOperation[RestoreIntent]) -> None:
        now = self._apply_observations(conn, operation)
        membership_status.restore_membership(conn, operation.intent.membership, now=now)

    def _apply_observations(self, conn: Conn, operation: TypedOperation[MemberIntent]) -> int:
        """Write Clerk's answers to the mirror; return the present time (Unix milliseconds)."""
        now = self.clock()
        results = operation.done.values()
        observations = [decode_entity_state(result["news"]) for result in results if result.get("news")]
        unit_of_work = apply_observations(conn, observations, now=now, written_fields=("role",))
        record_entries(conn, build_superseded_entries(unit_of_work), now=now)
        return now


def _find_clerk_ids(operation: TypedOperation[MemberIntent]) -> tuple[ClerkId, ClerkId] | None:
    """Return Clerk's ids of the organization and of the user; None where one of them is not in Clerk."""
    return _pair_clerk_ids(operation.intent.organization, operation.intent.user)


def _pair_clerk_ids(organization_id: ClerkId | None, user_id: ClerkId | None) -> tuple[ClerkId, ClerkId] | None:
    return (organization_id, user_id) if organization_id and user_id else None


def _get_new_role(intent: ChangeRoleIntent) -> tuple[ClerkId | None, str]:
    return intent.user, intent.role


def _get_own_role(intent: TransferIntent) -> tuple[ClerkId | None, str]:
    return intent.own_user, intent.own_role


def _build_observation_result(state: Observation | Tombstone) -> JsonObject:
    return {"news": encode_entity_state(state)}


def _build_tombstone_result(operation: TypedOperation[MemberIntent]) -> JsonObject:
    """Build the result for a membership that Clerk does not have."""
    clerk_id = operation.intent.clerk_membership
    if not clerk_id:
        return {"is_gone": True}
    return _build_observation_result(Tombstone(EntityKey("membership", clerk_id)))


def _build_refusal_result(refusal: ClerkRejectedError) -> JsonObject:
    return {"refused": refusal.code, "status": refusal.status, "words": str(translate_clerk_error(refusal))}


def _mark_retryable(error: ClerkUnavailableError) -> ClerkUnavailableError:
    """Return the failure of an idempotent call as one without effect: it is repeated, and never counts as refused."""
    return ClerkUnavailableError(str(error), retry_after=error.retry_after, is_without_effect=True)


def _get_role(observation: Observation) -> str | None:
    return observation.entity.role if isinstance(observation.entity, ClerkMembership) else None


def _is_banned(observation: Observation) -> bool:
    return bool(getattr(observation.entity, "is_banned", False))


async def _skip_verification(_operation: TypedOperation[MemberIntent]) -> None:
    """Return None: it cannot be verified, and repeating it does no harm."""
