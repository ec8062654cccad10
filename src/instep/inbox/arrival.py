"""Just in time: someone who is signed in and not in the mirror yet is read from Clerk at once, not awaited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instep.audit.joined import change_entry, joined_entries, superseded_entries
from instep.audit.store import record
from instep.identity.model import ClerkId, Key
from instep.identity.ports import Directory
from instep.identity.rules import Answer, AskAgain, Change, answers_to
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.mirror.apply import apply
from instep.mirror.ledger import open_ledger
from instep.mirror.store import find_known


@dataclass(frozen=True)
class Arrival:
    """Brings one person in. `told` hears which organizations changed."""

    db: Db
    directory: Directory
    told: Callable[[set[str]], None]
    clock: Clock

    async def __call__(self, clerk_user_id: str) -> None:
        """Read the person and their memberships in Clerk, and take them in by the law. Raises ProviderDown."""
        key = Key("user", ClerkId(clerk_user_id))
        known = await self.db.read(find_known, [key], is_locking=False)
        asks = [AskAgain(key, None, known.get(key))]
        answers = answers_to(asks, await self.directory.look(asks))
        memberships = await self.directory.list_memberships_of(key.id)
        self.told(await self.db.write(self._take, [*answers.values(), *(Answer(it) for it in memberships)]))

    def _take(self, conn: Conn, answers: Sequence[Answer]) -> set[str]:
        now = self.clock()
        ledger = open_ledger(conn, [it.news for it in answers])
        changes = [it for answer in answers if isinstance(it := ledger.answer(answer), Change)]
        touched = apply(conn, ledger, now=now)
        entries = [change_entry(it, ledger, actor="clerk", cause="sign-in", action="seen") for it in changes]
        record(conn, [*entries, *superseded_entries(ledger), *joined_entries(ledger.joined)], now=now)
        return touched
