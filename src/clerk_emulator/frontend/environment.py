"""The environment: what this instance offers, and how Clerk's components look for it."""

from typing import Any

from clerk_emulator.frontend.visit import Bare, Route, Visit
from clerk_emulator.wire.environment import environment


def get(visit: Visit) -> Any:
    """Answer the environment."""
    return Bare(environment(visit.instance, visit.site))


ROUTES = (
    Route("GET", "/environment", "getEnvironment", get),
    Route("PATCH", "/environment", "updateEnvironment", get),
)
