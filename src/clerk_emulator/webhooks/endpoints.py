"""Webhook endpoints, each with its own secret."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from clerk_emulator.state.ids import IdGenerator
from clerk_emulator.webhooks.signing import is_secret, new_secret


class InvalidEndpointError(ValueError):
    """A description of an endpoint that makes no sense."""


@dataclass(slots=True, kw_only=True)
class WebhookEndpoint:
    """One receiver. `events` empty: all. `transport` takes the place of the network in process."""

    id: str
    url: str
    secret: str
    enabled: bool = True
    events: list[str] = field(default_factory=list)
    transport: httpx2.AsyncBaseTransport | None = None

    def wants(self, type_: str) -> bool:
        """Say whether this endpoint gets events of a type."""
        return self.enabled and (not self.events or type_ in self.events)

    def describe(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "id": self.id,
            "url": self.url,
            "secret": self.secret,
            "enabled": self.enabled,
            "events": self.events,
        }


def parse_endpoint(
    ids: IdGenerator,
    wish: Any,
    transport: httpx2.AsyncBaseTransport | None = None,
    known: Iterable[WebhookEndpoint] = (),
) -> WebhookEndpoint:
    """Return an endpoint from its description, or say what is wrong with it.

    Where one is known at the same address on the network, its id and secret are kept unless others are given.
    """
    if not isinstance(wish, dict) or not isinstance(wish.get("url"), str):
        raise InvalidEndpointError("an endpoint is a JSON object with a url")
    unknown = sorted(set(wish) - {"id", "url", "secret", "enabled", "events"})
    if unknown:
        raise InvalidEndpointError(f"unknown: {', '.join(unknown)}; known: id, url, secret, enabled, events")
    parts = urlsplit(wish["url"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidEndpointError("url must be an http or https address")
    earlier = None if transport else next((one for one in known if one.url == wish["url"] and not one.transport), None)
    secret = wish.get("secret") or (earlier.secret if earlier else new_secret())
    if not isinstance(secret, str) or not is_secret(secret):
        raise InvalidEndpointError("secret must be whsec_ and base64")
    events = wish.get("events") or []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise InvalidEndpointError("events must be a list of strings")
    return WebhookEndpoint(
        id=str(wish.get("id") or (earlier.id if earlier else ids.new("ep"))),
        url=wish["url"],
        secret=secret,
        enabled=wish.get("enabled", True) is not False,
        events=events,
        transport=transport,
    )
