"""A check calls two sides equal if, and only if, their contents are: versions decide nothing (guarantee G3)."""

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instep.mirror.tables import users
from tests.sync.world import World, seed

pytestmark = pytest.mark.anyio
PEOPLE = 6

shifts = st.integers(-1_000, 1_000).map(lambda days: days * 86_400_000)
names = st.sampled_from(["First", "Other", None])
tampered = st.lists(st.tuples(st.integers(0, PEOPLE - 1), shifts, names), max_size=PEOPLE, unique_by=lambda it: it[0])


@pytest.fixture
async def taken_in(world: World) -> World:
    """Both sides with the same people."""
    world.emulator.seed(seed(PEOPLE))
    await world.backfill()
    return world


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=tampered)
async def test_contents_are_compared_regardless_of_versions(taken_in: World, rows: list[Any]) -> None:
    world, wrong = taken_in, set()
    for n, shift, name in rows:
        clerk_id = f"user_{n:027d}"
        (row,) = [it for it in world.rows(users) if it["clerk_id"] == clerk_id]
        value = f"First{n}" if name == "First" else name
        wrong |= {clerk_id} if value != row["first_name"] else set()
        changed = sa.update(users).where(users.c.clerk_id == clerk_id)
        world.execute(changed.values(first_name=value, version=row["version"] + shift))
    plan = await world.plan()
    assert {it.finding.key.id for it in world.findings(plan)} == wrong
    await world.sync.apply(plan.id, actor="test")
    assert await world.check() == {}
    assert all(it["first_name"] == f"First{int(it['clerk_id'][5:])}" for it in world.rows(users))
