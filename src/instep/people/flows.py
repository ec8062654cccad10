"""Reading the unified list: both sources side by side, and members even while Clerk is down."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from instep.access.principal import Access, Principal
from instep.access.store import find_access
from instep.identity.addresses import canonical
from instep.identity.model import ClerkId, Invitations
from instep.identity.ports import Directory
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError
from instep.people import store
from instep.people.around import Lost
from instep.people.merge import Ask, InvitationRow, Members, People, Unavailable, merge, rows_of

log = structlog.get_logger(__name__)
PATIENCE = 2.0
SHOWN = ("pending", "expired")


@dataclass(frozen=True)
class ListPeople:
    """The list of one organization. `patience` is how long Clerk may take, in seconds.

    `list_lost` reads the invitations of an organization that got lost, for those who may send them again.
    """

    db: Db
    directory: Directory
    clock: Clock
    patience: float = PATIENCE
    list_lost: Callable[[Conn, str], Sequence[Lost]] = lambda _conn, _organization_id: ()

    async def __call__(self, access: Access, ask: Ask) -> People:
        """One page.

        1 members from the database and invitations from Clerk are read side by side; 2 an expired invitation whose
        address joined since is left out; 3 both are merged. Raises DatabaseDown; Clerk's failure is a warning.
        """
        if not ask.wants_invitations():
            return merge(ask, await self.db.read(store.find_members, access.organization_id, ask, access.roles), None)
        reading = asyncio.ensure_future(self._invitations(access))
        try:
            members, lost = await self.db.read(self._read, access, ask)
            found = await reading
            unreadable = 0 if isinstance(found, Unavailable) else found.unreadable
            return merge(ask, members, await self._rows(access, found), lost, unreadable=unreadable)
        finally:
            reading.cancel()

    async def of(self, principal: Principal, ref: str, ask: Ask) -> People | None:
        """The same of whatever organization `ref` names; None where there is none that they may see.

        Where only members are asked for, all of it is one visit to the database. Raises as the list itself.
        """
        if ask.wants_invitations():
            access = await self.db.read(find_access, principal, ref)
            return await self(access, ask) if access else None
        members = await self.db.read(_members_seen, principal, ref, ask)
        return merge(ask, members, None) if members else None

    def _read(self, conn: Conn, access: Access, ask: Ask) -> tuple[Members, Sequence[Lost]]:
        is_shown = access.may_act and ask.wants_lost()
        lost = self.list_lost(conn, access.organization_id) if is_shown else ()
        return store.find_members(conn, access.organization_id, ask, access.roles), lost

    async def _invitations(self, access: Access) -> Invitations | Unavailable:
        if access.organization_clerk_id is None:
            return Invitations()
        organization = ClerkId(access.organization_clerk_id)
        try:
            async with asyncio.timeout(self.patience):
                return await self.directory.list_invitations(organization, statuses=SHOWN)
        except (InstepError, TimeoutError) as error:
            log.warning("invitations_unavailable", organization=organization, error=str(error) or "timeout")
            return Unavailable(str(error) or f"Clerk took longer than {self.patience:g} s.")
        except Exception as error:  # whatever is wrong with the invitations, the members are still shown
            log.exception("invitations_broke", organization=organization)
            return Unavailable(f"{type(error).__name__}: {error}")

    async def _rows(self, access: Access, invitations: Invitations | Unavailable) -> list[InvitationRow] | Unavailable:
        if isinstance(invitations, Unavailable):
            return invitations
        now = self.clock()
        rows = rows_of(invitations, now=now, joined=())
        expired = {canonical(row.email) for row in rows if row.status == "expired"}
        if not expired:
            return rows
        joined = await self.db.read(store.find_joined, access.organization_id, sorted(expired))
        return rows_of(invitations, now=now, joined=joined)


def _members_seen(conn: Conn, principal: Principal, ref: str, ask: Ask) -> Members | None:
    access = find_access(conn, principal, ref)
    return store.find_members(conn, access.organization_id, ask, access.roles) if access else None
