"""A world for each test, on both databases."""

import pytest

from instep.core.db import Database
from tests.sync.world import World, make_world


@pytest.fixture
def world(db: Database) -> World:
    """Clerk and an empty mirror."""
    return make_world(db)
