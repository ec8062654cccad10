"""A world for each test, on both databases."""

from collections.abc import Iterator

import pytest

from instep.kit.db import Db
from tests.sync.world import World, make_world


@pytest.fixture
def world(db: Db) -> Iterator[World]:
    """Clerk and an empty mirror."""
    yield make_world(db)
