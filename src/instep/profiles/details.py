"""What is read of Clerk when somebody's details are opened: their sessions, and the invitations they sent."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from msgspec import Struct

from instep.access.principal import Access, Principal
from instep.identity.model import ClerkId, Invitation
from instep.identity.ports import Accounts, Directory
from instep.identity.session import OpenSession
from instep.kit.errors import InstepError, described
from instep.profiles.desk import Desk, clerk_id_of
from instep.profiles.profile import Profile
from instep.profiles.sessions import require_sessions

log = structlog.get_logger(__name__)
T = TypeVar("T")
PATIENCE = 2.0
MOST_PLACES = 5


class Details(Struct, frozen=True, kw_only=True):
    """`sessions` are the open ones, newest first; `sent` the invitations that wait for an answer. None where Clerk
    does not say; `may_sessions` and `may_sent`: whether the reader may see them at all.
    """

    may_sessions: bool
    may_sent: bool
    sessions: Sequence[OpenSession] | None = ()
    sent: Sequence[Invitation] | None = ()


@dataclass(frozen=True)
class FindDetails:
    """Reads them side by side. `patience` is how long Clerk may take, in seconds."""

    desk: Desk
    accounts: Accounts
    directory: Directory
    patience: float = PATIENCE

    async def sessions(self, principal: Principal, ref: str) -> Sequence[OpenSession]:
        """Somebody's open sessions. Raises Refused for who may not; ProviderDown and ProviderRefused."""
        subject = await self.desk.find(principal, ref)
        require_sessions(subject)
        id = clerk_id_of(subject.person)
        return await self.accounts.list_sessions(id) if id is not None else ()

    async def __call__(self, asker: Access | Principal, it: Profile) -> Details:
        """What the reader may see; what Clerk does not say in time is None."""
        principal = asker.principal if isinstance(asker, Access) else asker
        may_sessions = it.is_whole or principal.user_id == it.person.id
        may_sent = asker.may_act if isinstance(asker, Access) else it.is_whole
        id = clerk_id_of(it.person)
        if id is None:
            return Details(may_sessions=may_sessions, may_sent=may_sent)
        places = _places(asker, it) if may_sent else []
        sessions, sent = await asyncio.gather(
            self._ask(self._sessions(id if may_sessions else None)), self._ask(self._sent(id, places))
        )
        return Details(may_sessions=may_sessions, may_sent=may_sent, sessions=sessions, sent=sent)

    async def _sessions(self, id: ClerkId | None) -> Sequence[OpenSession]:
        return await self.accounts.list_sessions(id) if id is not None else ()

    async def _sent(self, by: ClerkId, places: Sequence[str]) -> Sequence[Invitation]:
        listed = await asyncio.gather(
            *(self.directory.list_invitations(ClerkId(place), statuses=("pending",)) for place in places)
        )
        return [it for rows in listed for it in rows if it.inviter_id == by]

    async def _ask(self, question: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.patience):
                return await question
        except (InstepError, TimeoutError) as error:
            log.warning("details_unknown", error=described(error) or "timeout")
            return None


def _places(asker: Access | Principal, it: Profile) -> list[str]:
    """The organizations (Clerk's ids) whose invitations are looked through."""
    if isinstance(asker, Access):
        return [asker.organization_clerk_id] if asker.organization_clerk_id else []
    return [place.organization_clerk_id for place in it.belongings if place.organization_clerk_id][:MOST_PLACES]
