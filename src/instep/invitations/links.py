"""Copying the secret link of an invitation: for admins, told to the audit, kept and logged nowhere."""

from dataclasses import dataclass, field

from instep.access.principal import Access, Principal
from instep.audit.store import Entry, record
from instep.identity.addresses import canonical
from instep.identity.model import ClerkId, Invitation
from instep.identity.ports import Actor
from instep.identity.refusals import FORBIDDEN
from instep.invitations.flows import read, told
from instep.invitations.rules import InviteRefused, organization_of, target_of
from instep.kit.clock import Clock
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, Db

COPIED = "invitation.link_copied"


@dataclass(frozen=True)
class CopyLink:
    """Gives the address by which an invitation is accepted.

    Whoever opens it has proved the invited address. `admins` are the addresses (lower case) that make somebody an
    instance admin: a link for one of these is for instance admins alone, in person.
    """

    db: Db
    actor: Actor
    clock: Clock = field(default=system_now)
    admins: frozenset[str] = frozenset()

    async def __call__(self, access: Access, *, invitation: str) -> str:
        """The link of a pending invitation.

        1 the right is checked; 2 the invitation is read in Clerk, and told apart where it is over; 3 the link is read;
        4 the audit says who has it; only then is it given. Raises InviteRefused.
        """
        organization = organization_of(access, doing="copy the link of an invitation")
        found = await read(self.actor, organization, invitation)
        if found is None or found.status != "pending":
            raise await self.db.read(told, access, found, now=self.clock())
        if canonical(found.email) in self.admins and not _is_admin_in_person(access.principal):
            words = "This address belongs to an instance admin. Only the mail gives the link to it."
            raise InviteRefused(words, code="rights_by_link", status=FORBIDDEN)
        link = await self.actor.find_link(organization, found.clerk_id)
        if link is None:
            raise InviteRefused("Clerk gives no link for this invitation.", code="no_link", status=409)
        await self.db.write(self._record, access, organization, found)
        return link

    def _record(self, conn: Conn, access: Access, organization: ClerkId, found: Invitation) -> None:
        entry = Entry(
            actor=access.principal.id,
            action=COPIED,
            target=target_of(organization, found.email),
            organization_id=access.organization_id,
            details={"invitation": found.clerk_id},
        )
        record(conn, [entry], now=self.clock())


def _is_admin_in_person(who: Principal) -> bool:
    return who.is_instance_admin and who.kind != "api_key" and who.actor is None
