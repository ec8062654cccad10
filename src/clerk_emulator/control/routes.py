"""Routes of the control API and its OpenAPI document."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clerk_emulator.control import (
    directory_handlers,
    fault_handlers,
    http,
    openapi_document,
    state_handlers,
    webhook_handlers,
)
from clerk_emulator.control.http import ControlHandler
from clerk_emulator.control.service import ControlService
from clerk_emulator.wire.responses import JsonResponse


async def get_openapi(control: ControlService, request: Request) -> Any:
    """Get this OpenAPI document."""
    return openapi_document.build_document(
        control.site.url, [(method, path, handler) for method, path, handler in ROUTES]
    )


ROUTES: tuple[tuple[str, str, ControlHandler], ...] = (
    ("GET", "/openapi.json", get_openapi),
    ("POST", "/reset", state_handlers.reset),
    ("POST", "/seed", state_handlers.load_seed),
    ("GET", "/state", state_handlers.get_state),
    ("GET", "/settings", state_handlers.get_settings),
    ("POST", "/settings", state_handlers.change_settings),
    ("GET", "/omittable", state_handlers.list_omittable),
    ("GET", "/keys", state_handlers.get_keys),
    ("GET", "/mail", state_handlers.list_mail),
    ("DELETE", "/mail", state_handlers.clear_mail),
    ("POST", "/generate", state_handlers.generate_data),
    ("GET", "/snapshot", state_handlers.get_snapshot),
    ("POST", "/restore", state_handlers.restore_snapshot),
    ("GET", "/snapshots", state_handlers.list_named_snapshots),
    ("POST", "/snapshots", state_handlers.save_named_snapshot),
    ("POST", "/snapshots/{name}/restore", state_handlers.restore_named_snapshot),
    ("DELETE", "/snapshots/{name}", state_handlers.delete_named_snapshot),
    ("GET", "/clock", state_handlers.get_clock),
    ("POST", "/clock", state_handlers.set_clock),
    ("POST", "/clock/set", state_handlers.set_clock),
    ("POST", "/clock/advance", state_handlers.advance_clock),
    ("GET", "/directories", directory_handlers.list_directories),
    ("POST", "/directories", directory_handlers.add_directory),
    ("PATCH", "/directories/{id}", directory_handlers.update_directory),
    ("DELETE", "/directories/{id}", directory_handlers.delete_directory),
    ("POST", "/directories/{id}/users", directory_handlers.provision_user),
    ("POST", "/directories/{id}/memberships", directory_handlers.assign_role),
    ("POST", "/users/{id}/deprovision", directory_handlers.deprovision_user),
    ("POST", "/users/{id}/reprovision", directory_handlers.reprovision_user),
    ("GET", "/endpoints", webhook_handlers.list_endpoints),
    ("POST", "/endpoints", webhook_handlers.add_endpoint),
    ("DELETE", "/endpoints/{id}", webhook_handlers.remove_endpoint),
    ("POST", "/endpoints/{id}/example", webhook_handlers.send_example),
    ("GET", "/deliveries", webhook_handlers.list_deliveries),
    ("POST", "/deliveries/drain", webhook_handlers.drain_deliveries),
    ("GET", "/deliveries/{id}", webhook_handlers.get_delivery),
    ("POST", "/deliveries/{id}/replay", webhook_handlers.replay_delivery),
    ("GET", "/events", webhook_handlers.list_events),
    ("POST", "/events/{id}/replay", webhook_handlers.replay_event),
    ("GET", "/faults", fault_handlers.list_faults),
    ("POST", "/faults", fault_handlers.add_fault),
    ("DELETE", "/faults", fault_handlers.clear_faults),
    ("DELETE", "/faults/{id}", fault_handlers.remove_fault),
    ("GET", "/requests", fault_handlers.list_requests),
    ("DELETE", "/requests", fault_handlers.clear_requests),
)


def build_routes(control: ControlService) -> list[Route]:
    """Return the routes of the control API."""
    return [
        Route(f"/_emulator{path}", http.as_endpoint(control, handler), methods=[method])
        for method, path, handler in ROUTES
    ] + [Route("/_emulator/{rest:path}", _not_found, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])]


async def _not_found(request: Request) -> Response:
    known = [f"{method} /_emulator{path}" for method, path, _ in ROUTES]
    return JsonResponse({"error": f"there is no {request.method} {request.url.path}", "known": known}, status_code=404)
