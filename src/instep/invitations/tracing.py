"""Gathering the story of one invitation: Clerk's present state, our operations, the audit and the mirror."""

from dataclasses import dataclass, field

from msgspec import Struct

from instep.access.principal import Access
from instep.identity.model import ClerkId, Invitation
from instep.identity.ports import Actor, Directory, ProviderRefused
from instep.invitations import store
from instep.invitations.flows import read
from instep.invitations.links import COPIED
from instep.invitations.rules import in_words, organization_of, stale, target_of
from instep.invitations.sending import ANY
from instep.invitations.timeline import Event, Facts, marks_of, tell
from instep.kit.clock import Clock
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, Db


class Story(Struct, frozen=True, kw_only=True):
    """What happened to an invitation, oldest first; `names` are what to call whoever did it."""

    email: str
    events: tuple[Event, ...]
    names: dict[str, str]


@dataclass(frozen=True)
class Timeline:
    """Tells the story of an invitation across its resends."""

    db: Db
    actor: Actor
    directory: Directory
    clock: Clock = field(default=system_now)

    async def __call__(self, access: Access, *, invitation: str) -> Story:
        """The story of one invitation.

        1 the right is checked; 2 the invitation is read in Clerk, and where it is no more its address is found in our
        operations; 3 all invitations of that address are read; 4 what we did and have is put beside them.
        Raises InviteRefused.
        """
        organization = organization_of(access, doing="see the timeline of an invitation")
        found = await read(self.actor, organization, invitation)
        email = found.email if found else await self.db.read(store.find_email, access.organization_id, invitation)
        if email is None:
            raise in_words(stale(None), email="", role="")
        try:
            listed = await self.directory.list_invitations(organization, statuses=ANY, email=email)
        except ProviderRefused as refusal:
            raise in_words(refusal, email=email, role="") from refusal
        return await self.db.read(self._tell, access, organization, email, invitation, listed)

    def _tell(
        self, conn: Conn, access: Access, organization: ClerkId, email: str, id: str, listed: list[Invitation]
    ) -> Story:
        target = target_of(organization, email)
        operations = store.list_operations_of(conn, targets=[target], ids=marks_of(listed))
        accepted = next((it.user for it in listed if it.status == "accepted"), None)
        facts = Facts(
            invitations=listed,
            operations=operations,
            copied=store.list_copied(conn, target, action=COPIED),
            joined=store.find_joined(conn, access.organization_id, clerk_user_id=accepted, email=email),
        )
        events = tuple(tell(id, facts, now=self.clock()))
        names = store.list_names(conn, {it.actor for it in events if it.actor})
        return Story(email=email, events=events, names=names)
