"""Imports go down, and floor mates are strangers."""

import pytest

from tests.house.structure import PRODUCTS, find_climbs, find_trespassers, product

FLOORS = {
    "instep": {
        "kit": 1,
        "identity": 2,
        **dict.fromkeys(["clerk", "mirror", "audit", "journal", "access"], 3),
        **dict.fromkeys(["inbox", "people", "invitations", "profiles", "sync", "history"], 4),
        **dict.fromkeys(["app", "migrations"], 5),
        "__main__": 6,
    },
    "clerk_emulator": {
        "state": 1,
        "wire": 2,
        **dict.fromkeys(["backend_api", "frontend_api", "webhooks", "control"], 3),
        "serve": 4,
        **dict.fromkeys(["cli", "pytest_plugin"], 5),
        "__main__": 6,
    },
}
WAY_OUT = "If two rooms need a thing, it goes down a floor; what a room needs from above is handed to it by app/wiring."


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_room_stands_on_a_floor(name: str) -> None:
    """Prevents a new folder from growing beside the house, where no rule holds it."""
    homeless = {module.room for module in product(name)} - {"", *FLOORS[name]}
    assert not homeless, f"give these a floor in FLOORS (and in the plan of the house), or move them: {homeless}"


@pytest.mark.parametrize("name", PRODUCTS)
def test_imports_go_down_and_floor_mates_are_strangers(name: str) -> None:
    """Prevents the knot: once two slices know each other, neither can be read, tested or changed alone."""
    climbs = find_climbs(product(name), FLOORS[name])
    assert not climbs, "\n".join([*climbs, WAY_OUT])


def test_only_the_app_says_clerk() -> None:
    """Prevents the provider's shapes from leaking into the slices, which would make a change of its API ours."""
    strangers = find_trespassers(product("instep"), ["instep.clerk"], ["clerk/*", "app/*"])
    assert not strangers, "\n".join([*strangers, "Take a port of identity/ports instead, and let app/wiring fill it."])


@pytest.mark.parametrize(("name", "other"), [PRODUCTS, PRODUCTS[::-1]])
def test_the_two_products_share_no_code(name: str, other: str) -> None:
    """Prevents one wrong idea of Clerk from agreeing with itself: the judge must not be a relative."""
    shared = find_trespassers(product(name), [other], [])
    assert not shared, "\n".join([*shared, "Write it again here, from Clerk's own files."])
