"""A decision is a value: the files that decide do nothing, know no hour and wait for nobody."""

import ast
from fnmatch import fnmatch

import pytest

from tests.house.structure import Module, find_trespassers, product

PURE = ["identity/*", "*/rules.py", "*/merge.py", "*/plan.py", "clerk/wire.py", "clerk/webhook.py"]
DOERS = [
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
DOERS += ["starlette", "logging", "structlog", "os", "pathlib", "open", "random", "secrets", "uuid"]
DOERS += ["time", "datetime.datetime.now", "instep.kit.clock.now", "instep.kit.db", "instep.kit.html", "instep.kit.log"]


def pure_modules() -> list[Module]:
    return [module for module in product("instep") if any(fnmatch(module.path, pattern) for pattern in PURE)]


@pytest.mark.parametrize("module", pure_modules(), ids=lambda module: module.path)
def test_a_pure_file_touches_nothing_outside_itself(module: Module) -> None:
    """Prevents a decision that depends on the hour, the disk or luck: it could not be tested in three lines."""
    doings = find_trespassers([module], DOERS, [])
    assert not doings, "\n".join([*doings, "Take the time, the id or the content as an argument."])


@pytest.mark.parametrize("module", pure_modules(), ids=lambda module: module.path)
def test_a_pure_file_waits_for_nobody(module: Module) -> None:
    """Prevents I/O from coming in by the back door; only the ports describe what others do asynchronously."""
    waiting = [function.name for function in module.functions if isinstance(function, ast.AsyncFunctionDef)]
    assert not waiting or module.path.endswith("ports.py"), f"{module.path}: move {waiting} to flows, work or run"


@pytest.mark.parametrize("name", ["instep", "clerk_emulator"])
def test_nothing_is_global(name: str) -> None:
    """Prevents two applications (or two tests) in one process from sharing a setting or a service."""
    places = [
        f"{module.path}, line {node.lineno}"
        for module in product(name)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]
    assert not places, f"make it a field of a frozen dataclass, filled in wiring: {places}"
