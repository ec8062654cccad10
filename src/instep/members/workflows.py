"""Workflows of member operations: their steps in Clerk, verification and finalization."""

from dataclasses import dataclass
from typing import Protocol

from instep.audit.entries import build_superseded_entries
from instep.audit.repository import record_entries
from instep.core.clock import Clock
from instep.core.db import Conn
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError, translate_clerk_error
from instep.domain.events import Observation, Tombstone, decode_entity_state, encode_entity_state
from instep.domain.models import ClerkId, ClerkMembership, EntityKey
from instep.domain.ports import ClerkReader, OrganizationsApi, UsersApi
from instep.mirror import membership_status
from instep.mirror.apply import apply_observations
from instep.operations.workflow import JsonObject, Operation, Workflow, Workflows, WorkflowStep

CHANGE_ROLE, DEACTIVATE, REACTIVATE = "member.role", "member.deactivate", "member.reactivate"
REMOVE, LEAVE, RESTORE, TRANSFER = "member.remove", "member.leave", "member.restore", "member.transfer"
PARTIAL_TRANSFER_NOTICE = "The other person is an admin now, and your own role was not changed."
PARTIAL_RETURN_NOTICE = "The ban was lifted, and the person is not a member."
_NO_RESULT: JsonObject = {}


class ClerkMembershipApi(ClerkReader, OrganizationsApi, UsersApi, Protocol):
    """What changing members needs of Clerk."""


