"""Nobody is ever harmed by mistake: lists that lie, fuses, plans that grew old, and what changed meanwhile."""

from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from instep.audit.tables import audit
from instep.mirror.tables import memberships, organizations, users
from instep.sync.models import SyncBusyError, SyncRefusedError
from instep.sync.plan import FieldOwnership
from instep.sync.tables import findings
from tests.sync.world import World, make_world, seed, small_pages

pytestmark = pytest.mark.anyio
EMPTY: dict[str, Any] = {"data": [], "total_count": 0}


async def refused(world: World, code: str) -> SyncRefusedError:
    before = world.ids_in_mirror()
    with pytest.raises(SyncRefusedError) as caught:
        await world.plan_and_apply()
    assert caught.value.code == code
    assert world.ids_in_mirror() == before
    return caught.value


async def test_an_empty_list_that_contradicts_the_total_deletes_nothing(world: World) -> None:
    world.emulator.seed(seed(30))
    await world.backfill()
    world.emulator.fail("GetUserList", status=200, body=[])
    assert "0 of 30 users" in str(await refused(world, "not_whole"))


async def test_an_empty_member_list_that_contradicts_the_total_deletes_nothing(world: World) -> None:
    world.emulator.seed(seed(30))
    await world.backfill()
    world.emulator.fail("InstanceGetOrganizationMemberships", status=200, body={"data": [], "total_count": 30})
    await refused(world, "not_whole")


async def test_an_empty_list_with_a_wrong_total_deletes_nothing(world: World) -> None:
    world.emulator.seed(seed(30))
    await world.backfill()
    world.emulator.fail("GetUserList", status=200, body=[])
    world.emulator.fail("GetUsersCount", status=200, body={"object": "total_count", "total_count": 0})
    before = world.ids_in_mirror()
    assert (await world.plan_and_apply()).counts == {}, "each was looked for a second time, and is there"
    assert world.ids_in_mirror() == before


async def test_below_the_deletion_limit_the_recheck_prevents_deletions(world: World) -> None:
    world.emulator.seed(seed(8))
    await world.backfill()
    world.emulator.fail("GetUserList", status=200, body=[])
    world.emulator.fail("GetUsersCount", status=200, body={"object": "total_count", "total_count": 0})
    world.emulator.fail("InstanceGetOrganizationMemberships", status=200, body=EMPTY)
    world.emulator.fail("ListOrganizations", status=200, body=EMPTY)
    before = world.ids_in_mirror()
    assert (await world.plan_and_apply()).counts == {}
    assert world.ids_in_mirror() == before


async def test_a_user_missing_from_one_page_is_not_deleted(world: World) -> None:
    world.emulator.seed(seed(12))
    await world.backfill()
    page = (await world.call("GET", "/users?limit=500&order_by=%2Bcreated_at"))[3:]
    world.emulator.fail("GetUserList", status=200, body=page[::-1])
    await refused(world, "not_whole")


async def test_a_member_is_deleted_only_when_both_lists_lack_it(world: World) -> None:
    world.emulator.seed(seed(6))
    await world.backfill()
    await world.call("DELETE", f"/organizations/org_{0:027d}/memberships/user_{4:027d}")
    world.emulator.fail("ListOrganizationMemberships", status=200, body=EMPTY)
    world.emulator.fail("InstanceGetOrganizationMemberships", status=200, body=EMPTY)
    assert await world.check() == {"membership_only_here": 1}
    await world.plan_and_apply()
    assert len(world.active_ids(memberships)) == 5


async def test_deletions_over_the_limit_need_an_explicit_allowance(world: World) -> None:
    world.emulator.seed(seed(30))
    await world.backfill()
    for n in range(12):
        await world.call("DELETE", f"/users/user_{n + 10:027d}")
    assert "--allow-gone 12" in str(await refused(world, "fuse"))
    run = await world.plan_and_apply(allow_gone=12)
    assert run.counts == {"applied": 24}
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_a_plan_expires_after_15_minutes(world: World) -> None:
    world.emulator.seed(seed(3))
    plan = await world.plan()
    world.clock.advance(15 * 60_000)
    with pytest.raises(SyncRefusedError, match="older than 15 minutes"):
        await world.sync.apply(plan.id, actor="test")
    assert world.rows(users) == []


