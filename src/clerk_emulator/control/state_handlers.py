"""Control API handlers: reset, seed, settings, clock, mail, snapshots and data generation."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from clerk_emulator.control import data_generator, http, time_parsing
from clerk_emulator.control.service import ControlService
from clerk_emulator.state.omittable import KEPT_BY_WILDCARD, NAMES

UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")


async def reset(control: ControlService, request: Request) -> Any:
    """Reset the emulator and delete its endpoints; `{"endpoints": true}` keeps them. Named snapshots stay."""
    body = await http.read_json_object(request)
    control.reset(keeps_endpoints=body.get("endpoints") is True)
    return {"ok": True}


async def load_seed(control: ControlService, request: Request) -> Any:
    """Load a seed."""
    return {"seeded": control.seed(await http.read_json_body(request))}


async def get_state(control: ControlService, request: Request) -> Any:
    """Get the state: totals and the newest records of each kind."""
    return control.state(http.read_query_integer(request, "limit", 1_000))


async def get_settings(control: ControlService, request: Request) -> Any:
    """Get the settings."""
    return asdict(control.instance.settings)


async def change_settings(control: ControlService, request: Request) -> Any:
    """Change settings and return all of them; an invalid value changes none."""
    control.change_settings(await http.read_json_object(request))
    return asdict(control.instance.settings)


async def list_omittable(control: ControlService, request: Request) -> Any:
    """List omittable claims, headers and fields, the names for `omitted`; `*` selects those with `minimal`."""
    rows = [
        {"name": name, "minimal": name not in KEPT_BY_WILDCARD, "reason": KEPT_BY_WILDCARD.get(name)} for name in NAMES
    ]
    return {"data": rows}


async def get_keys(control: ControlService, request: Request) -> Any:
    """Get the keys."""
    return control.keys()


async def get_clock(control: ControlService, request: Request) -> Any:
    """Get the virtual time."""
    return control.clock()


async def set_clock(control: ControlService, request: Request) -> Any:
    """Set the virtual time: `{"now": ...}`; stop or start it: `{"stopped": true}`."""
    body = await http.read_json_object(request)
    if not body or set(body) - {"now", "stopped"}:
        raise ValueError("give now, or stopped, or both")
    if "now" in body:
        control.instance.clock.set(time_parsing.parse_time(body["now"], control.instance.now))
    if "stopped" in body:
        (control.instance.clock.stop if body["stopped"] else control.instance.clock.run)()
    return control.clock()


async def advance_clock(control: ControlService, request: Request) -> Any:
    """Advance the virtual time: `{"days": 8}`; also weeks, hours, minutes, seconds, milliseconds."""
    body = await http.read_json_object(request)
    if not body or set(body) - set(UNITS):
        raise ValueError(f"give {', '.join(UNITS)}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in body.values()):
        raise ValueError("the amount to advance must be a number")
    try:
        control.instance.clock.advance(**body)
    except OverflowError:
        raise ValueError("the amount is too large") from None
    return control.clock()


async def list_mail(control: ControlService, request: Request) -> Any:
    """List sent mail, newest first. Filters: `?to=`, `?limit=`."""
    to = request.query_params.get("to")
    found = [row for row in control.mail(10_000) if not to or row["to"] == to]
    return {"data": found[: http.read_query_integer(request, "limit", 100)], "total_count": len(found)}


async def clear_mail(control: ControlService, request: Request) -> Any:
    """Clear the inbox."""
    for row in list(control.instance.mail):
        control.instance.mail.remove(row.id)
    return {"ok": True}


async def generate_data(control: ControlService, request: Request) -> Any:
    """Generate data without events: `{"users": 1000, "organizations": 10, "memberships": 2000}`."""
    return {"generated": data_generator.generate(control.instance, await http.read_json_object(request))}


async def get_snapshot(control: ControlService, request: Request) -> Any:
    """Get a snapshot of the whole state for `POST /_emulator/restore`."""
    return control.snapshot()


async def restore_snapshot(control: ControlService, request: Request) -> Any:
    """Restore a snapshot. Pending deliveries are discarded."""
    control.restore(await http.read_json_object(request))
    return {"ok": True, "totals": control.totals()}


async def list_named_snapshots(control: ControlService, request: Request) -> Any:
    """List the names of the snapshots in memory."""
    return {"data": sorted(control.named_snapshots)}


async def save_named_snapshot(control: ControlService, request: Request) -> Any:
    """Save a snapshot in memory: `{"name": "before"}`."""
    name = (await http.read_json_object(request)).get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("name must be a non-empty string")
    control.save_named(name)
    return {"name": name}


async def restore_named_snapshot(control: ControlService, request: Request) -> Any:
    """Restore a snapshot from memory."""
    if not control.restore_named(request.path_params["name"]):
        raise http.NotFoundError("snapshot")
    return {"ok": True, "totals": control.totals()}


async def delete_named_snapshot(control: ControlService, request: Request) -> Any:
    """Delete a snapshot from memory."""
    if control.named_snapshots.pop(request.path_params["name"], None) is None:
        raise http.NotFoundError("snapshot")
    return {"ok": True}
