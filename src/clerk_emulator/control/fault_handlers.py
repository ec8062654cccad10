"""Control API handlers: faults and the request log."""

from typing import Any

from starlette.requests import Request

from clerk_emulator.control import http
from clerk_emulator.control.service import ControlService


async def list_faults(control: ControlService, request: Request) -> Any:
    """List faults and how often each one occurred."""
    return {"data": [fault.describe() for fault in control.faults.list()]}


async def add_fault(control: ControlService, request: Request) -> Any:
    """Create a fault for an operation or an event."""
    return control.faults.add(await http.read_json_body(request)).describe()


async def clear_faults(control: ControlService, request: Request) -> Any:
    """Delete all faults."""
    control.faults.clear()
    return {"ok": True}


async def remove_fault(control: ControlService, request: Request) -> Any:
    """Delete a fault."""
    if not control.faults.remove(request.path_params["id"]):
        raise http.NotFoundError("fault")
    return {"ok": True}


async def list_requests(control: ControlService, request: Request) -> Any:
    """List logged requests, oldest first. Filters: `?operationId=`, `?after=<number>`, `?limit=`."""
    operation = request.query_params.get("operationId")
    after = http.read_query_integer(request, "after", 0)
    found = [
        entry.describe()
        for entry in control.request_log.list()
        if entry.number > after and (not operation or entry.operation == operation)
    ]
    return {"data": found[: http.read_query_integer(request, "limit", 1_000)], "total_count": len(found)}


async def clear_requests(control: ControlService, request: Request) -> Any:
    """Clear the request log."""
    control.request_log.clear()
    return {"ok": True}
