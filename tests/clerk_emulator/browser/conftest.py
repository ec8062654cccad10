"""Fixtures: Clerk's own scripts in Chromium, in front of an emulator; whatever leaves this machine fails the test."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from clerk_emulator.pytest_plugin import Clerk
from clerk_emulator.wire.keyring import publishable_key
from tests.clerk_emulator.browser.application import Application, MakeApplication
from tests.support.browser import NewPage
from tests.support.need import need

NODE = Path(__file__).parents[1] / "node"
DEVELOPMENT = publishable_key("swift-emu-1.clerk.accounts.dev")


@pytest.fixture
def new_page(new_page: NewPage) -> NewPage:
    """Pages of people who want nothing to move: quicker, and no button slips away."""
    return partial(new_page, reduced_motion="reduce")


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder where npm put Clerk's scripts."""
    if not all((NODE / "node_modules" / "@clerk" / name / "dist").is_dir() for name in ("clerk-js", "ui")):
        need("Clerk's scripts for browsers", "`make test`, or `npm ci` in tests/clerk_emulator/node")
    return NODE


@pytest.fixture
def make_app(npm: Path, private_key: str) -> Iterator[MakeApplication]:
    """`make_app(**options of the emulator)`: an application and an emulator of its own."""
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
    """An application with the publishable key of an instance in development, as Clerk gives them out."""
    return make_app()
