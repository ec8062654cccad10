"""Looking at deliveries, and having one worked once more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from instep.audit.store import Entry, Kept, list_entries, record
from instep.audit.store import Filter as AuditFilter
from instep.identity.refusals import CONFLICT, NOT_FOUND, Refused
from instep.inbox import store
from instep.inbox.payload import shown
from instep.inbox.store import ANY, Filter, Row
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db

STATES = ("new", "waiting", "settled", "parked")
TOPIC = "deliveries"


class Shown(Struct, frozen=True):
    """A page of deliveries; `next` is the time and the id to go on after, None at the end."""

    rows: Sequence[Row]
    next: tuple[int, str] | None


class Told(Struct, frozen=True):
    """One delivery in full: `payload` is what it said, `history` what the audit knows of it, newest first."""

    row: Row
    payload: str
    history: Sequence[Kept]


@dataclass(frozen=True)
class Deliveries:
    """What came, what it did, and how often it was tried.

    `wake` tells the worker that something is to be worked, `news` hears that a delivery stands otherwise.
    """

    db: Db
    clock: Clock
    wake: Callable[[], None] = lambda: None
    news: Callable[[], None] = lambda: None

    async def list(self, wanted: Filter = ANY, *, before: tuple[int, str] | None = None, limit: int = 50) -> Shown:
        """A page, newest first."""
        rows = await self.db.read(store.list_deliveries, wanted, before=before, limit=limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        return Shown(rows, (rows[-1].received_at, rows[-1].id) if more else None)

    async def count_foreign(self) -> int:
        """Return how many deliveries of another Clerk instance are kept, and were not applied."""
        return await self.db.read(store.count_foreign)

    async def get(self, id: str) -> Row:
        """One delivery. Raises Refused where there is none."""
        found = await self.db.read(store.find_delivery, id)
        if found is None:
            raise Refused("There is no such delivery.", code="not_found", status=NOT_FOUND)
        return found

    async def tell(self, id: str) -> Told:
        """One delivery with what it said, its secrets taken out, and what the audit knows of it. Raises Refused."""
        row = await self.get(id)
        body, history = await self.db.read(_about, id)
        return Told(row, shown(row.type, body or ""), history)

    async def replay(self, id: str, *, actor: str) -> Row:
        """Have one that has ended worked once more: it is decided again by the law, and touches the mirror alone.

        Raises Refused where there is none, or it still waits to be worked.
        """
        await self.get(id)
        if not await self.db.write(self._replay, id, actor):
            raise Refused("This delivery still waits to be worked.", code="not_ended", status=CONFLICT)
        self.wake()
        self.news()
        return await self.get(id)

    def _replay(self, conn: Conn, id: str, actor: str) -> bool:
        now = self.clock()
        if not store.replay(conn, id, now=now):
            return False
        record(conn, [Entry(actor=actor, action="delivery.replay", target=id, cause=id)], now=now)
        return True


def _about(conn: Conn, id: str) -> tuple[str | None, list[Kept]]:
    return store.find_body(conn, id), list_entries(conn, AuditFilter(cause=id), limit=100)
