"""Control API handlers: faults and the request log."""

from typing import Any

from starlette.requests import Request

from clerk_emulator.control import http
from clerk_emulator.control.service import ControlService


async def list_faults(desk: ControlService, request: Request) -> Any:
    """Answer the faults, with how often each has happened."""
    return {"data": [fault.describe() for fault in desk.faults.list()]}


async def add_fault(desk: ControlService, request: Request) -> Any:
    """Add a fault for an operation or an event."""
    return desk.faults.add(await http.read_json_body(request)).describe()


async def clear_faults(desk: ControlService, request: Request) -> Any:
    """Take all faults away."""
    desk.faults.clear()
    return {"ok": True}


async def remove_fault(desk: ControlService, request: Request) -> Any:
    """Take one fault away."""
    if not desk.faults.remove(request.path_params["id"]):
        raise http.NotFoundError("fault")
    return {"ok": True}


async def list_requests(desk: ControlService, request: Request) -> Any:
    """Answer the journal, oldest first; `?operationId=`, `?after=<number>`, `?limit=`."""
    operation = request.query_params.get("operationId")
    after = http.read_query_integer(request, "after", 0)
    found = [
        entry.describe()
        for entry in desk.journal.list()
        if entry.number > after and (not operation or entry.operation == operation)
    ]
    return {"data": found[: http.read_query_integer(request, "limit", 1_000)], "total_count": len(found)}


async def clear_requests(desk: ControlService, request: Request) -> Any:
    """Forget the journal."""
    desk.journal.clear()
    return {"ok": True}
