"""The desk over HTTP: JSON in, JSON out; what makes no sense is a 4xx with an `error` that says why."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clerk_emulator.control import moments
from clerk_emulator.control.desk import Desk
from clerk_emulator.state.instance import Settings
from clerk_emulator.wire.answers import Json
from clerk_emulator.wire.site import is_loopback

UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")
View = Callable[[Desk, Request], Awaitable[Any]]


class NotThere(LookupError):
    """Nothing has this id."""


async def reset(desk: Desk, request: Request) -> Any:
    """Start over. `{"endpoints": false}` takes the endpoints away too."""
    wish = await _object(request)
    desk.reset(keeps_endpoints=wish.get("endpoints", True) is not False)
    return {"ok": True}


async def sow(desk: Desk, request: Request) -> Any:
    """Take a seed."""
    return {"seeded": desk.seed(await _body(request))}


async def state(desk: Desk, request: Request) -> Any:
    """Answer everything there is."""
    return desk.state(_number(request, "limit", 1_000))


async def settings(desk: Desk, request: Request) -> Any:
    """Answer the settings; changed before where a body says so."""
    if request.method == "POST":
        wish = await _object(request)
        known = {field.name for field in fields(Settings)}
        if set(wish) - known:
            raise ValueError(f"settings are: {', '.join(sorted(known))}")
        current = desk.instance.settings
        for name, value in wish.items():
            kind = type(getattr(current, name))
            if type(value) is not kind:
                raise ValueError(f"{name} must be of type {kind.__name__}")
        desk.instance.settings = replace(current, **wish)
    return asdict(desk.instance.settings)


async def keys(desk: Desk, request: Request) -> Any:
    """Answer the keys."""
    return desk.keys()


async def clock(desk: Desk, request: Request) -> Any:
    """Answer the virtual time."""
    return desk.clock()


async def set_clock(desk: Desk, request: Request) -> Any:
    """Set the virtual time: `{"now": ...}`, and stop it or let it run: `{"stopped": true}`."""
    wish = await _object(request)
    if not wish or set(wish) - {"now", "stopped"}:
        raise ValueError("give now, or stopped, or both")
    if "now" in wish:
        desk.instance.clock.set(moments.read(wish["now"], desk.instance.now))
    if "stopped" in wish:
        (desk.instance.clock.stop if wish["stopped"] else desk.instance.clock.run)()
    return desk.clock()


async def advance_clock(desk: Desk, request: Request) -> Any:
    """Move the virtual time on: `{"days": 8}`; also weeks, hours, minutes, seconds, milliseconds."""
    wish = await _object(request)
    if not wish or set(wish) - set(UNITS):
        raise ValueError(f"give {', '.join(UNITS)}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in wish.values()):
        raise ValueError("how far to advance is a number")
    try:
        desk.instance.clock.advance(**wish)
    except OverflowError:
        raise ValueError("that is too far") from None
    return desk.clock()


async def list_endpoints(desk: Desk, request: Request) -> Any:
    """Answer the endpoints, with their secrets."""
    return {"data": desk.office.list_endpoints()}


async def add_endpoint(desk: Desk, request: Request) -> Any:
    """Add an endpoint: `{"url": ..., "secret"?: "whsec_...", "events"?: [...], "enabled"?: true}`."""
    return desk.office.add_endpoint(await _body(request))


async def remove_endpoint(desk: Desk, request: Request) -> Any:
    """Take an endpoint away."""
    if not desk.office.remove_endpoint(request.path_params["id"]):
        raise NotThere("endpoint")
    return {"ok": True}


async def list_deliveries(desk: Desk, request: Request) -> Any:
    """Answer deliveries, newest first; `?event=`, `?status=`, `?endpoint_id=`, `?limit=`."""
    shapes = desk.office.list_deliveries()
    for name in ("event", "status", "endpoint_id", "message_id"):
        wanted = request.query_params.get(name)
        if wanted:
            shapes = [shape for shape in shapes if shape[name] == wanted]
    return {"data": shapes[: _number(request, "limit", 100)], "total_count": len(shapes)}


async def get_delivery(desk: Desk, request: Request) -> Any:
    """Answer one delivery with the body that was sent."""
    delivery = desk.office.find_delivery(request.path_params["id"])
    if delivery is None:
        raise NotThere("delivery")
    return delivery


async def replay(desk: Desk, request: Request) -> Any:
    """Send the message of a delivery once more, under the same svix-id."""
    delivery = desk.office.replay(request.path_params["id"])
    if delivery is None:
        raise NotThere("delivery with an endpoint")
    return delivery


async def drain(desk: Desk, request: Request) -> Any:
    """Deliver until nothing is due now."""
    return {"ok": True, "waiting": await desk.office.drain()}


async def list_events(desk: Desk, request: Request) -> Any:
    """Answer the messages, oldest first, with their bodies; `?type=`, `?after=<message id>`, `?limit=`."""
    messages = desk.office.list_messages()
    after = request.query_params.get("after")
    if after:
        places = [place for place, message in enumerate(messages) if message["id"] == after]
        messages = messages[places[0] + 1 :] if places else []
    type_ = request.query_params.get("type")
    found = [message for message in messages if not type_ or message["type"] == type_]
    return {"data": found[: _number(request, "limit", 100)], "total_count": len(found)}


async def send_again(desk: Desk, request: Request) -> Any:
    """Send a message once more to every endpoint that wants it."""
    sent = desk.office.send_again(request.path_params["id"])
    if sent is None:
        raise NotThere("event")
    return {"data": sent}


async def list_faults(desk: Desk, request: Request) -> Any:
    """Answer the faults, with how often each has happened."""
    return {"data": [fault.describe() for fault in desk.faults.list()]}


async def add_fault(desk: Desk, request: Request) -> Any:
    """Add a fault for an operation or an event."""
    return desk.faults.add(await _body(request)).describe()


async def clear_faults(desk: Desk, request: Request) -> Any:
    """Take all faults away."""
    desk.faults.clear()
    return {"ok": True}


async def remove_fault(desk: Desk, request: Request) -> Any:
    """Take one fault away."""
    if not desk.faults.remove(request.path_params["id"]):
        raise NotThere("fault")
    return {"ok": True}


async def list_requests(desk: Desk, request: Request) -> Any:
    """Answer the journal, oldest first; `?operationId=`, `?after=<number>`, `?limit=`."""
    operation = request.query_params.get("operationId")
    after = _number(request, "after", 0)
    found = [
        entry.describe()
        for entry in desk.journal.list()
        if entry.number > after and (not operation or entry.operation == operation)
    ]
    return {"data": found[: _number(request, "limit", 1_000)], "total_count": len(found)}


async def clear_requests(desk: Desk, request: Request) -> Any:
    """Forget the journal."""
    desk.journal.clear()
    return {"ok": True}


TABLE: tuple[tuple[str, str, View], ...] = (
    ("POST", "/reset", reset),
    ("POST", "/seed", sow),
    ("GET", "/state", state),
    ("GET", "/settings", settings),
    ("POST", "/settings", settings),
    ("GET", "/keys", keys),
    ("GET", "/clock", clock),
    ("POST", "/clock", set_clock),
    ("POST", "/clock/set", set_clock),
    ("POST", "/clock/advance", advance_clock),
    ("GET", "/endpoints", list_endpoints),
    ("POST", "/endpoints", add_endpoint),
    ("DELETE", "/endpoints/{id}", remove_endpoint),
    ("GET", "/deliveries", list_deliveries),
    ("POST", "/deliveries/drain", drain),
    ("GET", "/deliveries/{id}", get_delivery),
    ("POST", "/deliveries/{id}/replay", replay),
    ("GET", "/events", list_events),
    ("POST", "/events/{id}/replay", send_again),
    ("GET", "/faults", list_faults),
    ("POST", "/faults", add_fault),
    ("DELETE", "/faults", clear_faults),
    ("DELETE", "/faults/{id}", remove_fault),
    ("GET", "/requests", list_requests),
    ("DELETE", "/requests", clear_requests),
)


def routes(desk: Desk) -> list[Route]:
    """Return the routes of the desk."""
    return [Route(f"/_emulator{path}", _door(desk, view), methods=[method]) for method, path, view in TABLE] + [
        Route("/_emulator/{rest:path}", _nowhere, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    ]


def _door(desk: Desk, view: View) -> Callable[[Request], Awaitable[Response]]:
    async def opened(request: Request) -> Response:
        if _is_foreign(request):
            return Json({"error": "the desk is not for pages of other sites"}, status_code=403)
        try:
            return Json(await view(desk, request))
        except NotThere as missing:
            return Json({"error": f"there is no such {missing}"}, status_code=404)
        except ValueError as wrong:
            return Json({"error": str(wrong)}, status_code=422)

    return opened


async def _nowhere(request: Request) -> Response:
    known = [f"{method} /_emulator{path}" for method, path, _ in TABLE]
    return Json({"error": f"there is no {request.method} {request.url.path}", "known": known}, status_code=404)


def _is_foreign(request: Request) -> bool:
    origin = request.headers.get("origin")
    if origin and origin != "null":
        host = origin.partition("://")[2].rpartition(":")[0] or origin.partition("://")[2]
        return not is_loopback(host.strip("[]"))
    return request.headers.get("sec-fetch-site") == "cross-site"


async def _body(request: Request) -> Any:
    data = await request.body()
    if not data.strip():
        return {}
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as wrong:
        raise ValueError(f"the body is not JSON: {wrong}") from None


async def _object(request: Request) -> dict[str, Any]:
    body = await _body(request)
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isdecimal():
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return int(value)
