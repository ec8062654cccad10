"""Changing members: role, deactivation, removal and their ways back, each an operation, each checked as it begins."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

from msgspec import Struct

from instep.access.principal import Access
from instep.access.store import find_access
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import FORBIDDEN, NOT_FOUND, Refused
from instep.identity.standing import LEAVES, RISES, underway
from instep.journal.model import Asked, Failed, Json, Operation, Unsettled
from instep.journal.run import Runner
from instep.journal.store import list_intents
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import TemporaryError
from instep.mirror import standing
from instep.people import procedures, rules, store
from instep.people.rules import Member, Policy

TRIES = 3
GOES_ON = "Clerk does not answer; the rest is done as soon as it does."


class Changed(Struct, frozen=True, kw_only=True):
    """A change that stands. `notices` say what Clerk did not do of it; `is_open`: the rest is still being done.

    `operation_id` is None where there was nothing to change.
    """

    member: Member
    operation_id: str | None = None
    is_open: bool = False
    notices: tuple[str, ...] = ()


class Overrun(TemporaryError):
    """The member was changed by someone else at the same moment."""


@dataclass(frozen=True)
class Wish:
    """One kind of change. `check` raises Refused, `write` is what the database decides at once.

    `loses_admin`: an admin would be one no longer; `is_own`: by the person, who need not be an admin for it.
    Two operations on the same `target` of a member wait for each other: a deactivation waits for no other change
    than of this kind, for it can't wait.
    """

    kind: str
    check: Callable[[Conn, Access, Member], None]
    intent: Json = field(default_factory=dict)
    write: Callable[[Conn, Member], None] | None = None
    loses_admin: bool = False
    is_own: bool = False
    target: str = "membership"


@dataclass(frozen=True)
class MemberChanges:
    """Changes members of one organization. `policy` is how far Clerk follows a deactivation.

    `told` hears the organizations whose lists changed. Each method takes `member` (the person's id, ours or Clerk's)
    and raises Refused (nothing was changed), Failed (a part was: a person must look), Unsettled (the worker finds out
    and finishes) and Busy.
    """

    db: Db
    runner: Runner
    clock: Clock
    policy: Policy = "database"
    told: Callable[[Iterable[str]], None] = lambda _organizations: None

    async def set_role(self, access: Access, *, member: str, role: str, idempotency_key: str | None = None) -> Changed:
        """Change a member's role: Clerk first, then the mirror. The role they have already is no change."""
        found = await self._get(access, member)
        if access.may_act and found.status == "active" and found.role == role:
            return Changed(member=found)
        wish = Wish(
            procedures.ROLE,
            lambda _conn, now, it: rules.check_role(now, it, role),
            {"role": role} | ({RISES: found.id} if access.roles.is_admin(role) else {}),
            loses_admin=not access.roles.is_admin(role),
        )
        return await self._change(access, member, wish, idempotency_key)

    async def deactivate(self, access: Access, *, member: str, idempotency_key: str | None = None) -> Changed:
        """Put a member out, at once.

        1 in one transaction the intent is kept and the member is deactivated: out at the next request, whatever Clerk
        says or does; 2 Clerk follows as far as `policy` says; 3 the person's sessions are revoked in Clerk. Clerk has
        no sessions of one organization, so all of them end; who is active elsewhere signs in again. What Clerk
        refuses is told in `notices`; while it is down, the answer `is_open`.
        """
        found = await self._get(access, member)
        how = await self._how(access, found)
        wish = Wish(
            procedures.DEACTIVATE,
            lambda _conn, now, it: rules.check_deactivate(now, it),
            {"deactivation": how},
            write=lambda conn, it: standing.deactivate(conn, it.id, how=how, now=self.clock()),
            loses_admin=True,
            target="standing",
        )
        try:
            return await self._change(access, member, wish, idempotency_key)
        except Unsettled as unsettled:
            return await self._changed(access, found, unsettled.operation, notices=(GOES_ON,))

    async def reactivate(self, access: Access, *, member: str, idempotency_key: str | None = None) -> Changed:
        """Let a deactivated member in again, with the remembered role.

        1 what the deactivation did in Clerk is undone: the membership is made again, or the ban lifted; 2 the mirror
        follows: it is the same row, under Clerk's new id.
        """
        found = await self._get(access, member)
        how = found.deactivation
        intent = {"role": found.role, "is_out": how == "membership", "has_ban": how == "ban"}
        wish = Wish(
            procedures.REACTIVATE, lambda _conn, now, it: rules.check_reactivate(now, it), intent, target="standing"
        )
        return await self._change(access, member, wish, idempotency_key)

    async def remove(self, access: Access, *, member: str, idempotency_key: str | None = None) -> Changed:
        """Take a member out: 1 in Clerk, 2 the person's sessions are revoked there, 3 the row is marked removed."""
        wish = Wish(procedures.REMOVE, lambda _conn, now, it: rules.check_remove(now, it), loses_admin=True)
        return await self._change(access, member, wish, idempotency_key)

    async def leave(self, access: Access, *, idempotency_key: str | None = None) -> Changed:
        """Leave an organization oneself: removed in Clerk, then here; the sessions go on."""
        wish = Wish(procedures.LEAVE, lambda _conn, now, it: rules.check_leave(now, it), loses_admin=True, is_own=True)
        return await self._change(access, access.principal.user_id or "", wish, idempotency_key)

    async def restore(self, access: Access, *, member: str, idempotency_key: str | None = None) -> Changed:
        """Make a former member one again, with the remembered role: a new membership in Clerk, and a new row."""
        found = await self._get(access, member)
        intent = {"role": found.role, "is_out": True, "has_ban": found.deactivation == "ban"}
        wish = Wish(procedures.RESTORE, lambda _conn, now, it: rules.check_restore(now, it), intent)
        return await self._change(access, member, wish, idempotency_key)

    async def transfer(self, access: Access, *, member: str, idempotency_key: str | None = None) -> Changed:
        """Hand an organization over: 1 the other becomes an admin, 2 oneself an ordinary member. One operation."""
        found = await self._get(access, member)
        own = await self.db.read(store.find_member, access.organization_id, access.principal.user_id or "")

        def check(conn: Conn, now: Access, it: Member) -> None:
            present = store.find_member(conn, now.organization_id, own.user_id) if own else None
            rules.check_transfer(now, present, it)

        role = own.role if own is not None else access.roles.highest
        intent: Json = {"role": role, "own_role": access.roles.default, RISES: found.id}
        if own is not None:
            intent |= {"own_user": own.clerk_user_id, "own_membership": own.id, LEAVES: own.id}
        wish = Wish(procedures.TRANSFER, check, intent, is_own=True)
        return await self._change(access, member, wish, idempotency_key)

    async def _change(self, access: Access, ref: str, wish: Wish, key: str | None) -> Changed:
        """1 who may not act is told so; 2 the operation, opened against the present state; 3 words for its end."""
        if not (access.may_act or wish.is_own):
            raise Refused("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
        for left in reversed(range(TRIES)):
            found = await self._get(access, ref)
            asked = self._asked(access, found, wish, key)
            try:
                operation = await self.runner.run(asked, opening=partial(self._open, access, found, wish))
            except Failed as failed:
                self.told([access.organization_id])
                _raise_in_words(failed, found, wish)
            except Overrun:
                if left:
                    continue
                raise
            return await self._changed(access, found, operation)
        raise AssertionError("unreachable")

    def _asked(self, access: Access, found: Member, wish: Wish, key: str | None) -> Asked:
        is_in_clerk = access.organization_clerk_id is not None and found.clerk_user_id is not None
        intent: Json = {
            "membership": found.id,
            "clerk_membership": found.clerk_id,
            "organization": access.organization_clerk_id if is_in_clerk else None,
            "user": found.clerk_user_id,
            "before": {"role": found.role, "status": found.status},
            **({LEAVES: found.id} if wish.loses_admin else {}),
            **wish.intent,
        }
        return Asked(
            kind=wish.kind,
            target=f"{wish.target}:{found.id}",
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=key,
            intent=intent,
        )

    def _open(self, access: Access, found: Member, wish: Wish, conn: Conn) -> None:
        """In the transaction that keeps the intent: nobody else changes this organization's standing meanwhile."""
        organization = access.organization_id
        standing.lock_organization(conn, organization)
        present = find_access(conn, access.principal, organization)
        member = store.find_member(conn, organization, found.user_id)
        if present is None or member is None:
            raise _nobody()
        wish.check(conn, present, member)
        if _state(member) != _state(found):
            raise Overrun("This member was changed at the same moment. Nothing was changed; try again.")
        if wish.loses_admin:
            rules.check_admin_stays(
                member, store.list_admins(conn, organization, present.roles), underway(list_intents(conn))
            )
        if wish.write is not None:
            wish.write(conn, member)

    async def _how(self, access: Access, found: Member) -> Policy:
        """How far Clerk shall follow: not at all where it has no part, and no ban for who belongs elsewhere too."""
        if access.organization_clerk_id is None or found.clerk_user_id is None:
            return "database"
        if self.policy != "ban":
            return self.policy
        others = await self.db.read(store.list_other_organizations, found.user_id, access.organization_id)
        return "database" if others else "ban"

    async def _get(self, access: Access, ref: str) -> Member:
        found = await self.db.read(store.find_member, access.organization_id, ref)
        if found is None:
            raise _nobody()
        return found

    async def _changed(
        self, access: Access, found: Member, operation: Operation, *, notices: tuple[str, ...] = ()
    ) -> Changed:
        self.told([access.organization_id])
        now = await self.db.read(store.find_member, access.organization_id, found.user_id)
        return Changed(
            member=now or found,
            operation_id=operation.id,
            is_open=operation.state == "open",
            notices=(*notices, *rules.notices_of(operation.done)),
        )


def _state(member: Member) -> tuple[str | None, ...]:
    return member.id, member.clerk_id, member.role, member.deactivation


def _nobody() -> Refused:
    return Refused("There is no such person in this organization.", code="not_found", status=NOT_FOUND)


def _raise_in_words(failed: Failed, member: Member, wish: Wish) -> NoReturn:
    if failed.operation.state == "attention":
        raise failed
    cause = failed.__cause__
    refusal = cause if isinstance(cause, ProviderRefused) else ProviderRefused(str(failed), code=failed.code, status=0)
    raise rules.in_words(refusal, member=member, role=wish.intent.get("role")) from failed
