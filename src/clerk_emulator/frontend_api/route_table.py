"""All routes of the Frontend API and route matching."""

from clerk_emulator.frontend_api import (
    clients,
    domains,
    environment,
    invitations,
    me,
    me_identifications,
    me_organizations,
    memberships,
    organizations,
    reverifications,
    sessions,
    sign_ins,
    sign_ups,
    waitlist,
)
from clerk_emulator.frontend_api.call import FrontendRoute

ROUTE_MODULES = (
    environment,
    clients,
    sign_ins,
    sign_ups,
    sessions,
    reverifications,
    me,
    me_identifications,
    me_organizations,
    organizations,
    memberships,
    invitations,
    domains,
    waitlist,
)
ROUTES: tuple[FrontendRoute, ...] = tuple(route for module in ROUTE_MODULES for route in module.ROUTES)
FRONTEND_ONLY_PREFIXES = frozenset({"client", "dev_browser", "environment", "me", "waitlist"})  # not in the Backend API


def match_route(method: str, path: str) -> tuple[FrontendRoute, dict[str, str]] | None:
    """Return the route for a method and a path below /v1, with path parameters; literal segments take precedence."""
    parts = path.strip("/").split("/")
    found: list[tuple[int, FrontendRoute, dict[str, str]]] = []
    for route in ROUTES:
        wanted = route.path.strip("/").split("/")
        if route.method != method or len(wanted) != len(parts):
            continue
        pairs = list(zip(wanted, parts, strict=True))
        if all(part and (segment == part or segment.startswith("{")) for segment, part in pairs):
            values = {segment[1:-1]: part for segment, part in pairs if segment.startswith("{")}
            found.append((len(values), route, values))
    best = min(found, key=lambda one: one[0], default=None)
    return None if best is None else (best[1], best[2])
