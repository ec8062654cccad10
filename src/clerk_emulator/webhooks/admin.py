"""JSON interface to the webhook dispatcher for the control API."""

import json
from dataclasses import dataclass
from typing import Any

from clerk_emulator.webhooks import endpoints
from clerk_emulator.webhooks.dispatcher import WebhookDispatcher
from clerk_emulator.wire.webhook_payloads import EVENT_TYPES

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DispatcherAdmin:
    """JSON view of the dispatcher. Invalid input raises a ValueError; None: not found."""

    dispatcher: WebhookDispatcher

    def counts(self) -> dict[str, int]:
        """Return the number of endpoints, messages and deliveries."""
        log = self.dispatcher.log
        return {
            "endpoints": len(self.dispatcher.endpoints),
            "messages": len(log.messages),
            "deliveries": len(log.deliveries),
        }

    def clear(self, *, keeps_endpoints: bool) -> None:
        """Delete the messages and deliveries; also the endpoints unless `keeps_endpoints`."""
        self.dispatcher.clear_deliveries()
        if not keeps_endpoints:
            self.dispatcher.endpoints.clear()

    def list_endpoints(self) -> list[JsonObject]:
        """Return the endpoints."""
        return [endpoint.describe() for endpoint in self.dispatcher.endpoints.values()]

    def check_endpoint(self, data: Any) -> None:
        """Raise a ValueError if the description of an endpoint is invalid."""
        endpoints.parse_endpoint(self.dispatcher.instance.ids, data)

    def add_endpoint(self, data: Any) -> JsonObject:
        """Add an endpoint from its description; it replaces one at the same address."""
        known = self.dispatcher.endpoints.values()
        return self.dispatcher.add(endpoints.parse_endpoint(self.dispatcher.instance.ids, data, known=known)).describe()

    def remove_endpoint(self, endpoint_id: str) -> bool:
        """Delete an endpoint; return whether it existed."""
        return self.dispatcher.disconnect(endpoint_id)

    def send_example(self, endpoint_id: str, type_: Any) -> JsonObject | None:
        """Send the example of an event type to an endpoint."""
        if type_ not in EVENT_TYPES:
            raise ValueError(f"there is no event {type_!r}; known: {', '.join(EVENT_TYPES)}")
        if endpoint_id not in self.dispatcher.endpoints:
            return None
        return self.dispatcher.send_example(endpoint_id, type_).describe()

    def list_deliveries(self) -> list[JsonObject]:
        """Return the deliveries, newest first."""
        return [delivery.describe() for delivery in reversed(self.dispatcher.log.deliveries.values())]

    def find_delivery(self, delivery_id: str) -> JsonObject | None:
        """Return a delivery with its body."""
        delivery = self.dispatcher.log.deliveries.get(delivery_id)
        return {**delivery.describe(), "body": json.loads(delivery.message.body)} if delivery else None

    def replay(self, delivery_id: str) -> JsonObject | None:
        """Send the message of a delivery again."""
        delivery = self.dispatcher.replay(delivery_id)
        return delivery.describe() if delivery else None

    def list_messages(self) -> list[JsonObject]:
        """Return the messages, oldest first, with their bodies."""
        messages = list(self.dispatcher.log.messages.values())
        return [{"id": one.id, "created_at": one.created_at, **json.loads(one.body)} for one in messages]

    def replay_message(self, message_id: str) -> list[JsonObject] | None:
        """Send a message again to every endpoint that accepts it."""
        if message_id not in self.dispatcher.log.messages:
            return None
        return [delivery.describe() for delivery in self.dispatcher.replay_message(message_id)]

    async def drain(self) -> int:
        """Deliver until nothing is due; return how many deliveries remain pending."""
        await self.dispatcher.drain()
        return sum(1 for _ in self.dispatcher.log.iter_pending())
