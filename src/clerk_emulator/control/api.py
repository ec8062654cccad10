"""The desk over HTTP: every path, and their description as OpenAPI."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clerk_emulator.control import breaking, core, description, door, hooks, provisioning
from clerk_emulator.control.desk import Desk
from clerk_emulator.control.door import View
from clerk_emulator.wire.answers import Json


async def openapi(desk: Desk, request: Request) -> Any:
    """Answer this description."""
    return description.document(desk.site.url, [(method, path, view) for method, path, view in TABLE])


TABLE: tuple[tuple[str, str, View], ...] = (
    ("GET", "/openapi.json", openapi),
    ("POST", "/reset", core.reset),
    ("POST", "/seed", core.sow),
    ("GET", "/state", core.state),
    ("GET", "/settings", core.settings),
    ("POST", "/settings", core.settings),
    ("GET", "/omittable", core.omittable),
    ("GET", "/keys", core.keys),
    ("GET", "/mail", core.mail),
    ("DELETE", "/mail", core.clear_mail),
    ("POST", "/generate", core.grow),
    ("GET", "/snapshot", core.snapshot),
    ("POST", "/restore", core.restore),
    ("GET", "/snapshots", core.list_snapshots),
    ("POST", "/snapshots", core.keep),
    ("POST", "/snapshots/{name}/restore", core.go_back),
    ("DELETE", "/snapshots/{name}", core.drop_snapshot),
    ("GET", "/clock", core.clock),
    ("POST", "/clock", core.set_clock),
    ("POST", "/clock/set", core.set_clock),
    ("POST", "/clock/advance", core.advance_clock),
    ("GET", "/directories", provisioning.list_directories),
    ("POST", "/directories", provisioning.add_directory),
    ("PATCH", "/directories/{id}", provisioning.change_directory),
    ("DELETE", "/directories/{id}", provisioning.remove_directory),
    ("POST", "/directories/{id}/users", provisioning.provision),
    ("POST", "/directories/{id}/memberships", provisioning.assign_role),
    ("POST", "/users/{id}/deprovision", provisioning.deprovision),
    ("POST", "/users/{id}/reprovision", provisioning.reprovision),
    ("GET", "/endpoints", hooks.list_endpoints),
    ("POST", "/endpoints", hooks.add_endpoint),
    ("DELETE", "/endpoints/{id}", hooks.remove_endpoint),
    ("POST", "/endpoints/{id}/example", hooks.send_example),
    ("GET", "/deliveries", hooks.list_deliveries),
    ("POST", "/deliveries/drain", hooks.drain),
    ("GET", "/deliveries/{id}", hooks.get_delivery),
    ("POST", "/deliveries/{id}/replay", hooks.replay),
    ("GET", "/events", hooks.list_events),
    ("POST", "/events/{id}/replay", hooks.send_again),
    ("GET", "/faults", breaking.list_faults),
    ("POST", "/faults", breaking.add_fault),
    ("DELETE", "/faults", breaking.clear_faults),
    ("DELETE", "/faults/{id}", breaking.remove_fault),
    ("GET", "/requests", breaking.list_requests),
    ("DELETE", "/requests", breaking.clear_requests),
)


def routes(desk: Desk) -> list[Route]:
    """Return the routes of the desk."""
    return [Route(f"/_emulator{path}", door.opened(desk, view), methods=[method]) for method, path, view in TABLE] + [
        Route("/_emulator/{rest:path}", _nowhere, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    ]


async def _nowhere(request: Request) -> Response:
    known = [f"{method} /_emulator{path}" for method, path, _ in TABLE]
    return Json({"error": f"there is no {request.method} {request.url.path}", "known": known}, status_code=404)