@dataclass(frozen=True)
class MemberWorkflows:
    """How each kind of change of a member is carried out."""

    provider: ClerkMembershipApi
    clock: Clock

    def all(self) -> Workflows:
        """By kind."""
        role, own = self._role_step("role", "user", "role"), self._role_step("lower", "own_user", "own_role")
        out = WorkflowStep("out", self._remove, self._verify_removed)
        follow = WorkflowStep("follow", self._follow, self._verify_followed)
        back = [
            WorkflowStep("lift", self._unban, self._verify_unbanned),
            WorkflowStep("join", self._join, self._verify_joined),
        ]
        return {
            CHANGE_ROLE: Workflow([role], self._finalize_role),
            DEACTIVATE: Workflow([follow, self._sessions_step(is_patient=True)], self._finalize_deactivation),
            REACTIVATE: Workflow(back, self._finalize_reactivation, PARTIAL_RETURN_NOTICE),
            REMOVE: Workflow([out, self._sessions_step(is_patient=False)], self._finalize_removal),
            LEAVE: Workflow([out], self._finalize_removal),
            RESTORE: Workflow(back, self._finalize_restoration, PARTIAL_RETURN_NOTICE),
            TRANSFER: Workflow([role, own], self._finalize_transfer, PARTIAL_TRANSFER_NOTICE),
        }

    def _role_step(self, name: str, user: str, role: str) -> WorkflowStep:
        """Give a member a role. Someone who left meanwhile needs none: only for one's own, after the other's."""

        async def do(operation: Operation) -> JsonObject:
            ids = _find_clerk_ids(operation, user)
            if ids is None:
                return _NO_RESULT
            try:
                return _observation_result(await self.provider.set_role(*ids, operation.intent[role]))
            except ClerkRejectedError as refusal:
                if name == "lower" and refusal.status == 404:
                    return _NO_RESULT
                raise

        async def find(operation: Operation) -> JsonObject | None:
            ids = _find_clerk_ids(operation, user)
            found = await self.provider.find_membership(*ids) if ids else None
            is_done = found is not None and _get_role(found) == operation.intent[role]
            return _observation_result(found) if found is not None and is_done else None

        return WorkflowStep(name, do, find)

    async def _remove(self, operation: Operation) -> JsonObject:
        """Take a member out; one who is out already is fine."""
        ids = _find_clerk_ids(operation)
        if ids is None:
            return _NO_RESULT
        try:
            return _observation_result(await self.provider.remove_member(*ids))
        except ClerkRejectedError as refusal:
            if refusal.status != 404:
                raise
            return _tombstone_result(operation)

    async def _verify_removed(self, operation: Operation) -> JsonObject | None:
        """Out: Clerk has no such membership, or a later one, which is not this operation's to end."""
        ids = _find_clerk_ids(operation)
        if ids is None:
            return _NO_RESULT
        found = await self.provider.find_membership(*ids)
        is_same = found is not None and operation.intent["clerk_membership"] in (None, found.key.id)
        return None if is_same else _tombstone_result(operation)

    async def _follow(self, operation: Operation) -> JsonObject:
        """Have Clerk follow a deactivation. What it refuses is noted: the person is out of here all the same."""
        how = operation.intent["deactivation"]
        try:
            if how == "membership":
                return await self._remove(operation)
            return await self._ban(operation) if how == "ban" else _NO_RESULT
        except ClerkRejectedError as refusal:
            return _refusal_result(refusal)
        except ClerkUnavailableError as silence:
            raise _mark_retryable(silence) from silence

    async def _verify_followed(self, operation: Operation) -> JsonObject | None:
        how = operation.intent["deactivation"]
        if how == "membership":
            return await self._verify_removed(operation)
        if how == "ban":
            found = await self.provider.find_user(operation.intent["user"])
            return _observation_result(found) if found is not None and _is_banned(found) else None
        return _NO_RESULT

    async def _ban(self, operation: Operation) -> JsonObject:
        """Ban, but only where Clerk knows the person in no other organization."""
        organization, user = ClerkId(operation.intent["organization"]), ClerkId(operation.intent["user"])
        news = await self.provider.list_user_memberships(user)
        theirs = [it.entity for it in news if isinstance(it.entity, ClerkMembership)]
        if any(it.organization != organization for it in theirs):
            return {"is_elsewhere": True}
        return _observation_result(await self.provider.ban_user(user))

    def _sessions_step(self, *, is_patient: bool) -> WorkflowStep:
        """End every session of the person; what Clerk refuses is noted.

        Clerk's sessions belong to a person, not to an organization: who is a member elsewhere signs in again. A
        deactivation waits until Clerk has done it; a removal does not wait, for Clerk has taken the organization out
        of their tokens already.
        """

        async def do(operation: Operation) -> JsonObject:
            ids = _find_clerk_ids(operation)
            if ids is None:
                return _NO_RESULT
            try:
                return {"ended": await self.provider.revoke_all_sessions(ids[1])}
            except ClerkRejectedError as refusal:
                return _refusal_result(refusal)
            except ClerkUnavailableError as silence:
                if is_patient:
                    raise _mark_retryable(silence) from silence
                return {"refused": "down", "status": 503, "words": str(silence)}

        return WorkflowStep("sessions", do, _skip_verification)

    async def _unban(self, operation: Operation) -> JsonObject:
        """Lift the ban that the deactivation brought."""
        if not operation.intent["has_ban"]:
            return _NO_RESULT
        return _observation_result(await self.provider.unban_user(operation.intent["user"]))

    async def _verify_unbanned(self, operation: Operation) -> JsonObject | None:
        if not operation.intent["has_ban"]:
            return _NO_RESULT
        found = await self.provider.find_user(operation.intent["user"])
        return _observation_result(found) if found is not None and not _is_banned(found) else None

    async def _join(self, operation: Operation) -> JsonObject:
        """Make the person a member again, with the remembered role; one who is a member again already is fine."""
        ids = _find_clerk_ids(operation) if operation.intent["is_out"] else None
        if ids is None:
            return _NO_RESULT
        try:
            return _observation_result(await self.provider.add_member(*ids, operation.intent["role"]))
        except ClerkRejectedError as refusal:
            found = await self.provider.find_membership(*ids) if refusal.code.startswith("already_a_member") else None
            if found is None:
                raise
            return _observation_result(found)

    async def _verify_joined(self, operation: Operation) -> JsonObject | None:
        ids = _find_clerk_ids(operation) if operation.intent["is_out"] else None
        if ids is None:
            return _NO_RESULT
        found = await self.provider.find_membership(*ids)
        return _observation_result(found) if found is not None else None

    def _finalize_role(self, conn: Conn, operation: Operation) -> None:
        now = self._apply_observations(conn, operation)
        if _find_clerk_ids(operation) is None:
            membership_status.set_membership_role(
                conn, operation.intent["membership"], operation.intent["role"], now=now
            )

    def _finalize_transfer(self, conn: Conn, operation: Operation) -> None:
        now, intent = self._apply_observations(conn, operation), operation.intent
        if _find_clerk_ids(operation) is None:
            membership_status.set_membership_role(conn, intent["membership"], intent["role"], now=now)
            membership_status.set_membership_role(conn, intent["own_membership"], intent["own_role"], now=now)

    def _finalize_deactivation(self, conn: Conn, operation: Operation) -> None:
        """The database decided when it was asked for; what is left is how far Clerk followed."""
        self._apply_observations(conn, operation)
        if operation.done["follow"].keys() & {"refused", "is_elsewhere"}:
            membership_status.set_deactivation_scope(conn, operation.intent["membership"], scope="database")

    def _finalize_reactivation(self, conn: Conn, operation: Operation) -> None:
        now = self._apply_observations(conn, operation)
        membership_status.reactivate_membership(conn, operation.intent["membership"], now=now)

    def _finalize_removal(self, conn: Conn, operation: Operation) -> None:
        now = self._apply_observations(conn, operation)
        membership_status.remove_memberships_of_same_user(conn, operation.intent["membership"], now=now)

    def _finalize_restoration(self, conn: Conn, operation: Operation) -> None:
        now = self._apply_observations(conn, operation)
        membership_status.restore_membership(conn, operation.intent["membership"], now=now)

    def _apply_observations(self, conn: Conn, operation: Operation) -> int:
        """Write what Clerk answered; gives the present time."""
        now = self.clock()
        news = [decode_entity_state(it["news"]) for it in operation.done.values() if it.get("news")]
        ledger = apply_observations(conn, news, now=now, written_fields=("role",))
        record_entries(conn, build_superseded_entries(ledger), now=now)
        return now


