"""Fixtures: Clerk's own scripts in Chromium with an emulator; requests that leave this machine fail the test."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from clerk_emulator.pytest_plugin import Clerk
from clerk_emulator.wire.keyring import publishable_key
from tests.clerk_emulator.browser.application import Application, MakeApplication
from tests.support.browser import NewPage, browser  # noqa: F401 - the outer fixture of this name is an HTTP client
from tests.support.need import need

NODE = Path(__file__).parents[1] / "node"
DEVELOPMENT = publishable_key("swift-emu-1.clerk.accounts.dev")


@pytest.fixture
def new_page(new_page: NewPage) -> NewPage:
    """Pages with reduced motion: faster, and buttons don't move."""
    return partial(new_page, reduced_motion="reduce")


@pytest.fixture(scope="session")
def npm() -> Path:
    """The npm folder with Clerk's scripts."""
    if not all((NODE / "node_modules" / "@clerk" / name / "dist").is_dir() for name in ("clerk-js", "ui")):
        need("Clerk's scripts for browsers", "`make test`, or `npm ci` in tests/clerk_emulator/node")
    return NODE


@pytest.fixture
def make_app(npm: Path, private_key: str) -> Iterator[MakeApplication]:
    """Return a function that creates an application with its own emulator: `make_app(**options of the emulator)`."""
    created: list[Application] = []

    def make(**options: object) -> Application:
        clerk = Clerk(private_key, {"npm": npm, "publishable_key": DEVELOPMENT, **options})
        created.append(Application(clerk))
        return created[-1]

    yield make
    for one in created:
        one.close()
        one.clerk.close()


@pytest.fixture
def app(make_app: MakeApplication) -> Application:
    """An application with the publishable key of a development instance, as Clerk issues them."""
    return make_app()
