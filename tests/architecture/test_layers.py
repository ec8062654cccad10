"""Imports go down one of the layers of docs/architecture.md, slices do not import each other, and nothing is cyclic."""

import pytest

from tests.architecture.structure import (
    PRODUCTS,
    edges,
    find_cycle,
    find_trespassers,
    find_upward_imports,
    product,
)

LAYERS = {
    "instep": {
        "core": 1,
        "domain": 2,
        **dict.fromkeys(["clerk", "mirror"], 3),
        "auth": 4,
        "console": 5,
        **dict.fromkeys(["operations", "audit"], 6),
        **dict.fromkeys(["members", "invitations", "users", "sync", "webhooks", "events"], 7),
        **dict.fromkeys(["app", "integrations", "migrations"], 8),
        "__main__": 9,
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
ADVICE = "Move what two slices share a layer down; app/container passes down what a slice needs from above."


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_package_has_a_layer(name: str) -> None:
    missing = {module.package for module in product(name)} - {"", *LAYERS[name]}
    assert not missing, f"give these a layer in LAYERS and in docs/architecture.md, or move them: {missing}"


@pytest.mark.parametrize("name", PRODUCTS)
def test_imports_go_down(name: str) -> None:
    """Once two slices import each other, neither can be read, tested or changed alone."""
    found = find_upward_imports(product(name), LAYERS[name])
    assert not found, "\n".join([*found, ADVICE])


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_modules_import_each_other_in_a_cycle(name: str) -> None:
    """Imports in functions and for the type checker count: they only hide a cycle."""
    cycle = find_cycle(edges(product(name)))
    assert not cycle, f"{' imports '.join(cycle)}. {ADVICE}"


def test_only_the_app_imports_the_adapter_to_clerk() -> None:
    """The shapes of Clerk's API stay in `clerk`; slices use the ports of `domain.ports`."""
    found = find_trespassers(product("instep"), ["instep.clerk"], ["clerk/*", "app/*", "*/cli.py"])
    assert not found, "\n".join([*found, "Use a port of domain/ports instead, and let app/container fill it."])


@pytest.mark.parametrize(("name", "other"), [PRODUCTS, PRODUCTS[::-1]])
def test_the_two_products_share_no_code(name: str, other: str) -> None:
    """One misreading of Clerk must not hide in both."""
    shared = find_trespassers(product(name), [other], [])
    assert not shared, "\n".join([*shared, "Write it again here, from Clerk's own specification files."])
