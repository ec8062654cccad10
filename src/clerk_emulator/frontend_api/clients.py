"""Frontend API: the client (browser) and its development token."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse
from clerk_emulator.wire.client_json import client as shape


def get(visit: FrontendCall) -> Any:
    """Answer the browser, or null while nothing is known of it."""
    return UnwrappedResponse({"response": visit.shape(), "client": None})


def create(visit: FrontendCall) -> Any:
    """Answer the browser; a new one is made known."""
    return shape(visit.instance, visit.get_or_create_client(), visit.site)


def create_dev_browser(visit: FrontendCall) -> Any:
    """Answer the token of this browser, by which the pages of an application in development name it."""
    return UnwrappedResponse({"id": visit.get_or_create_client().token})


ROUTES = (
    FrontendRoute("GET", "/client", "getClient", get),
    FrontendRoute("PUT", "/client", "putClient", create),
    FrontendRoute("POST", "/client", "postClient", create),
    FrontendRoute("POST", "/dev_browser", "createDevBrowser", create_dev_browser),
)
