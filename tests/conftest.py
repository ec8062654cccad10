"""What every test has: databases, a browser, asyncio, and Hypothesis with two sizes."""

import os
from collections import Counter
from collections.abc import Iterator

import hypothesis.core
import pytest
import structlog
from hypothesis import Phase, settings
from hypothesis.vendor.pretty import RepresentationPrinter

from tests.support.need import LOUD

pytest_plugins = ["tests.support.databases", "tests.support.migrated", "tests.support.browser", "tests.support.firms"]

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("proof", deadline=None, print_blob=True, max_examples=20_000)
settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
# Schemathesis' plugin takes the values out of every property's report, to be quick; without them none can be mended.
hypothesis.core.RepresentationPrinter = RepresentationPrinter  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests (marked `anyio`) and async fixtures run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def log_of_this_test() -> Iterator[None]:
    """No test logs where another one has: a command that stays sets the log up, on a stream that is closed by then."""
    yield
    structlog.reset_defaults()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, and in red, what this machine could not test."""
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    reasons = Counter(where[2] for where in skipped if isinstance(where, tuple) and LOUD in where[2])
    for reason, times in reasons.items():
        terminalreporter.write_line(f"{reason.removeprefix('Skipped: ')} ({times} tests)", red=True, bold=True)
