"""The browser itself: asked for, made known, and the token by which a page on another host names it."""

from typing import Any

from clerk_emulator.frontend.visit import Bare, Route, Visit
from clerk_emulator.wire.clients import client as shape


def get(visit: Visit) -> Any:
    """Answer the browser, or null while nothing is known of it."""
    return Bare({"response": visit.shape(), "client": None})


def make(visit: Visit) -> Any:
    """Answer the browser; a new one is made known."""
    return shape(visit.instance, visit.need_client(), visit.site)


def dev_browser(visit: Visit) -> Any:
    """Answer the token of this browser, by which the pages of an application in development name it."""
    return Bare({"id": visit.need_client().token})


ROUTES = (
    Route("GET", "/client", "getClient", get),
    Route("PUT", "/client", "putClient", make),
    Route("POST", "/client", "postClient", make),
    Route("POST", "/dev_browser", "createDevBrowser", dev_browser),
)
