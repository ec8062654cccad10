"""What every test has: databases, a browser, asyncio, and Hypothesis with two sizes."""

import os

import hypothesis.core
import pytest
from hypothesis import settings
from hypothesis.vendor.pretty import RepresentationPrinter

from tests.support.need import LOUD

pytest_plugins = ["tests.support.databases", "tests.support.migrated", "tests.support.browser"]

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("proof", deadline=None, print_blob=True, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
# Schemathesis' plugin takes the values out of every property's report, to be quick; without them none can be mended.
hypothesis.core.RepresentationPrinter = RepresentationPrinter  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests (marked `anyio`) and async fixtures run on asyncio."""
    return "asyncio"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the very end, and in red, what this machine could not test."""
    reasons = {str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])}
    for reason in sorted(reasons):
        if LOUD in reason:
            terminalreporter.write_line(reason[reason.index(LOUD) :].rstrip("')"), red=True, bold=True)
