"""Sync takes everything in, finds every kind of drift, and mends it; equal sides are called equal."""

import pytest
import sqlalchemy as sa

from instep.mirror.tables import memberships, organizations, users
from tests.sync.world import World, seed

pytestmark = pytest.mark.anyio


async def test_a_first_sync_brings_everything_in_and_both_sides_are_equal(world: World) -> None:
    world.emulator.seed(seed(30, organizations=3))
    run = await world.take_all()
    assert world.here() == world.in_clerk()
    assert run.state == "done"
    assert run.counts["new"] == 63
    assert await world.check() == {}


async def test_an_empty_clerk_and_an_empty_mirror_are_equal(world: World) -> None:
    assert (await world.take_all()).state == "done"
    assert await world.check() == {}


async def test_whoever_is_missing_here_is_found_and_taken_in(world: World) -> None:
    world.emulator.seed(seed(10))
    await world.take_all()
    await world.call("POST", "/users", {"email_address": ["new@example.com"], "skip_password_requirement": True})
    (new,) = [it for it in world.emulator.state.users if it.identifier == "new@example.com"]
    await world.call("POST", f"/organizations/org_{0:027d}/memberships", {"user_id": new.id, "role": "org:member"})
    assert await world.check() == {"missing_here": 1, "membership_only_in_clerk": 1}
    applied = await world.mend()
    assert applied.counts == {"applied": 2}
    assert world.here() == world.in_clerk()
    assert await world.check() == {}


async def test_whoever_is_gone_in_clerk_is_found_and_marked(world: World) -> None:
    world.emulator.seed(seed(10))
    await world.take_all()
    await world.call("DELETE", f"/users/user_{4:027d}")
    assert await world.check() == {"missing_in_clerk": 1, "membership_only_here": 1}
    await world.mend()
    assert world.here() == world.in_clerk()
    row = next(it for it in world.rows(users) if it["clerk_id"] == f"user_{4:027d}")
    assert row["deleted_at"] is not None
    assert await world.check() == {}


async def test_the_last_who_came_is_missed_too_although_nobody_came_after(world: World) -> None:
    world.emulator.seed(seed(10))
    await world.take_all()
    for number in (9, 8):
        await world.call("DELETE", f"/users/user_{number:027d}")
    assert await world.check() == {"missing_in_clerk": 2, "membership_only_here": 2}
    await world.mend()
    assert world.here() == world.in_clerk()
    assert await world.check() == {}


async def test_a_change_in_clerk_is_found_with_both_values_and_the_side_that_wrote_last(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.take_all()
    await world.call("PATCH", f"/users/user_{2:027d}", {"first_name": "Maya"})
    plan = await world.plan()
    (row,) = world.findings(plan)
    finding = row.finding
    assert finding.kind == "field_differs"
    assert [(it.field, it.clerk, it.here, it.owner) for it in finding.differences] == [
        ("first_name", "Maya", "First2", "clerk")
    ]
    assert finding.wrote_last == "clerk"
    assert finding.label == "p2@example.com"
    await world.sync.apply(plan.id, actor="test")
    assert await world.check() == {}


async def test_a_row_that_was_edited_here_behind_our_back_is_found_and_mended(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.take_all()
    world.clock.advance(1_000)
    edited = sa.update(users).where(users.c.clerk_id == f"user_{1:027d}")
    world.execute(edited.values(last_name="Hacked", public_metadata={"role": "admin"}, changed_at=world.clock()))
    plan = await world.plan()
    (row,) = world.findings(plan)
    assert {it.field for it in row.finding.differences} == {"last_name", "public_metadata"}
    assert row.finding.wrote_last == "database"
    await world.sync.apply(plan.id, actor="test")
    assert await world.check() == {}


async def test_a_role_and_a_ban_and_an_organizations_name_are_found_and_mended(world: World) -> None:
    world.emulator.seed(seed(6))
    await world.take_all()
    await world.call("PATCH", f"/organizations/org_{0:027d}/memberships/user_{3:027d}", {"role": "org:admin"})
    await world.call("POST", f"/users/user_{5:027d}/ban")
    await world.call("PATCH", f"/organizations/org_{0:027d}", {"name": "Renamed"})
    assert await world.check() == {"role_differs": 1, "status_differs": 1, "field_differs": 1}
    await world.mend()
    assert await world.check() == {}


async def test_a_removed_member_and_one_who_joined_again_are_two_memberships(world: World) -> None:
    world.emulator.seed(seed(6))
    await world.take_all()
    path = f"/organizations/org_{0:027d}/memberships"
    await world.call("DELETE", f"{path}/user_{3:027d}")
    await world.call("POST", path, {"user_id": f"user_{3:027d}", "role": "org:member"})
    assert await world.check() == {"membership_only_here": 1, "membership_only_in_clerk": 1}
    await world.mend()
    assert world.here() == world.in_clerk()


async def test_someone_known_by_the_address_alone_is_linked(world: World) -> None:
    world.execute(
        sa.insert(users).values(
            id="usr_local", email="P1@example.com", sort_name="p", search_text="p", joined_at=5, changed_at=5
        )
    )
    world.emulator.seed(seed(3))
    counts = await world.check()
    assert counts["not_linked"] == 1
    await world.mend()
    row = next(it for it in world.rows(users) if it["id"] == "usr_local")
    assert row["clerk_id"] == f"user_{1:027d}"
    assert await world.check() == {}


async def test_one_address_on_two_people_and_an_unlinked_double_are_said_and_left_to_a_person(world: World) -> None:
    world.emulator.seed(seed(3))
    await world.take_all()
    world.execute(
        sa.insert(users).values(
            id="usr_local", email="p1@example.com", sort_name="p", search_text="p", joined_at=5, changed_at=5
        )
    )
    world.execute(
        sa.insert(users).values(
            id="usr_old",
            clerk_id="user_old",
            email="P2@example.com",
            sort_name="p",
            search_text="p",
            joined_at=6,
            changed_at=6,
            version=1,
        )
    )
    counts = await world.check()
    assert counts == {"duplicate_email": 1, "not_linked": 1, "missing_in_clerk": 1}


async def test_rows_that_say_invited_are_found_and_marked_removed(world: World) -> None:
    world.emulator.seed(seed(3))
    await world.take_all()
    user, organization = world.rows(users)[0]["id"], world.rows(organizations)[0]["id"]
    world.execute(
        sa.insert(memberships).values(
            id="mbr_old",
            organization_id=organization,
            user_id=user,
            role="org:member",
            status="invited",
            sort_name="p",
            search_text="p",
            joined_at=1,
            changed_at=1,
        )
    )
    assert await world.check() == {"legacy_invited": 1}
    await world.mend()
    assert next(it for it in world.rows(memberships) if it["id"] == "mbr_old")["status"] == "removed"
    assert await world.check() == {}
