"""Sync takes everything in, finds every kind of drift, and mends it; equal sides are called equal."""

import pytest
import sqlalchemy as sa

from instep.mirror.tables import memberships, organizations, users
from tests.sync.world import World, seed

pytestmark = pytest.mark.anyio


async def test_a_backfill_imports_everything(world: World) -> None:
    world.emulator.seed(seed(30, organizations=3))
    run = await world.backfill()
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert run.state == "done"
    assert run.counts["new"] == 63
    assert await world.check() == {}


async def test_an_empty_clerk_and_an_empty_mirror_are_in_sync(world: World) -> None:
    assert (await world.backfill()).state == "done"
    assert await world.check() == {}


async def test_users_missing_here_are_found_and_imported(world: World) -> None:
    world.emulator.seed(seed(10))
    await world.backfill()
    await world.call("POST", "/users", {"email_address": ["new@example.com"], "skip_password_requirement": True})
    (new,) = [it for it in world.emulator.state.users if it.identifier == "new@example.com"]
    await world.call("POST", f"/organizations/org_{0:027d}/memberships", {"user_id": new.id, "role": "org:member"})
    assert await world.check() == {"missing_here": 1, "membership_only_in_clerk": 1}
    applied = await world.plan_and_apply()
    assert applied.counts == {"applied": 2}
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert await world.check() == {}


async def test_users_deleted_in_clerk_are_found_and_marked(world: World) -> None:
    world.emulator.seed(seed(10))
    await world.backfill()
    await world.call("DELETE", f"/users/user_{4:027d}")
    assert await world.check() == {"missing_in_clerk": 1, "membership_only_here": 1}
    await world.plan_and_apply()
    assert world.ids_in_mirror() == world.ids_in_clerk()
    row = next(it for it in world.rows(users) if it["clerk_id"] == f"user_{4:027d}")
    assert row["deleted_at"] is not None
    assert await world.check() == {}


async def test_the_newest_user_is_found_missing_too(world: World) -> None:
    world.emulator.seed(seed(10))
    await world.backfill()
    for number in (9, 8):
        await world.call("DELETE", f"/users/user_{number:027d}")
    assert await world.check() == {"missing_in_clerk": 2, "membership_only_here": 2}
    await world.plan_and_apply()
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert await world.check() == {}


async def test_a_change_in_clerk_is_found_with_both_values_and_the_side_that_wrote_last(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.backfill()
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


async def test_a_row_edited_directly_in_the_database_is_found_and_fixed(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.backfill()
    world.clock.advance(1_000)
    edited = sa.update(users).where(users.c.clerk_id == f"user_{1:027d}")
    world.execute(edited.values(last_name="Hacked", public_metadata={"role": "admin"}, changed_at=world.clock()))
    plan = await world.plan()
    (row,) = world.findings(plan)
    assert {it.field for it in row.finding.differences} == {"last_name", "public_metadata"}
    assert row.finding.wrote_last == "database"
    await world.sync.apply(plan.id, actor="test")
    assert await world.check() == {}


async def test_a_role_a_ban_and_an_organization_name_are_found_and_fixed(world: World) -> None:
    world.emulator.seed(seed(6))
    await world.backfill()
    await world.call("PATCH", f"/organizations/org_{0:027d}/memberships/user_{3:027d}", {"role": "org:admin"})
    await world.call("POST", f"/users/user_{5:027d}/ban")
    await world.call("PATCH", f"/organizations/org_{0:027d}", {"name": "Renamed"})
    assert await world.check() == {"role_differs": 1, "status_differs": 1, "field_differs": 1}
    await world.plan_and_apply()
    assert await world.check() == {}


async def test_a_removed_member_and_one_who_joined_again_are_two_memberships(world: World) -> None:
    world.emulator.seed(seed(6))
    await world.backfill()
    path = f"/organizations/org_{0:027d}/memberships"
    await world.call("DELETE", f"{path}/user_{3:027d}")
    await world.call("POST", path, {"user_id": f"user_{3:027d}", "role": "org:member"})
    assert await world.check() == {"membership_only_here": 1, "membership_only_in_clerk": 1}
    await world.plan_and_apply()
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_a_user_known_by_email_only_is_linked(world: World) -> None:
    world.execute(
        sa.insert(users).values(
            id="usr_local", email="P1@example.com", sort_name="p", search_text="p", joined_at=5, changed_at=5
        )
    )
    world.emulator.seed(seed(3))
    counts = await world.check()
    assert counts["not_linked"] == 1
    await world.plan_and_apply()
    row = next(it for it in world.rows(users) if it["id"] == "usr_local")
    assert row["clerk_id"] == f"user_{1:027d}"
    assert await world.check() == {}


async def test_duplicate_and_unlinked_emails_are_reported_for_manual_review(world: World) -> None:
    world.emulator.seed(seed(3))
    await world.backfill()
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


async def test_rows_with_status_invited_are_found_and_marked_removed(world: World) -> None:
    world.emulator.seed(seed(3))
    await world.backfill()
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
    await world.plan_and_apply()
    assert next(it for it in world.rows(memberships) if it["id"] == "mbr_old")["status"] == "removed"
    assert await world.check() == {}
