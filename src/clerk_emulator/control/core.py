"""The desk: state, settings, clock, mail, seeds, snapshots, and people by the thousand."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request

from clerk_emulator.control import door, generate, moments
from clerk_emulator.control.desk import Desk
from clerk_emulator.state.optional import INDISPENSABLE, NAMES

UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")


async def reset(desk: Desk, request: Request) -> Any:
    """Start over, without endpoints; `{"endpoints": true}` keeps them. Named snapshots stay."""
    wish = await door.object_(request)
    desk.reset(keeps_endpoints=wish.get("endpoints") is True)
    return {"ok": True}


async def sow(desk: Desk, request: Request) -> Any:
    """Take a seed."""
    return {"seeded": desk.seed(await door.body(request))}


async def state(desk: Desk, request: Request) -> Any:
    """Answer everything there is."""
    return desk.state(door.number(request, "limit", 1_000))


async def settings(desk: Desk, request: Request) -> Any:
    """Answer the settings; changed before where a body says so."""
    if request.method == "POST":
        wish = await door.object_(request)
        desk.change_settings(wish)
    return asdict(desk.instance.settings)


async def omittable(desk: Desk, request: Request) -> Any:
    """List the claims, headers and fields that the setting `omitted` may name, and whether `*` leaves them out."""
    rows = [{"name": name, "minimal": name not in INDISPENSABLE, "reason": INDISPENSABLE.get(name)} for name in NAMES]
    return {"data": rows}


async def keys(desk: Desk, request: Request) -> Any:
    """Answer the keys."""
    return desk.keys()


async def clock(desk: Desk, request: Request) -> Any:
    """Answer the virtual time."""
    return desk.clock()


async def set_clock(desk: Desk, request: Request) -> Any:
    """Set the virtual time: `{"now": ...}`, and stop it or let it run: `{"stopped": true}`."""
    wish = await door.object_(request)
    if not wish or set(wish) - {"now", "stopped"}:
        raise ValueError("give now, or stopped, or both")
    if "now" in wish:
        desk.instance.clock.set(moments.read(wish["now"], desk.instance.now))
    if "stopped" in wish:
        (desk.instance.clock.stop if wish["stopped"] else desk.instance.clock.run)()
    return desk.clock()


async def advance_clock(desk: Desk, request: Request) -> Any:
    """Move the virtual time on: `{"days": 8}`; also weeks, hours, minutes, seconds, milliseconds."""
    wish = await door.object_(request)
    if not wish or set(wish) - set(UNITS):
        raise ValueError(f"give {', '.join(UNITS)}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in wish.values()):
        raise ValueError("how far to advance is a number")
    try:
        desk.instance.clock.advance(**wish)
    except OverflowError:
        raise ValueError("that is too far") from None
    return desk.clock()


async def mail(desk: Desk, request: Request) -> Any:
    """Answer what Clerk would have sent, newest first; `?to=`, `?limit=`."""
    to = request.query_params.get("to")
    found = [row for row in desk.mail(10_000) if not to or row["to"] == to]
    return {"data": found[: door.number(request, "limit", 100)], "total_count": len(found)}


async def clear_mail(desk: Desk, request: Request) -> Any:
    """Empty the inbox."""
    for row in list(desk.instance.mail):
        desk.instance.mail.remove(row.id)
    return {"ok": True}


async def grow(desk: Desk, request: Request) -> Any:
    """Make people up: `{"users": 1000, "organizations": 10, "memberships": 2000}`; nobody is told."""
    return {"generated": generate.grow(desk.instance, await door.object_(request))}


async def snapshot(desk: Desk, request: Request) -> Any:
    """Answer the whole state, to be given back to `POST /_emulator/restore`."""
    return desk.snapshot()


async def restore(desk: Desk, request: Request) -> Any:
    """Take back a whole state. What is on its way to endpoints is forgotten."""
    desk.restore(await door.object_(request))
    return {"ok": True, "totals": desk.totals()}


async def list_snapshots(desk: Desk, request: Request) -> Any:
    """Answer the names of the states that are kept in memory."""
    return {"data": sorted(desk.kept)}


async def keep(desk: Desk, request: Request) -> Any:
    """Keep the state in memory: `{"name": "before"}`."""
    name = (await door.object_(request)).get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a snapshot has a name")
    desk.keep(name)
    return {"name": name}


async def go_back(desk: Desk, request: Request) -> Any:
    """Go back to a state that is kept in memory."""
    if not desk.go_back(request.path_params["name"]):
        raise door.NotThere("snapshot")
    return {"ok": True, "totals": desk.totals()}


async def drop_snapshot(desk: Desk, request: Request) -> Any:
    """Forget a state that is kept in memory."""
    if desk.kept.pop(request.path_params["name"], None) is None:
        raise door.NotThere("snapshot")
    return {"ok": True}
