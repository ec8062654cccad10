"""Log of webhook messages, deliveries and attempts."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_FINISHED = 50_000
PENDING_STATES = ("pending", "sending")


@dataclass(slots=True, kw_only=True)
class WebhookMessage:
    """One event as it is sent. Its id stays the same however often it is sent."""

    id: str
    type: str
    body: str
    created_at: int


@dataclass(slots=True, kw_only=True)
class DeliveryAttempt:
    """One try."""

    at: int
    status: int | None = None
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class WebhookDelivery:
    """One message on its way to one endpoint."""

    id: str
    message: WebhookMessage
    endpoint_id: str
    state: str = "pending"  # pending | sending | succeeded | failed | dropped
    due_at: int
    attempts: list[DeliveryAttempt] = field(default_factory=list)
    is_held: bool = False  # until the next one has gone before it
    bad_signatures: int = 0  # so many attempts to come are signed wrongly
    fault: str | None = None
    is_replay: bool = False

    def describe(self) -> dict[str, Any]:
        """Return it as JSON."""
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
    """All messages and deliveries, in order. The oldest settled ones are forgotten when there are many."""

    def __init__(self, most: int = MAX_FINISHED) -> None:
        self._most = most
        self.messages: dict[str, WebhookMessage] = {}
        self.deliveries: dict[str, WebhookDelivery] = {}
        self._waiting: dict[str, WebhookDelivery] = {}
        self._number = 0
        self.revision = 0  # grows whenever something begins, is tried again or ends

    def add_message(self, message: WebhookMessage) -> None:
        """Keep a message."""
        self.messages[message.id] = message
        while len(self.messages) > self._most:
            self.messages.pop(next(iter(self.messages)))

    def add(self, message: WebhookMessage, endpoint_id: str, due_at: int) -> WebhookDelivery:
        """Begin a delivery."""
        self._number += 1
        self.revision += 1
        delivery = WebhookDelivery(id=f"dlv_{self._number}", message=message, endpoint_id=endpoint_id, due_at=due_at)
        self.deliveries[delivery.id] = delivery
        self._waiting[delivery.id] = delivery
        if len(self.deliveries) > self._most:
            self._forget_oldest()
        return delivery

    def settle(self, delivery: WebhookDelivery, state: str) -> None:
        """End a delivery."""
        self.revision += 1
        delivery.state = state
        self._waiting.pop(delivery.id, None)

    def has(self, delivery: WebhookDelivery) -> bool:
        """Return whether a delivery that is not settled is still wanted."""
        return delivery.id in self._waiting

    def waiting(self) -> Iterator[WebhookDelivery]:
        """Walk the deliveries that are not settled."""
        return iter(list(self._waiting.values()))

    def dump_pending(self) -> list[dict[str, Any]]:
        """Return the deliveries that are not settled as JSON."""
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
            for delivery in self.waiting()
        ]

    def load_pending(self, rows: list[dict[str, Any]]) -> None:
        """Take back what `dump_waiting()` returned."""
        for row in rows:
            message = WebhookMessage(**row["message"])
            delivery = self.add(self.messages.setdefault(message.id, message), row["endpoint_id"], row["due_at"])
            delivery.attempts = [DeliveryAttempt(**attempt) for attempt in row["attempts"]]
            delivery.bad_signatures, delivery.fault = row["bad_signatures"], row["fault"]
            delivery.is_replay = row["is_replay"]

    def clear(self) -> None:
        """Forget everything."""
        self.messages.clear()
        self.deliveries.clear()
        self._waiting.clear()

    def fail_endpoint_deliveries(self, endpoint_id: str) -> None:
        """Give up what is on its way to an endpoint that is gone."""
        for delivery in self.waiting():
            if delivery.endpoint_id == endpoint_id:
                self.settle(delivery, "failed")

    def _forget_oldest(self) -> None:
        for delivery_id in list(self.deliveries)[: self._most // 10]:
            if delivery_id not in self._waiting:
                del self.deliveries[delivery_id]
