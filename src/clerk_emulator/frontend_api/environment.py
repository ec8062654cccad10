"""Frontend API: the environment."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse
from clerk_emulator.wire.environment_json import environment


def get(call: FrontendCall) -> Any:
    """Return the environment."""
    return UnwrappedResponse(environment(call.instance, call.site))


ROUTES = (
    FrontendRoute("GET", "/environment", "getEnvironment", get),
    FrontendRoute("PATCH", "/environment", "updateEnvironment", get),
)
