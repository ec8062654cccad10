"""A decision is a value: modules that decide perform no I/O and read no clock."""

import ast
from fnmatch import fnmatch

import pytest

from tests.architecture.structure import Module, find_trespassers, product

PURE = [
    "domain/*",
    "*/policies.py",
    "members/listing.py",
    "sync/plan.py",
    "clerk/parsing.py",
    "clerk/webhook_signature.py",
]
IMPURE = [
    "asyncio",
    "anyio",
    "threading",
    "subprocess",
    "socket",
    "sqlite3",
    "sqlalchemy",
    "psycopg",
    "httpx2",
    "fastapi",
]
IMPURE += ["starlette", "logging", "structlog", "os", "pathlib", "open", "random", "secrets", "uuid"]
IMPURE += [
    "time",
    "datetime.datetime.now",
    "instep.core.clock.now",
    "instep.core.db",
    "instep.core.templates",
    "instep.core.logging",
]


def pure_modules() -> list[Module]:
    return [module for module in product("instep") if any(fnmatch(module.path, pattern) for pattern in PURE)]


@pytest.mark.parametrize("module", pure_modules(), ids=lambda module: module.path)
def test_a_pure_module_has_no_side_effects(module: Module) -> None:
    """Prevents a decision that depends on the hour, the disk or luck: it can't be tested in three lines."""
    doings = find_trespassers([module], IMPURE, [])
    assert not doings, "\n".join([*doings, "Take the time, the id or the content as an argument."])


@pytest.mark.parametrize("module", pure_modules(), ids=lambda module: module.path)
def test_a_pure_module_has_no_coroutines(module: Module) -> None:
    """Prevents I/O from coming in by the back door; only the ports describe what others do asynchronously."""
    waiting = [function.name for function in module.functions if isinstance(function, ast.AsyncFunctionDef)]
    assert not waiting or module.path.endswith("ports.py"), f"{module.path}: move {waiting} to the service"


@pytest.mark.parametrize("name", ["instep", "clerk_emulator"])
def test_nothing_is_global(name: str) -> None:
    """Prevents two applications (or two tests) in one process from sharing a setting or a service."""
    places = [
        f"{module.path}, line {node.lineno}"
        for module in product(name)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]
    assert not places, f"make it a field of a frozen dataclass, filled in app/container: {places}"
