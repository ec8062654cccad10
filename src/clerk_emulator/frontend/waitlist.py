"""Waiting to be let in."""

from typing import Any

from clerk_emulator.frontend.visit import Bare, Route, Visit, require
from clerk_emulator.state import waitlist


def join(visit: Visit) -> Any:
    """Let an address wait; one that waits already is answered as it is."""
    (entry,) = waitlist.add(visit.instance, [{"email_address": require(visit.fields, "email_address")}])
    return Bare({"object": "waitlist_entry", "id": entry.id})


ROUTES = (Route("POST", "/waitlist", "joinWaitlist", join),)
