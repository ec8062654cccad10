"""Control API handlers: endpoints, deliveries and events."""

from typing import Any

from starlette.requests import Request

from clerk_emulator.control import http
from clerk_emulator.control.service import ControlService

DEFAULT_EXAMPLE_TYPE = "user.created"


async def list_endpoints(desk: ControlService, request: Request) -> Any:
    """Answer the endpoints, with their secrets."""
    return {"data": desk.office.list_endpoints()}


async def add_endpoint(desk: ControlService, request: Request) -> Any:
    """Add an endpoint, or replace the one at its address: `{"url", "secret"?, "events"?: [...], "enabled"?: true}`."""
    return desk.office.add_endpoint(await http.read_json_body(request))


async def remove_endpoint(desk: ControlService, request: Request) -> Any:
    """Take an endpoint away."""
    if not desk.office.remove_endpoint(request.path_params["id"]):
        raise http.NotFoundError("endpoint")
    return {"ok": True}


async def send_example(desk: ControlService, request: Request) -> Any:
    """Send the example of an event to one endpoint, as Clerk's dashboard does: `{"type": "user.created"}` (default).

    The payload is that of another instance (`ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S`), signed with the endpoint's own secret.
    """
    wish = await http.read_json_object(request)
    if set(wish) - {"type"}:
        raise ValueError("give type, or nothing")
    delivery = desk.office.send_example(request.path_params["id"], wish.get("type", DEFAULT_EXAMPLE_TYPE))
    if delivery is None:
        raise http.NotFoundError("endpoint")
    return delivery


async def list_deliveries(desk: ControlService, request: Request) -> Any:
    """Answer deliveries, newest first; `?event=`, `?status=`, `?endpoint_id=`, `?limit=`."""
    shapes = desk.office.list_deliveries()
    for name in ("event", "status", "endpoint_id", "message_id"):
        wanted = request.query_params.get(name)
        if wanted:
            shapes = [shape for shape in shapes if shape[name] == wanted]
    return {"data": shapes[: http.read_query_integer(request, "limit", 100)], "total_count": len(shapes)}


async def get_delivery(desk: ControlService, request: Request) -> Any:
    """Answer one delivery with the body that was sent."""
    delivery = desk.office.find_delivery(request.path_params["id"])
    if delivery is None:
        raise http.NotFoundError("delivery")
    return delivery


async def replay_delivery(desk: ControlService, request: Request) -> Any:
    """Send the message of a delivery once more, under the same svix-id."""
    delivery = desk.office.replay(request.path_params["id"])
    if delivery is None:
        raise http.NotFoundError("delivery with an endpoint")
    return delivery


async def drain_deliveries(desk: ControlService, request: Request) -> Any:
    """Deliver until nothing is due now."""
    return {"ok": True, "waiting": await desk.office.drain()}


async def list_events(desk: ControlService, request: Request) -> Any:
    """Answer the messages, oldest first, with their bodies; `?type=`, `?after=<message id>`, `?limit=`."""
    messages = desk.office.list_messages()
    after = request.query_params.get("after")
    if after:
        places = [place for place, message in enumerate(messages) if message["id"] == after]
        messages = messages[places[0] + 1 :] if places else []
    type_ = request.query_params.get("type")
    found = [message for message in messages if not type_ or message["type"] == type_]
    return {"data": found[: http.read_query_integer(request, "limit", 100)], "total_count": len(found)}


async def replay_event(desk: ControlService, request: Request) -> Any:
    """Send a message once more to every endpoint that wants it."""
    sent = desk.office.send_again(request.path_params["id"])
    if sent is None:
        raise http.NotFoundError("event")
    return {"data": sent}
