"""Control API handlers: endpoints, deliveries and events."""

from typing import Any

from starlette.requests import Request

from clerk_emulator.control import http
from clerk_emulator.control.service import ControlService

DEFAULT_EXAMPLE_TYPE = "user.created"


async def list_endpoints(control: ControlService, request: Request) -> Any:
    """List endpoints and their secrets."""
    return {"data": control.webhook_admin.list_endpoints()}


async def add_endpoint(control: ControlService, request: Request) -> Any:
    """Create an endpoint or replace the one at its URL: `{"url", "secret"?, "events"?: [...], "enabled"?: true}`."""
    return control.webhook_admin.add_endpoint(await http.read_json_body(request))


async def remove_endpoint(control: ControlService, request: Request) -> Any:
    """Delete an endpoint."""
    if not control.webhook_admin.remove_endpoint(request.path_params["id"]):
        raise http.NotFoundError("endpoint")
    return {"ok": True}


async def send_example(control: ControlService, request: Request) -> Any:
    """Send an example event to an endpoint, as Clerk's dashboard does: `{"type": "user.created"}` (default).

    The payload is that of another instance (`ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S`), signed with the endpoint's own secret.
    """
    body = await http.read_json_object(request)
    if set(body) - {"type"}:
        raise ValueError("give type, or nothing")
    delivery = control.webhook_admin.send_example(request.path_params["id"], body.get("type", DEFAULT_EXAMPLE_TYPE))
    if delivery is None:
        raise http.NotFoundError("endpoint")
    return delivery


async def list_deliveries(control: ControlService, request: Request) -> Any:
    """List deliveries, newest first. Filters: `?event=`, `?status=`, `?endpoint_id=`, `?message_id=`, `?limit=`."""
    deliveries = control.webhook_admin.list_deliveries()
    for name in ("event", "status", "endpoint_id", "message_id"):
        wanted = request.query_params.get(name)
        if wanted:
            deliveries = [row for row in deliveries if row[name] == wanted]
    return {"data": deliveries[: http.read_query_integer(request, "limit", 100)], "total_count": len(deliveries)}


async def get_delivery(control: ControlService, request: Request) -> Any:
    """Get a delivery with the body that was sent."""
    delivery = control.webhook_admin.find_delivery(request.path_params["id"])
    if delivery is None:
        raise http.NotFoundError("delivery")
    return delivery


async def replay_delivery(control: ControlService, request: Request) -> Any:
    """Replay a delivery with the same svix-id."""
    delivery = control.webhook_admin.replay(request.path_params["id"])
    if delivery is None:
        raise http.NotFoundError("delivery with an endpoint")
    return delivery


async def drain_deliveries(control: ControlService, request: Request) -> Any:
    """Deliver all messages that are due."""
    return {"ok": True, "waiting": await control.webhook_admin.drain()}


async def list_events(control: ControlService, request: Request) -> Any:
    """List events with their bodies, oldest first. Filters: `?type=`, `?after=<message id>`, `?limit=`."""
    messages = control.webhook_admin.list_messages()
    after = request.query_params.get("after")
    if after:
        positions = [position for position, message in enumerate(messages) if message["id"] == after]
        messages = messages[positions[0] + 1 :] if positions else []
    type_ = request.query_params.get("type")
    found = [message for message in messages if not type_ or message["type"] == type_]
    return {"data": found[: http.read_query_integer(request, "limit", 100)], "total_count": len(found)}


async def replay_event(control: ControlService, request: Request) -> Any:
    """Replay an event to every endpoint that accepts it."""
    sent = control.webhook_admin.replay_message(request.path_params["id"])
    if sent is None:
        raise http.NotFoundError("event")
    return {"data": sent}
