"""List, inspect and replay deliveries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from instep.audit.entries import AuditEntryRow, NewAuditEntry
from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries, record_entries
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.domain.errors import CONFLICT, NOT_FOUND, ChangeRejectedError
from instep.webhooks import repository
from instep.webhooks.filters import ANY_DELIVERY, DeliveryFilter
from instep.webhooks.repository import DeliveryRow
from instep.webhooks.views import redact_payload

DELIVERY_STATES = ("new", "waiting", "settled", "parked")
DELIVERIES_TOPIC = "deliveries"


class DeliveryRowPage(Struct, frozen=True):
    """A page of deliveries; `next` is the time and the id to go on after, None at the end."""

    rows: Sequence[DeliveryRow]
    next: tuple[int, str] | None


class DeliveryDetails(Struct, frozen=True):
    """One delivery in full: `payload` is what it said, `history` what the audit knows of it, newest first."""

    row: DeliveryRow
    payload: str
    history: Sequence[AuditEntryRow]


@dataclass(frozen=True)
class DeliveryService:
    """What came, what it did, and how often it was tried.

    `wake` tells the worker that something is to be worked, `news` hears that a delivery stands otherwise.
    """

    db: Database
    clock: Clock
    wake: Callable[[], None] = lambda: None
    news: Callable[[], None] = lambda: None

    async def list(
        self, wanted: DeliveryFilter = ANY_DELIVERY, *, before: tuple[int, str] | None = None, limit: int = 50
    ) -> DeliveryRowPage:
        """A page, newest first."""
        rows = await self.db.read(repository.list_deliveries, wanted, before=before, limit=limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        return DeliveryRowPage(rows, (rows[-1].received_at, rows[-1].id) if more else None)

    async def count_foreign(self) -> int:
        """Return how many deliveries of another Clerk instance are kept, and were not applied."""
        return await self.db.read(repository.count_foreign)

    async def get(self, id: str) -> DeliveryRow:
        """One delivery. Raises Refused where there is none."""
        found = await self.db.read(repository.find_delivery, id)
        if found is None:
            raise ChangeRejectedError("There is no such delivery.", code="not_found", status=NOT_FOUND)
        return found

    async def tell(self, id: str) -> DeliveryDetails:
        """One delivery with what it said, its secrets taken out, and what the audit knows of it. Raises Refused."""
        row = await self.get(id)
        body, history = await self.db.read(_load_body_and_audit, id)
        return DeliveryDetails(row, redact_payload(row.type, body or ""), history)

    async def replay(self, id: str, *, actor: str) -> DeliveryRow:
        """Have one that has ended worked once more: it is decided again by the law, and touches the mirror alone.

        Raises Refused where there is none, or it still waits to be worked.
        """
        await self.get(id)
        if not await self.db.write(self._replay, id, actor):
            raise ChangeRejectedError("This delivery still waits to be worked.", code="not_ended", status=CONFLICT)
        self.wake()
        self.news()
        return await self.get(id)

    def _replay(self, conn: Conn, id: str, actor: str) -> bool:
        now = self.clock()
        if not repository.reset_for_replay(conn, id, now=now):
            return False
        record_entries(conn, [NewAuditEntry(actor=actor, action="delivery.replay", target=id, cause=id)], now=now)
        return True


def _load_body_and_audit(conn: Conn, id: str) -> tuple[str | None, list[AuditEntryRow]]:
    return repository.find_body(conn, id), list_entries(conn, AuditFilter(cause=id), limit=100)
