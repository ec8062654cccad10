"""Changes of members, as operations: which calls each one makes, how they are found out, and what they settle.

An intent holds `membership` (our row), `clerk_membership`, `organization` and `user` (Clerk's ids; the last two are
None where Clerk has no part in it, and then no call is made), and what each kind needs besides.
"""

from dataclasses import dataclass
from typing import Protocol

from instep.audit.joined import superseded_entries
from instep.audit.store import record
from instep.identity.events import Gone, Seen, from_json, to_json
from instep.identity.model import ClerkId, Key, Membership
from instep.identity.ports import Accounts, Actor, Directory, ProviderDown, ProviderRefused
from instep.identity.refusals import in_words
from instep.journal.model import Json, Operation, Procedure, Procedures, Step
from instep.kit.clock import Clock
from instep.kit.db import Conn
from instep.mirror import standing
from instep.mirror.apply import take_in

ROLE, DEACTIVATE, REACTIVATE = "member.role", "member.deactivate", "member.reactivate"
REMOVE, LEAVE, RESTORE, TRANSFER = "member.remove", "member.leave", "member.restore", "member.transfer"
LOST_TRANSFER = "The other person is an admin now, and your own role was not changed."
LOST_RETURN = "The ban was lifted, and the person is not a member."
_NOTHING: Json = {}


class Provider(Directory, Actor, Accounts, Protocol):
    """What changing members needs of Clerk."""


