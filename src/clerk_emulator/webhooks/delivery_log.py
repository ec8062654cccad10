"""Log of webhook messages, deliveries and attempts."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_FINISHED = 50_000
PENDING_STATES = ("pending", "sending")


@dataclass(slots=True, kw_only=True)
class WebhookMessage:
    """An event as it is sent; its id is the same for every delivery."""

    id: str
    type: str
    body: str
    created_at: int


@dataclass(slots=True, kw_only=True)
class DeliveryAttempt:
    """An attempt to deliver a message."""

    at: int
    status: int | None = None
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class WebhookDelivery:
    """The delivery of a message to an endpoint."""

    id: str
    message: WebhookMessage
    endpoint_id: str
    state: str = "pending"  # pending | sending | succeeded | failed | dropped
    due_at: int
    attempts: list[DeliveryAttempt] = field(default_factory=list)
    is_postponed: bool = False  # until the next one has been sent
    bad_signatures: int = 0  # number of coming attempts with a wrong signature
    fault: str | None = None
    is_replay: bool = False

    def describe(self) -> dict[str, Any]:
        """Return the delivery as JSON."""
        return {
            "id": self.id,
            "message_id": self.message.id,
            "event": self.message.type,
            "endpoint_id": self.endpoint_id,
            "status": "pending" if self.state in PENDING_STATES else self.state,
            "created_at": self.message.created_at,
            "due_at": self.due_at if self.state in PENDING_STATES else None,
            "fault": self.fault,
            "replay": self.is_replay,
            "attempts": [asdict(attempt) for attempt in self.attempts],
        }


class DeliveryLog:
    """All messages and deliveries, in order. The oldest finished ones are deleted when there are too many."""

    def __init__(self, max_finished: int = MAX_FINISHED) -> None:
        self._max_finished = max_finished
        self.messages: dict[str, WebhookMessage] = {}
        self.deliveries: dict[str, WebhookDelivery] = {}
        self._pending: dict[str, WebhookDelivery] = {}
        self._number = 0
        self.revision = 0  # increases with each new delivery, retry and result

    def add_message(self, message: WebhookMessage) -> None:
        """Store a message."""
        self.messages[message.id] = message
        while len(self.messages) > self._max_finished:
            self.messages.pop(next(iter(self.messages)))

    def add(self, message: WebhookMessage, endpoint_id: str, due_at: int) -> WebhookDelivery:
        """Create a delivery."""
        self._number += 1
        self.revision += 1
        delivery = WebhookDelivery(id=f"dlv_{self._number}", message=message, endpoint_id=endpoint_id, due_at=due_at)
        self.deliveries[delivery.id] = delivery
        self._pending[delivery.id] = delivery
        if len(self.deliveries) > self._max_finished:
            self._forget_oldest()
        return delivery

    def finish(self, delivery: WebhookDelivery, state: str) -> None:
        """Finish a delivery with a final state."""
        self.revision += 1
        delivery.state = state
        self._pending.pop(delivery.id, None)

    def is_pending(self, delivery: WebhookDelivery) -> bool:
        """Return whether an unfinished delivery is still in the log."""
        return delivery.id in self._pending

    def iter_pending(self) -> Iterator[WebhookDelivery]:
        """Iterate over the unfinished deliveries."""
        return iter(list(self._pending.values()))

    def dump_pending(self) -> list[dict[str, Any]]:
        """Return the unfinished deliveries as JSON."""
        return [
            {
                "message": asdict(delivery.message),
                "endpoint_id": delivery.endpoint_id,
                "due_at": delivery.due_at,
                "attempts": [asdict(attempt) for attempt in delivery.attempts],
                "bad_signatures": delivery.bad_signatures,
                "fault": delivery.fault,
                "is_replay": delivery.is_replay,
            }
            for delivery in self.iter_pending()
        ]

    def load_pending(self, rows: list[dict[str, Any]]) -> None:
        """Load the result of `dump_pending()`."""
        for row in rows:
            message = WebhookMessage(**row["message"])
            delivery = self.add(self.messages.setdefault(message.id, message), row["endpoint_id"], row["due_at"])
            delivery.attempts = [DeliveryAttempt(**attempt) for attempt in row["attempts"]]
            delivery.bad_signatures, delivery.fault = row["bad_signatures"], row["fault"]
            delivery.is_replay = row["is_replay"]

    def clear(self) -> None:
        """Delete everything."""
        self.messages.clear()
        self.deliveries.clear()
        self._pending.clear()

    def fail_endpoint_deliveries(self, endpoint_id: str) -> None:
        """Fail the pending deliveries to a deleted endpoint."""
        for delivery in self.iter_pending():
            if delivery.endpoint_id == endpoint_id:
                self.finish(delivery, "failed")

    def _forget_oldest(self) -> None:
        for delivery_id in list(self.deliveries)[: self._max_finished // 10]:
            if delivery_id not in self._pending:
                del self.deliveries[delivery_id]
