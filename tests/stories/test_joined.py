"""Whoever was invited to a local organization joins it whichever way they come in, and the audit says so once."""

from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa

from instep.audit.tables import audit
from instep.core.db import Database
from instep.mirror.tables import memberships, organizations
from tests.support.firms import EVERYWHERE
from tests.sync.world import World, make_world, seed

pytestmark = [pytest.mark.anyio, EVERYWHERE]

PLACE = {"organization": "ogn_local", "role": "org:admin"}


async def by_first(world: World) -> None:
    await world.backfill()


async def by_plan(world: World) -> None:
    await world.plan_and_apply()


async def by_changed(world: World) -> None:
    await world.sync.apply_recent_changes(actor="test", since=1)


@pytest.mark.parametrize("come_in", [by_first, by_plan, by_changed])
async def test_an_invited_person_joins_and_the_audit_says_so(
    db: Database, profile: str, come_in: Callable[[World], Awaitable[object]]
) -> None:
    world = make_world(db, profile)
    local = {"id": "ogn_local", "name": "Local", "joined_at": 1, "changed_at": 1}
    world.execute(sa.insert(organizations).values(**local))
    firm = seed(6)
    firm["users"][3]["public_metadata"] = PLACE
    firm["users"][4]["public_metadata"] = PLACE | {"organization": f"org_{0:027d}"}
    world.emulator.seed(firm)
    for _ in range(2):
        await come_in(world)
    (joined,) = [it for it in world.rows(memberships) if it["clerk_id"] is None]
    assert (joined["organization_id"], joined["role"], joined["status"]) == ("ogn_local", "org:admin", "active")
    (entry,) = [it for it in world.rows(audit) if it["action"] == "membership.joined"]
    assert (entry["target"], entry["organization_id"]) == (joined["id"], "ogn_local")
    assert entry["details"] == {"user": joined["user_id"], "role": "org:admin"}
