"""Frontend API: the client (browser) and its development token."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse
from clerk_emulator.wire.client_json import client as client_json


def get(call: FrontendCall) -> Any:
    """Return the client, or null if there is none."""
    return UnwrappedResponse({"response": call.to_client_json(), "client": None})


def create(call: FrontendCall) -> Any:
    """Return the client; create it if there is none."""
    return client_json(call.instance, call.get_or_create_client(), call.site)


def create_dev_browser(call: FrontendCall) -> Any:
    """Return the client's token, by which pages of a development application identify it."""
    return UnwrappedResponse({"id": call.get_or_create_client().token})


ROUTES = (
    FrontendRoute("GET", "/client", "getClient", get),
    FrontendRoute("PUT", "/client", "putClient", create),
    FrontendRoute("POST", "/client", "postClient", create),
    FrontendRoute("POST", "/dev_browser", "createDevBrowser", create_dev_browser),
)
