"""Just in time: someone who is signed in and not in the mirror yet is read from Clerk at once, not awaited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instep.audit.store import Entry, record
from instep.identity.events import News
from instep.identity.model import ClerkId, Key
from instep.identity.ports import Directory
from instep.identity.rules import AskAgain, Change
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.mirror.apply import apply
from instep.mirror.ledger import Ledger, open_ledger


@dataclass(frozen=True)
class Arrival:
    """Brings one person in. `told` hears which organizations changed."""

    db: Db
    directory: Directory
    told: Callable[[set[str]], None]
    clock: Clock

    async def __call__(self, clerk_user_id: str) -> None:
        """Read the person and their memberships in Clerk, and take them in by the law. Raises ProviderDown."""
        user = ClerkId(clerk_user_id)
        news = await self.directory.look([AskAgain(Key("user", user))])
        memberships = await self.directory.list_memberships_of(user)
        self.told(await self.db.write(self._take, [*news, *memberships]))

    def _take(self, conn: Conn, news: Sequence[News]) -> set[str]:
        now = self.clock()
        ledger = open_ledger(conn, news)
        changed = [it.key for it in news if isinstance(ledger.take(it, is_read=True), Change)]
        touched = apply(conn, ledger, now=now)
        entries = [Entry(actor="clerk", action=f"{it.kind}.seen", target=it.id, cause="sign-in") for it in changed]
        record(conn, [*entries, *joined_entries(ledger)], now=now)
        return touched


def joined_entries(ledger: Ledger) -> list[Entry]:
    """What the audit says of those who were made members of a local organization because they were invited to it."""
    return [
        Entry(
            actor="system",
            action="membership.joined",
            target=it.membership_id,
            organization_id=it.organization_id,
            details={"user": it.user_id, "role": it.role},
        )
        for it in ledger.joined
    ]