@dataclass(frozen=True)
class MemberProcedures:
    """How each kind of change of a member is carried out."""

    provider: Provider
    clock: Clock

    def all(self) -> Procedures:
        """By kind."""
        role, own = self._role_step("role", "user", "role"), self._role_step("lower", "own_user", "own_role")
        out = Step("out", self._remove, self._find_removed)
        follow = Step("follow", self._follow, self._find_followed)
        back = [Step("lift", self._lift, self._find_lifted), Step("join", self._join, self._find_joined)]
        return {
            ROLE: Procedure([role], self._settle_role),
            DEACTIVATE: Procedure([follow, self._sessions_step(is_patient=True)], self._settle_deactivation),
            REACTIVATE: Procedure(back, self._settle_reactivation, LOST_RETURN),
            REMOVE: Procedure([out, self._sessions_step(is_patient=False)], self._settle_removal),
            LEAVE: Procedure([out], self._settle_removal),
            RESTORE: Procedure(back, self._settle_return, LOST_RETURN),
            TRANSFER: Procedure([role, own], self._settle_transfer, LOST_TRANSFER),
        }

    def _role_step(self, name: str, user: str, role: str) -> Step:
        """Give a member a role. Someone who left meanwhile needs none: only for one's own, after the other's."""

        async def do(operation: Operation) -> Json:
            ids = _ids(operation, user)
            if ids is None:
                return _NOTHING
            try:
                return _kept(await self.provider.set_role(*ids, operation.intent[role]))
            except ProviderRefused as refusal:
                if name == "lower" and refusal.status == 404:
                    return _NOTHING
                raise

        async def find(operation: Operation) -> Json | None:
            ids = _ids(operation, user)
            found = await self.provider.find_membership(*ids) if ids else None
            is_done = found is not None and _role_of(found) == operation.intent[role]
            return _kept(found) if found is not None and is_done else None

        return Step(name, do, find)

    async def _remove(self, operation: Operation) -> Json:
        """Take a member out; one who is out already is fine."""
        ids = _ids(operation)
        if ids is None:
            return _NOTHING
        try:
            return _kept(await self.provider.remove_member(*ids))
        except ProviderRefused as refusal:
            if refusal.status != 404:
                raise
            return _kept_gone(operation)

    async def _find_removed(self, operation: Operation) -> Json | None:
        """Out: Clerk has no such membership, or a later one, which is not this operation's to end."""
        ids = _ids(operation)
        if ids is None:
            return _NOTHING
        found = await self.provider.find_membership(*ids)
        is_same = found is not None and operation.intent["clerk_membership"] in (None, found.key.id)
        return None if is_same else _kept_gone(operation)

    async def _follow(self, operation: Operation) -> Json:
        """Have Clerk follow a deactivation. What it refuses is noted: the person is out of here all the same."""
        how = operation.intent["deactivation"]
        try:
            if how == "membership":
                return await self._remove(operation)
            return await self._ban(operation) if how == "ban" else _NOTHING
        except ProviderRefused as refusal:
            return _noted(refusal)
        except ProviderDown as silence:
            raise _repeatable(silence) from silence

    async def _find_followed(self, operation: Operation) -> Json | None:
        how = operation.intent["deactivation"]
        if how == "membership":
            return await self._find_removed(operation)
        if how == "ban":
            found = await self.provider.find_user(operation.intent["user"])
            return _kept(found) if found is not None and _is_banned(found) else None
        return _NOTHING

    async def _ban(self, operation: Operation) -> Json:
        """Ban, but only where Clerk knows the person in no other organization."""
        organization, user = ClerkId(operation.intent["organization"]), ClerkId(operation.intent["user"])
        news = await self.provider.list_memberships_of(user)
        theirs = [it.entity for it in news if isinstance(it.entity, Membership)]
        if any(it.organization != organization for it in theirs):
            return {"is_elsewhere": True}
        return _kept(await self.provider.ban_user(user))

    def _sessions_step(self, *, is_patient: bool) -> Step:
        """End every session of the person; what Clerk refuses is noted.

        Clerk's sessions belong to a person, not to an organization: who is a member elsewhere signs in again. A
        deactivation waits until Clerk has done it; a removal does not wait, for Clerk has taken the organization out
        of their tokens already.
        """

        async def do(operation: Operation) -> Json:
            ids = _ids(operation)
            if ids is None:
                return _NOTHING
            try:
                return {"ended": await self.provider.end_sessions(ids[1])}
            except ProviderRefused as refusal:
                return _noted(refusal)
            except ProviderDown as silence:
                if is_patient:
                    raise _repeatable(silence) from silence
                return {"refused": "down", "status": 503, "words": str(silence)}

        return Step("sessions", do, _never)

    async def _lift(self, operation: Operation) -> Json:
        """Lift the ban that the deactivation brought."""
        if not operation.intent["has_ban"]:
            return _NOTHING
        return _kept(await self.provider.unban_user(operation.intent["user"]))

    async def _find_lifted(self, operation: Operation) -> Json | None:
        if not operation.intent["has_ban"]:
            return _NOTHING
        found = await self.provider.find_user(operation.intent["user"])
        return _kept(found) if found is not None and not _is_banned(found) else None

    async def _join(self, operation: Operation) -> Json:
        """Make the person a member again, with the remembered role; one who is a member again already is fine."""
        ids = _ids(operation) if operation.intent["is_out"] else None
        if ids is None:
            return _NOTHING
        try:
            return _kept(await self.provider.add_member(*ids, operation.intent["role"]))
        except ProviderRefused as refusal:
            found = await self.provider.find_membership(*ids) if refusal.code.startswith("already_a_member") else None
            if found is None:
                raise
            return _kept(found)

    async def _find_joined(self, operation: Operation) -> Json | None:
        ids = _ids(operation) if operation.intent["is_out"] else None
        if ids is None:
            return _NOTHING
        found = await self.provider.find_membership(*ids)
        return _kept(found) if found is not None else None

    def _settle_role(self, conn: Conn, operation: Operation) -> None:
        now = self._take_in(conn, operation)
        if _ids(operation) is None:
            standing.set_role(conn, operation.intent["membership"], operation.intent["role"], now=now)

    def _settle_transfer(self, conn: Conn, operation: Operation) -> None:
        now, intent = self._take_in(conn, operation), operation.intent
        if _ids(operation) is None:
            standing.set_role(conn, intent["membership"], intent["role"], now=now)
            standing.set_role(conn, intent["own_membership"], intent["own_role"], now=now)

    def _settle_deactivation(self, conn: Conn, operation: Operation) -> None:
        """The database decided when it was asked for; what is left is how far Clerk followed."""
        self._take_in(conn, operation)
        if operation.done["follow"].keys() & {"refused", "is_elsewhere"}:
            standing.note_deactivation(conn, operation.intent["membership"], how="database")

    def _settle_reactivation(self, conn: Conn, operation: Operation) -> None:
        now = self._take_in(conn, operation)
        standing.reactivate(conn, operation.intent["membership"], now=now)

    def _settle_removal(self, conn: Conn, operation: Operation) -> None:
        now = self._take_in(conn, operation)
        standing.remove_person(conn, operation.intent["membership"], now=now)

    def _settle_return(self, conn: Conn, operation: Operation) -> None:
        now = self._take_in(conn, operation)
        standing.restore(conn, operation.intent["membership"], now=now)

    def _take_in(self, conn: Conn, operation: Operation) -> int:
        """Write what Clerk answered; gives the present time."""
        now = self.clock()
        news = [from_json(it["news"]) for it in operation.done.values() if it.get("news")]
        ledger = take_in(conn, news, now=now, wrote=("role",))
        record(conn, superseded_entries(ledger), now=now)
        return now


def _ids(operation: Operation, user: str = "user") -> tuple[ClerkId, ClerkId] | None:
    """Clerk's ids of the organization and of a person; None where Clerk has no part in it."""
    organization, person = operation.intent["organization"], operation.intent[user]
    return (ClerkId(organization), ClerkId(person)) if organization and person else None


def _kept(news: Seen | Gone) -> Json:
    return {"news": to_json(news)}


def _kept_gone(operation: Operation) -> Json:
    """What is known of a membership that Clerk does not have."""
    id = operation.intent["clerk_membership"]
    return _kept(Gone(Key("membership", ClerkId(id)))) if id else {"is_gone": True}


def _noted(refusal: ProviderRefused) -> Json:
    return {"refused": refusal.code, "status": refusal.status, "words": str(in_words(refusal))}


def _repeatable(silence: ProviderDown) -> ProviderDown:
    """Silence on a call that may be made twice: it is simply made again, and a failure is no refusal."""
    return ProviderDown(str(silence), retry_after=silence.retry_after, is_harmless=True)


def _role_of(news: Seen) -> str | None:
    return news.entity.role if isinstance(news.entity, Membership) else None


def _is_banned(news: Seen) -> bool:
    return bool(getattr(news.entity, "is_banned", False))


async def _never(_operation: Operation) -> None:
    """It can't be told that it was done; doing it again does no harm."""
