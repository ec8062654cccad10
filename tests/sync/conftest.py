"""A world for each test, on both databases."""

import pytest

from instep.kit.db import Db
from tests.sync.world import World, make_world


@pytest.fixture
def world(db: Db) -> World:
    """Clerk and an empty mirror."""
    return make_world(db)