async def test_a_plan_that_was_changed_is_refused(world: World) -> None:
    world.emulator.seed(seed(3))
    plan = await world.plan()
    world.execute(sa.update(findings).where(findings.c.number == 2).values(label="someone else"))
    with pytest.raises(SyncRefusedError, match="was changed after it was created"):
        await world.sync.apply(plan.id, actor="test")
    assert world.rows(users) == []


async def test_a_check_can_not_be_applied(world: World) -> None:
    run = await world.sync.check(actor="test")
    with pytest.raises(SyncRefusedError, match="There is no plan"):
        await world.sync.apply(run.id, actor="test")


async def test_only_selected_rows_are_applied_and_the_rest_can_follow(world: World) -> None:
    world.emulator.seed(seed(4))
    plan = await world.plan()
    of_users = [it.number for it in world.findings(plan) if it.finding.key.kind == "user"]
    await world.sync.apply(plan.id, actor="test", chosen=of_users[:2])
    assert len(world.rows(users)) == 2
    await world.sync.apply(plan.id, actor="test")
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_rows_that_changed_after_the_plan_are_skipped_with_a_reason(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.backfill()
    await world.call("PATCH", f"/users/user_{1:027d}", {"first_name": "Planned"})
    await world.call("PATCH", f"/users/user_{2:027d}", {"first_name": "Planned"})
    plan = await world.plan()
    await world.call("PATCH", f"/users/user_{1:027d}", {"first_name": "Newer"})
    await world.sync.apply_recent_changes(actor="test", since=1)
    ended = await world.sync.apply(plan.id, actor="test")
    assert ended.counts == {"skipped": 2}
    assert {reason for _, _, reason in world.outcomes(plan)} == {"It changed here after the plan was created."}
    assert await world.check() == {}


async def test_a_user_who_exists_in_clerk_again_is_not_deleted(world: World) -> None:
    world.emulator.seed(seed(5))
    await world.backfill()
    gone = world.emulator.state.users.find(f"user_{2:027d}")
    await world.call("DELETE", f"/users/user_{2:027d}")
    plan = await world.plan()
    assert gone is not None
    world.emulator.seed({"users": [{"id": gone.id, "email_address": "p2@example.com"}]})
    await world.sync.apply(plan.id, actor="test")
    assert gone.id in world.active_ids(users)
    assert ("missing_in_clerk", "skipped", "It exists in Clerk again.") in world.outcomes(plan)


async def test_applying_a_membership_applies_its_unselected_user_as_well(world: World) -> None:
    world.emulator.seed(seed(3))
    plan = await world.plan()
    chosen = [it.number for it in world.findings(plan) if it.finding.kind == "membership_only_in_clerk"]
    await world.sync.apply(plan.id, actor="test", chosen=chosen)
    assert world.ids_in_mirror() == world.ids_in_clerk()


async def test_every_applied_row_is_in_the_audit_once(world: World) -> None:
    world.emulator.seed(seed(3))
    plan = await world.plan()
    await world.sync.apply(plan.id, actor="someone")
    entries = [row for row in world.rows(audit) if row["cause"] == plan.id]
    assert sorted(row["target"] for row in entries) == sorted(it.finding.key.id for it in world.findings(plan))
    assert {row["actor"] for row in entries} == {"someone"}


async def test_only_one_sync_runs_at_a_time(world: World) -> None:
    world.emulator.seed(seed(5))
    errors: list[Exception] = []
    begun = False

    async def second() -> None:
        try:
            await world.sync.check(actor="second")
        except SyncBusyError as error:
            errors.append(error)

    source = world.sync.source
    count = source.count

    async def counting(kind: Any) -> int:
        nonlocal begun
        if not begun:
            begun = True
            await second()
        return await count(kind)

    object.__setattr__(world.sync, "source", source)
    source.count = counting  # type: ignore[method-assign]
    await world.sync.check(actor="first")
    assert len(errors) == 1
    await world.sync.check(actor="third")


async def test_a_process_that_lost_its_lease_writes_nothing_more(world: World) -> None:
    world.emulator.seed(seed(5))
    other = make_world(world.db)
    other.clock.at = world.clock.at + 3_600_000
    other.emulator.seed(seed(2))
    woken = False

    source = world.sync.source
    count = source.count

    async def sleeping(kind: Any) -> int:
        nonlocal woken
        if kind == "user" and not woken:
            woken = True
            await other.sync.check(actor="other")
        return await count(kind)

    source.count = sleeping  # type: ignore[method-assign]
    with pytest.raises(Exception, match="took over the sync"):
        await world.sync.backfill(actor="sleeper")
    assert world.rows(users) == []


async def test_another_instances_key_is_refused_before_anything_is_read(world: World) -> None:
    world.emulator.seed(seed(3))
    object.__setattr__(world.sync, "find_bound_instance", lambda _conn: "ins_another")
    await refused(world, "wrong_instance")


async def test_the_source_of_truth_decides_where_a_field_is_fixed(db: Any) -> None:
    world = make_world(db, policy=FieldOwnership(frozenset({"first_name", "role", "public_metadata"})))
    world.emulator.seed(seed(4))
    await world.backfill()
    edited = sa.update(users).where(users.c.clerk_id == f"user_{1:027d}")
    world.execute(edited.values(first_name="Ours", public_metadata={"team": "north"}))
    world.execute(sa.update(memberships).where(memberships.c.clerk_id == f"orgmem_{2:027d}").values(role="org:admin"))
    await world.call("PATCH", f"/users/user_{1:027d}", {"last_name": "Theirs"})
    ended = await world.plan_and_apply()
    assert ended.counts == {"applied": 2}
    there = await world.call("GET", f"/users/user_{1:027d}")
    assert (there["first_name"], there["last_name"], there["public_metadata"]) == ("Ours", "Theirs", {"team": "north"})
    row = next(it for it in world.rows(users) if it["clerk_id"] == f"user_{1:027d}")
    assert (row["first_name"], row["last_name"]) == ("Ours", "Theirs")
    assert await world.check() == {}


async def test_a_member_deactivated_here_is_no_difference(world: World) -> None:
    world.emulator.seed(seed(4))
    await world.backfill()
    one = sa.update(memberships).where(memberships.c.clerk_id == f"orgmem_{1:027d}")
    world.execute(one.values(status="deactivated", deactivated_at=1, deactivation="database"))
    two = sa.update(memberships).where(memberships.c.clerk_id == f"orgmem_{2:027d}")
    world.execute(two.values(status="deactivated", deactivated_at=1, deactivation="membership"))
    await world.call("DELETE", f"/organizations/org_{0:027d}/memberships/user_{2:027d}")
    assert await world.check() == {}


async def test_deleting_an_organization_deletes_its_memberships(world: World) -> None:
    world.emulator.seed(seed(6, organizations=2))
    await world.backfill()
    await world.call("DELETE", f"/organizations/org_{1:027d}")
    await world.plan_and_apply()
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert len(world.active_ids(organizations)) == 1


async def test_a_row_deleted_here_and_active_in_clerk_needs_manual_review(world: World) -> None:
    world.emulator.seed(seed(3))
    await world.backfill()
    world.execute(sa.update(users).where(users.c.clerk_id == f"user_{1:027d}").values(gone_at=5, deleted_at=5))
    assert await world.check() == {"dead_here": 1}
    plan = await world.plan()
    await world.sync.apply(plan.id, actor="test")
    assert world.outcomes(plan)[0][1] == "skipped"


async def test_a_check_during_changes_reports_no_equal_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries arrive while a check reads: whoever is equal when looked at again is no finding."""
    small_pages(monkeypatch, 5)
    world.emulator.seed(seed(30))
    await world.backfill()
    busy = make_world(world.db)
    busy.client = world.client
    renamed = iter(range(30))

    def meanwhile(request: httpx2.Request) -> None:
        from clerk_emulator.state import users as people

        n = next(renamed, None)
        found = world.emulator.state.users.find(f"user_{n:027d}") if n is not None else None
        if found is not None and request.url.path.endswith("/users"):
            people.update(world.emulator.state, found, {"first_name": f"New{n}"})
            world.execute(
                sa.update(users)
                .where(users.c.clerk_id == found.id)
                .values(first_name=f"New{n}", version=found.updated_at, digest="x")
            )

    world.transport.before = meanwhile
    assert await world.check() == {}
