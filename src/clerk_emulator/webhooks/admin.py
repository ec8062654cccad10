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
    """Shows and changes what the courier carries. What makes no sense is a ValueError, what isn't there None."""

    courier: WebhookDispatcher

    def counts(self) -> dict[str, int]:
        """Return how many there are of each kind."""
        log = self.courier.log
        return {
            "endpoints": len(self.courier.endpoints),
            "messages": len(log.messages),
            "deliveries": len(log.deliveries),
        }

    def clear(self, *, keeps_endpoints: bool) -> None:
        """Forget what was sent and what is on its way."""
        self.courier.forget()
        if not keeps_endpoints:
            self.courier.endpoints.clear()

    def list_endpoints(self) -> list[JsonObject]:
        """Return the endpoints."""
        return [endpoint.describe() for endpoint in self.courier.endpoints.values()]

    def check_endpoint(self, wish: Any) -> None:
        """Raise where the description of an endpoint makes no sense."""
        endpoints.parse_endpoint(self.courier.instance.ids, wish)

    def add_endpoint(self, wish: Any) -> JsonObject:
        """Add an endpoint from its description, in place of one at the same address."""
        known = self.courier.endpoints.values()
        return self.courier.add(endpoints.parse_endpoint(self.courier.instance.ids, wish, known=known)).describe()

    def remove_endpoint(self, endpoint_id: str) -> bool:
        """Take an endpoint away; say whether there was one."""
        return self.courier.disconnect(endpoint_id)

    def send_example(self, endpoint_id: str, type_: Any) -> JsonObject | None:
        """Send the example of a type of event to one endpoint."""
        if type_ not in EVENT_TYPES:
            raise ValueError(f"there is no event {type_!r}; known: {', '.join(EVENT_TYPES)}")
        if endpoint_id not in self.courier.endpoints:
            return None
        return self.courier.send_example(endpoint_id, type_).describe()

    def list_deliveries(self) -> list[JsonObject]:
        """Return the deliveries, newest first."""
        return [delivery.describe() for delivery in reversed(self.courier.log.deliveries.values())]

    def find_delivery(self, delivery_id: str) -> JsonObject | None:
        """Return a delivery with the body that is sent."""
        delivery = self.courier.log.deliveries.get(delivery_id)
        return {**delivery.describe(), "body": json.loads(delivery.message.body)} if delivery else None

    def replay(self, delivery_id: str) -> JsonObject | None:
        """Send the message of a delivery once more."""
        delivery = self.courier.replay(delivery_id)
        return delivery.describe() if delivery else None

    def list_messages(self) -> list[JsonObject]:
        """Return the messages, oldest first, with their bodies."""
        messages = list(self.courier.log.messages.values())
        return [{"id": one.id, "created_at": one.created_at, **json.loads(one.body)} for one in messages]

    def send_again(self, message_id: str) -> list[JsonObject] | None:
        """Send a message once more to every endpoint that wants it."""
        if message_id not in self.courier.log.messages:
            return None
        return [delivery.describe() for delivery in self.courier.send_again(message_id)]

    async def drain(self) -> int:
        """Deliver until nothing is due now, and return how many wait for later."""
        await self.courier.drain()
        return sum(1 for _ in self.courier.log.waiting())
