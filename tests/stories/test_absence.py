"""Clerk's lists lag behind: whoever is not shown for a while is not called deleted, or comes back."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.clock import HOUR, SECOND
from instep.mirror.tables import memberships, users
from instep.webhooks.refetch import ABSENCE_CONFIRMATION_DELAY
from tests.support.compare import clerk_side, mirror_side, transitions
from tests.support.deliveries import kept
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
MAYA = "maya@example.com"
SEED = {
    "users": [{"email_address": MAYA, "first_name": "Maya"}],
    "organizations": [{"name": "Northwind", "slug": "northwind", "members": [{"user": MAYA, "role": "org:admin"}]}],
    "events": True,
}


def hide(firm: Firm, *, count: int | None = None) -> None:
    """Clerk's list of users is empty, for `count` readings or until it is shown again."""
    firm.emulator.fail("GetUserList", status=200, body=[], count=count)


def hold_back(firm: Firm, *events: str) -> None:
    """What Clerk tells of these comes an hour late."""
    for event in events:
        firm.emulator.faults.add({"event": event, "do": "delay", "delay_ms": HOUR})


async def arrive(firm: Firm) -> None:
    """Maya is made and joins; of her, only the membership is heard at first."""
    hold_back(firm, "user.created", "user.updated")
    firm.emulator.seed(SEED)
    await firm.settle()


async def is_as_in_clerk(firm: Firm) -> bool:
    return mirror_side(firm.services.db) == clerk_side(firm.state())


def row(firm: Firm, table: sa.Table) -> dict[str, Any]:
    (found,) = firm.services.db.read_sync(lambda conn: conn.execute(sa.select(table)).all())
    return dict(found._mapping)


async def believed_gone(firm: Firm) -> None:
    """Maya is not shown for so long that she is called gone, with her membership."""
    hide(firm)
    await arrive(firm)
    await firm.settle_patiently()
    assert row(firm, users)["absent_at"] is not None
    assert row(firm, memberships)["status"] == "removed"
    firm.emulator.faults.clear()


def inbox_is_empty(firm: Firm) -> bool:
    return all(it["due_at"] is None for it in kept(firm.services.db).values())


async def test_someone_whom_a_list_misses_once_is_not_deleted(firm: Firm) -> None:
    hide(firm, count=1)
    await arrive(firm)
    assert mirror_side(firm.services.db)["users"] == {}
    assert ("user.gone", firm.user_id(MAYA)) not in transitions(firm.services.db)
    firm.clock.advance(5 * SECOND)
    await firm.settle()
    assert await is_as_in_clerk(firm)
    assert not {"user.gone", "membership.gone"} & {action for action, _ in transitions(firm.services.db)}


async def test_the_delivery_waits_and_says_for_whom(firm: Firm) -> None:
    hide(firm, count=1)
    await arrive(firm)
    (waiting,) = [it for it in kept(firm.services.db).values() if it["state"] == "waiting"]
    assert waiting["outcome"] == f"Clerk does not show user {firm.user_id(MAYA)}. Checking once more."
    assert list(waiting["missing"]) == [f"user {firm.user_id(MAYA)}"]


async def test_two_looks_within_the_same_moment_are_one(firm: Firm) -> None:
    hide(firm)
    await arrive(firm)
    firm.clock.advance(5 * SECOND)
    await firm.settle()
    assert mirror_side(firm.services.db)["users"] == {}
    assert firm.services.db.read_sync(lambda conn: conn.execute(sa.select(users)).all()) == []
    firm.clock.advance(ABSENCE_CONFIRMATION_DELAY)
    await firm.settle()
    assert row(firm, users)["gone_at"] is not None


async def test_news_of_someone_who_was_believed_gone_bring_them_back_with_their_membership(firm: Firm) -> None:
    await believed_gone(firm)
    firm.clock.advance(HOUR)
    await firm.settle()  # user.created comes at last, and Clerk shows her
    assert await is_as_in_clerk(firm)
    her = firm.user_id(MAYA)
    assert [it for it in transitions(firm.services.db) if it[1] == her] == [("user.gone", her), ("user.back", her)]


