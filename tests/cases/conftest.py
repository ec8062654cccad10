"""Mark every test of this folder, so that `pytest -m cases` runs them alone."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker `cases` to the tests that lie beside this file."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker("cases")
