"""Control API handlers: reset, seed, settings, clock, mail, snapshots and data generation."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from clerk_emulator.control import data_generator, http, time_parsing
from clerk_emulator.control.service import ControlService
from clerk_emulator.state.omittable import KEPT_BY_WILDCARD, NAMES

UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")


async def reset(desk: ControlService, request: Request) -> Any:
    """Start over, without endpoints; `{"endpoints": true}` keeps them. Named snapshots stay."""
    wish = await http.read_json_object(request)
    desk.reset(keeps_endpoints=wish.get("endpoints") is True)
    return {"ok": True}


async def load_seed(desk: ControlService, request: Request) -> Any:
    """Take a seed."""
    return {"seeded": desk.seed(await http.read_json_body(request))}


async def get_state(desk: ControlService, request: Request) -> Any:
    """Answer everything there is."""
    return desk.state(http.read_query_integer(request, "limit", 1_000))


async def get_or_change_settings(desk: ControlService, request: Request) -> Any:
    """Answer the settings; changed before where a body says so."""
    if request.method == "POST":
        wish = await http.read_json_object(request)
        desk.change_settings(wish)
    return asdict(desk.instance.settings)


async def list_omittable(desk: ControlService, request: Request) -> Any:
    """List the claims, headers and fields that the setting `omitted` may name, and whether `*` leaves them out."""
    rows = [
        {"name": name, "minimal": name not in KEPT_BY_WILDCARD, "reason": KEPT_BY_WILDCARD.get(name)} for name in NAMES
    ]
    return {"data": rows}


async def get_keys(desk: ControlService, request: Request) -> Any:
    """Answer the keys."""
    return desk.keys()


async def get_clock(desk: ControlService, request: Request) -> Any:
    """Answer the virtual time."""
    return desk.clock()


async def set_clock(desk: ControlService, request: Request) -> Any:
    """Set the virtual time: `{"now": ...}`, and stop it or let it run: `{"stopped": true}`."""
    wish = await http.read_json_object(request)
    if not wish or set(wish) - {"now", "stopped"}:
        raise ValueError("give now, or stopped, or both")
    if "now" in wish:
        desk.instance.clock.set(time_parsing.parse_time(wish["now"], desk.instance.now))
    if "stopped" in wish:
        (desk.instance.clock.stop if wish["stopped"] else desk.instance.clock.run)()
    return desk.clock()


async def advance_clock(desk: ControlService, request: Request) -> Any:
    """Move the virtual time on: `{"days": 8}`; also weeks, hours, minutes, seconds, milliseconds."""
    wish = await http.read_json_object(request)
    if not wish or set(wish) - set(UNITS):
        raise ValueError(f"give {', '.join(UNITS)}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in wish.values()):
        raise ValueError("how far to advance is a number")
    try:
        desk.instance.clock.advance(**wish)
    except OverflowError:
        raise ValueError("that is too far") from None
    return desk.clock()


async def list_mail(desk: ControlService, request: Request) -> Any:
    """Answer what Clerk would have sent, newest first; `?to=`, `?limit=`."""
    to = request.query_params.get("to")
    found = [row for row in desk.mail(10_000) if not to or row["to"] == to]
    return {"data": found[: http.read_query_integer(request, "limit", 100)], "total_count": len(found)}


async def clear_mail(desk: ControlService, request: Request) -> Any:
    """Empty the inbox."""
    for row in list(desk.instance.mail):
        desk.instance.mail.remove(row.id)
    return {"ok": True}


async def generate_data(desk: ControlService, request: Request) -> Any:
    """Make people up: `{"users": 1000, "organizations": 10, "memberships": 2000}`; nobody is told."""
    return {"generated": data_generator.generate(desk.instance, await http.read_json_object(request))}


async def get_snapshot(desk: ControlService, request: Request) -> Any:
    """Answer the whole state, to be given back to `POST /_emulator/restore`."""
    return desk.snapshot()


async def restore_snapshot(desk: ControlService, request: Request) -> Any:
    """Take back a whole state. What is on its way to endpoints is forgotten."""
    desk.restore(await http.read_json_object(request))
    return {"ok": True, "totals": desk.totals()}


async def list_named_snapshots(desk: ControlService, request: Request) -> Any:
    """Answer the names of the states that are kept in memory."""
    return {"data": sorted(desk.kept)}


async def save_named_snapshot(desk: ControlService, request: Request) -> Any:
    """Keep the state in memory: `{"name": "before"}`."""
    name = (await http.read_json_object(request)).get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a snapshot has a name")
    desk.keep(name)
    return {"name": name}


async def restore_named_snapshot(desk: ControlService, request: Request) -> Any:
    """Go back to a state that is kept in memory."""
    if not desk.go_back(request.path_params["name"]):
        raise http.NotFoundError("snapshot")
    return {"ok": True, "totals": desk.totals()}


async def delete_named_snapshot(desk: ControlService, request: Request) -> Any:
    """Forget a state that is kept in memory."""
    if desk.kept.pop(request.path_params["name"], None) is None:
        raise http.NotFoundError("snapshot")
    return {"ok": True}
