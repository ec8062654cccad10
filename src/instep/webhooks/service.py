"""List, inspect and replay deliveries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from instep.audit.filters import AuditFilter
from instep.audit.repository import AuditEntryRow, NewAuditEntry, list_entries, record_entries
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
    """A page of deliveries; `next` is the cursor of the next page: time and id, None at the end."""

    rows: Sequence[DeliveryRow]
    next: tuple[int, str] | None


class DeliveryDetails(Struct, frozen=True):
    """A delivery with its redacted payload and its audit entries (`history`), newest first."""

    row: DeliveryRow
    payload: str
    history: Sequence[AuditEntryRow]


@dataclass(frozen=True)
class DeliveryService:
    """List, inspect and replay deliveries.

    `wake` is called when the worker has something to process, `on_change` when a delivery's state has changed.
    """

    db: Database
    clock: Clock
    wake: Callable[[], None] = lambda: None
    on_change: Callable[[], None] = lambda: None

    async def list(
        self, criteria: DeliveryFilter = ANY_DELIVERY, *, before: tuple[int, str] | None = None, limit: int = 50
    ) -> DeliveryRowPage:
        """Return a page of deliveries, newest first."""
        rows = await self.db.read(repository.list_deliveries, criteria, before=before, limit=limit + 1)
        has_more = len(rows) > limit
        rows = rows[:limit]
        return DeliveryRowPage(rows, (rows[-1].received_at, rows[-1].id) if has_more else None)

    async def count_foreign(self) -> int:
        """Return the number of deliveries of another Clerk instance, which are not applied."""
        return await self.db.read(repository.count_foreign)

    async def get(self, delivery_id: str) -> DeliveryRow:
        """Return a delivery. Raises ChangeRejectedError (404) if it does not exist."""
        found = await self.db.read(repository.find_delivery, delivery_id)
        if found is None:
            raise ChangeRejectedError("There is no such delivery.", code="not_found", status=NOT_FOUND)
        return found

    async def get_details(self, delivery_id: str) -> DeliveryDetails:
        """Return a delivery with its redacted payload and its audit entries. Raises ChangeRejectedError (404)."""
        row = await self.get(delivery_id)
        body, history = await self.db.read(_load_body_and_audit, delivery_id)
        return DeliveryDetails(row, redact_payload(row.type, body or ""), history)

    async def replay(self, delivery_id: str, *, actor: str) -> DeliveryRow:
        """Process a delivery again. It changes the mirror only.

        Raises ChangeRejectedError: it does not exist (404), or it is not processed yet (409).
        """
        await self.get(delivery_id)
        if not await self.db.write(self._replay, delivery_id, actor):
            raise ChangeRejectedError("This delivery has not been processed yet.", code="not_ended", status=CONFLICT)
        self.wake()
        self.on_change()
        return await self.get(delivery_id)

    def _replay(self, conn: Conn, delivery_id: str, actor: str) -> bool:
        now = self.clock()
        if not repository.reset_for_replay(conn, delivery_id, now=now):
            return False
        entry = NewAuditEntry(actor=actor, action="delivery.replay", target=delivery_id, cause=delivery_id)
        record_entries(conn, [entry], now=now)
        return True


def _load_body_and_audit(conn: Conn, delivery_id: str) -> tuple[str | None, list[AuditEntryRow]]:
    return repository.find_body(conn, delivery_id), list_entries(conn, AuditFilter(cause=delivery_id), limit=100)