async def test_late_news_of_someone_whom_clerk_still_does_not_show_bring_nobody_back(firm: Firm) -> None:
    await believed_gone(firm)
    hide(firm)
    firm.clock.advance(HOUR)
    await firm.settle_patiently()
    assert mirror_side(firm.services.db)["users"] == {}
    assert inbox_is_empty(firm)


async def test_clerks_own_word_of_a_deletion_is_final(firm: Firm) -> None:
    await believed_gone(firm)
    async with firm.clerk() as clerk:
        assert (await clerk.delete(f"/v1/users/{firm.user_id(MAYA)}")).is_success
    await firm.settle()
    assert row(firm, users)["absent_at"] is None
    assert row(firm, memberships)["absent_at"] is None
    firm.clock.advance(HOUR)
    await firm.settle_patiently()  # user.created comes late, of someone who is dead for good
    assert mirror_side(firm.services.db)["users"] == {}
    assert [action for action, _ in transitions(firm.services.db)].count("user.gone") == 1


async def test_sync_finds_who_was_believed_gone_and_brings_them_back(firm: Firm) -> None:
    await believed_gone(firm)
    sync = firm.services.sync_services.sync
    plan = await sync.plan(actor="test")
    assert plan.counts == {"missing_here": 1, "membership_only_in_clerk": 1}
    await sync.apply(plan.id, actor="test")
    assert await is_as_in_clerk(firm)
    assert (await sync.check(actor="test")).counts == {}


@pytest.mark.parametrize("how", ["first", "changed"])
async def test_every_sync_brings_them_back(firm: Firm, how: str) -> None:
    await believed_gone(firm)
    sync = firm.services.sync_services.sync
    await (sync.backfill(actor="test") if how == "first" else sync.apply_recent_changes(actor="test"))
    assert await is_as_in_clerk(firm)


async def test_whoever_signs_in_is_back_at_once(firm: Firm) -> None:
    await believed_gone(firm)
    sessions = firm.services.authenticator.sessions
    assert sessions.import_user is not None
    await sessions.import_user(firm.user_id(MAYA))
    assert await is_as_in_clerk(firm)


async def test_what_was_decided_here_meanwhile_stays(firm: Firm) -> None:
    """Deactivated before a list missed her: she is back, and still deactivated."""
    firm.emulator.seed(SEED)
    await firm.settle()
    table: Any = users
    member: Any = memberships

    def deactivate(conn: Any) -> None:
        conn.execute(sa.update(table).values(is_active=False, deactivated_at=7))
        conn.execute(sa.update(member).values(status="deactivated", deactivated_at=7, deactivation="database"))

    await firm.services.db.write(deactivate)
    sync = firm.services.sync_services.sync
    hide(firm)
    firm.emulator.fail("GetUser", status=404)
    firm.emulator.fail("GetUsersCount", status=200, body={"object": "total_count", "total_count": 0})
    plan = await sync.plan(actor="test")
    await sync.apply(plan.id, actor="test")
    assert row(firm, users)["absent_at"] is not None
    firm.emulator.faults.clear()
    await sync.apply((await sync.plan(actor="test")).id, actor="test")
    assert (row(firm, users)["is_active"], row(firm, users)["gone_at"]) == (False, None)
    assert row(firm, users)["deleted_at"] is None
    assert row(firm, memberships)["status"] == "deactivated"


async def test_an_organization_that_is_missed_for_a_while_comes_back_too(firm: Firm) -> None:
    firm.emulator.seed(SEED)
    await firm.settle()
    sync = firm.services.sync_services.sync
    firm.emulator.fail("ListOrganizations", status=200, body={"data": [], "total_count": 0})
    firm.emulator.fail("GetOrganization", status=404)
    plan = await sync.plan(actor="test")
    assert plan.counts == {"missing_in_clerk": 1}
    await sync.apply(plan.id, actor="test")
    assert row(firm, memberships)["status"] == "removed"
    firm.emulator.faults.clear()
    async with firm.clerk() as clerk:
        renamed = await clerk.patch(f"/v1/organizations/{firm.organization_id('northwind')}", json={"name": "South"})
    assert renamed.is_success
    await firm.settle()
    assert await is_as_in_clerk(firm)
