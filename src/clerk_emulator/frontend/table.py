"""Every route of the Frontend API, and finding the one for a request."""

from clerk_emulator.frontend import (
    clients,
    domains,
    environment,
    invitations,
    me,
    members,
    my_addresses,
    my_organizations,
    organizations,
    reverifications,
    sessions,
    sign_ins,
    sign_ups,
    waitlist,
)
from clerk_emulator.frontend.visit import Route

MODULES = (
    environment,
    clients,
    sign_ins,
    sign_ups,
    sessions,
    reverifications,
    me,
    my_addresses,
    my_organizations,
    organizations,
    members,
    invitations,
    domains,
    waitlist,
)
ROUTES: tuple[Route, ...] = tuple(route for module in MODULES for route in module.ROUTES)
ONLY_HERE = frozenset({"client", "dev_browser", "environment", "me", "waitlist"})  # not of the Backend API


def match(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Return the route for a method and a path below /v1, with the values in the path; fixed words come first."""
    parts = path.strip("/").split("/")
    found: list[tuple[int, Route, dict[str, str]]] = []
    for route in ROUTES:
        wanted = route.path.strip("/").split("/")
        if route.method != method or len(wanted) != len(parts):
            continue
        pairs = list(zip(wanted, parts, strict=True))
        if all(part and (word == part or word.startswith("{")) for word, part in pairs):
            values = {word[1:-1]: part for word, part in pairs if word.startswith("{")}
            found.append((len(values), route, values))
    best = min(found, key=lambda one: one[0], default=None)
    return None if best is None else (best[1], best[2])
