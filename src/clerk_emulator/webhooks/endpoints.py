"""Webhook endpoints, each with its own secret."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from clerk_emulator.state.ids import IdGenerator
from clerk_emulator.webhooks.signing import is_secret, new_secret


class InvalidEndpointError(ValueError):
    """An invalid description of an endpoint."""


@dataclass(slots=True, kw_only=True)
class WebhookEndpoint:
    """A receiver of webhooks. Empty `events`: all types. `transport` replaces the network in process."""

    id: str
    url: str
    secret: str
    enabled: bool = True
    events: list[str] = field(default_factory=list)
    transport: httpx2.AsyncBaseTransport | None = None

    def accepts(self, type_: str) -> bool:
        """Return whether the endpoint receives events of a type."""
        return self.enabled and (not self.events or type_ in self.events)

    def describe(self) -> dict[str, Any]:
        """Return the endpoint as JSON."""
        return {
            "id": self.id,
            "url": self.url,
            "secret": self.secret,
            "enabled": self.enabled,
            "events": self.events,
        }


def parse_endpoint(
    ids: IdGenerator,
    data: Any,
    transport: httpx2.AsyncBaseTransport | None = None,
    known: Iterable[WebhookEndpoint] = (),
) -> WebhookEndpoint:
    """Return an endpoint from its description, or raise an InvalidEndpointError.

    An existing endpoint at the same network address keeps its id and secret unless others are given.
    """
    if not isinstance(data, dict) or not isinstance(data.get("url"), str):
        raise InvalidEndpointError("an endpoint must be a JSON object with a url")
    unknown = sorted(set(data) - {"id", "url", "secret", "enabled", "events"})
    if unknown:
        raise InvalidEndpointError(f"unknown: {', '.join(unknown)}; known: id, url, secret, enabled, events")
    parts = urlsplit(data["url"])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidEndpointError("url must be an http or https address")
    earlier = None if transport else next((one for one in known if one.url == data["url"] and not one.transport), None)
    secret = data.get("secret") or (earlier.secret if earlier else new_secret())
    if not isinstance(secret, str) or not is_secret(secret):
        raise InvalidEndpointError("secret must be whsec_ followed by base64")
    events = data.get("events") or []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise InvalidEndpointError("events must be a list of strings")
    return WebhookEndpoint(
        id=str(data.get("id") or (earlier.id if earlier else ids.new("ep"))),
        url=data["url"],
        secret=secret,
        enabled=data.get("enabled", True) is not False,
        events=events,
        transport=transport,
    )
