"""Frontend API: join the waitlist."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse, require_field
from clerk_emulator.state import waitlist


def join(call: FrontendCall) -> Any:
    """Add an address to the waitlist, or return its entry."""
    (entry,) = waitlist.add(call.instance, [{"email_address": require_field(call.fields, "email_address")}])
    return UnwrappedResponse({"object": "waitlist_entry", "id": entry.id})


ROUTES = (FrontendRoute("POST", "/waitlist", "joinWaitlist", join),)