def _find_clerk_ids(operation: Operation, user: str = "user") -> tuple[ClerkId, ClerkId] | None:
    """Clerk's ids of the organization and of a person; None where Clerk has no part in it."""
    organization, person = operation.intent["organization"], operation.intent[user]
    return (ClerkId(organization), ClerkId(person)) if organization and person else None


def _observation_result(news: Observation | Tombstone) -> JsonObject:
    return {"news": encode_entity_state(news)}


def _tombstone_result(operation: Operation) -> JsonObject:
    """What is known of a membership that Clerk does not have."""
    id = operation.intent["clerk_membership"]
    return _observation_result(Tombstone(EntityKey("membership", ClerkId(id)))) if id else {"is_gone": True}


def _refusal_result(refusal: ClerkRejectedError) -> JsonObject:
    return {"refused": refusal.code, "status": refusal.status, "words": str(translate_clerk_error(refusal))}


def _mark_retryable(silence: ClerkUnavailableError) -> ClerkUnavailableError:
    """Silence on a call that may be made twice: it is simply made again, and a failure is no refusal."""
    return ClerkUnavailableError(str(silence), retry_after=silence.retry_after, is_without_effect=True)


def _get_role(news: Observation) -> str | None:
    return news.entity.role if isinstance(news.entity, ClerkMembership) else None


def _is_banned(news: Observation) -> bool:
    return bool(getattr(news.entity, "is_banned", False))


async def _skip_verification(_operation: Operation) -> None:
    """It can't be told that it was done; doing it again does no harm."""
