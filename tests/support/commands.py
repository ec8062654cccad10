"""Commands as they are typed, against a whole firm whose loop they share."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import anyio.from_thread
import pytest
from typer.testing import CliRunner, Result

from instep.app.cli import app
from tests.support.world import Firm

_runner = CliRunner()


@contextmanager
def firm_of_commands(
    make: Callable[[], Awaitable[Firm]], commands: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Firm]:
    """A firm that the commands of this module work on, instead of the one that the settings name."""
    with anyio.from_thread.start_blocking_portal() as portal:
        firm = portal.call(make)

        def with_services(use: Any) -> Any:
            async def run() -> Any:
                work: Coroutine[Any, Any, Any] = use(firm.services)
                return await work

            return portal.call(run)

        monkeypatch.setattr(commands, "run_with_services", with_services)
        yield firm
        portal.call(firm.close)


def invoke(*args: str, text: str | None = None) -> Result:
    """A command and how it ended. `text` is its standard input."""
    return _runner.invoke(app, list(args), input=text)


def call(*args: str, text: str | None = None) -> str:
    """What a command prints; what it raises is raised."""
    result = invoke(*args, text=text)
    if result.exception is not None:
        raise result.exception
    return result.output
