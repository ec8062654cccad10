"""What removing or deactivating someone will do, told before it is done."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from msgspec import Struct

from instep.access.principal import Access
from instep.access.store import list_accesses
from instep.identity.model import ClerkId
from instep.identity.ports import Accounts, Directory
from instep.identity.refusals import FORBIDDEN, NOT_FOUND, Refused
from instep.identity.standing import underway
from instep.journal.store import list_intents
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError, described
from instep.people import rules, store
from instep.people.rules import Member

log = structlog.get_logger(__name__)
T = TypeVar("T")
PATIENCE = 2.0


class Consequences(Struct, frozen=True, kw_only=True):
    """What will happen. `sessions` and `invitations` are None while Clerk does not say.

    `sessions`: how many of the person's are open, all of which end; `invitations`: the addresses of those they
    invited who have not answered; these stay. `organizations`: the others they belong to, as far as the reader may
    see them. `is_admin`: their role makes an admin. `no_removal` and `no_deactivation` say why not, where it can't be
    done.
    """

    member: Member
    sessions: int | None
    invitations: tuple[str, ...] | None
    organizations: tuple[str, ...]
    no_removal: str | None
    no_deactivation: str | None
    is_admin: bool = False


@dataclass(frozen=True)
class FindConsequences:
    """Asks both sides. `patience` is how long Clerk may take, in seconds."""

    db: Db
    directory: Directory
    accounts: Accounts
    patience: float = PATIENCE

    async def __call__(self, access: Access, *, member: str) -> Consequences:
        """What removing or deactivating this member will do. Raises Refused for who may not, and for nobody."""
        if not access.may_act:
            raise Refused("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
        found = await self.db.read(store.find_member, access.organization_id, member)
        if found is None:
            raise Refused("There is no such person in this organization.", code="not_found", status=NOT_FOUND)
        sessions, invitations, (organizations, no_removal, no_deactivation) = await asyncio.gather(
            self._sessions(found), self._invitations(access, found), self.db.read(_here, access, found)
        )
        return Consequences(
            member=found,
            sessions=sessions,
            invitations=invitations,
            organizations=organizations,
            no_removal=no_removal,
            no_deactivation=no_deactivation,
            is_admin=access.roles.is_admin(found.role),
        )

    async def _sessions(self, member: Member) -> int | None:
        if member.clerk_user_id is None:
            return 0
        return await self._ask(self.accounts.count_sessions(ClerkId(member.clerk_user_id)))

    async def _invitations(self, access: Access, member: Member) -> tuple[str, ...] | None:
        if access.organization_clerk_id is None or member.clerk_user_id is None:
            return ()
        organization = ClerkId(access.organization_clerk_id)
        listed = await self._ask(self.directory.list_invitations(organization, statuses=("pending",)))
        if listed is None:
            return None
        return tuple(it.email for it in listed if it.inviter_id == member.clerk_user_id)

    async def _ask(self, question: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.patience):
                return await question
        except (InstepError, TimeoutError) as error:
            log.warning("consequences_unknown", error=described(error) or "timeout")
            return None


def _here(conn: Conn, access: Access, member: Member) -> tuple[tuple[str, ...], str | None, str | None]:
    """What the database says: the other organizations, and why not to remove and not to deactivate."""
    others = store.list_other_organizations(conn, member.user_id, access.organization_id)
    if others and not access.principal.is_instance_admin:
        seen = {it.organization_id for it in list_accesses(conn, access.principal)}
        others = [it for it in others if it[0] in seen]
    admins = store.list_admins(conn, access.organization_id, access.roles)
    stays = _why_not(rules.check_admin_stays, member, admins, underway(list_intents(conn)))
    no_removal = _why_not(rules.check_remove, access, member) or stays
    no_deactivation = _why_not(rules.check_deactivate, access, member) or stays
    return tuple(name for _, name in others), no_removal, no_deactivation


def _why_not(check: Callable[..., None], *args: Any) -> str | None:
    try:
        check(*args)
    except Refused as refused:
        return str(refused)
    return None
