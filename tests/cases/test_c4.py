"""C4: the audit of an organization has what Clerk changed in it: joining, roles and leaving, before and after."""

from typing import Any

import pytest

from tests.cases.mirror_events import DANA, MAYA, OMAR, SLUG, deliver, found, membership_of, settled, user_of
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def audit(firm: Firm, action: str) -> list[Any]:
    """Return the entries of one action in the audit of the organization, newest first."""
    query: dict[str, str | int] = {"organization": SLUG, "action": action, "limit": 100}
    entries: list[Any] = found(await firm.api().get("/v1/audit", params=query))["data"]
    return entries


async def test_c4_a_join_a_change_of_role_and_leaving_in_clerk_are_in_it(firm: Firm) -> None:
    await settled(firm)
    joined = await audit(firm, "membership.seen")
    assert len(joined) == 3
    assert all(it["details"]["before"] is None for it in joined)
    assert {it["details"]["after"]["role"] for it in joined} == {"org:admin", "org:member"}

    path = f"/v1/organizations/{firm.organization_id(SLUG)}/memberships/{firm.user_id(OMAR)}"
    id = (await membership_of(firm, OMAR))["id"]
    await firm.clerk().patch(path, json={"role": "org:admin"})
    await firm.settle()
    (changed,) = await audit(firm, "membership.changed")
    assert (changed["target"], changed["actor"]) == (id, "clerk")
    assert changed["details"]["before"] == {"role": "org:member", "status": "active"}
    assert changed["details"]["after"] == {"role": "org:admin", "status": "active"}

    await firm.clerk().delete(path)
    await firm.settle()
    (gone,) = await audit(firm, "membership.gone")
    assert gone["details"]["before"] == {"role": "org:admin", "status": "active"}
    assert gone["details"]["after"] == {"role": "org:admin", "status": "removed"}
    assert gone["details"]["user"] == changed["details"]["user"]


async def test_c4_what_a_sync_takes_from_clerk_is_in_it(firm: Firm) -> None:
    await settled(firm)
    path = f"/v1/organizations/{firm.organization_id(SLUG)}/memberships"
    await firm.clerk().patch(f"{path}/{firm.user_id(OMAR)}", json={"role": "org:admin"})
    await firm.clerk().delete(f"{path}/{firm.user_id(MAYA)}")
    sync = firm.services.sync_services.sync
    plan = await sync.plan(actor="system")
    await sync.apply(plan.id, actor="system")
    (changed,) = await audit(firm, "membership.changed")
    assert changed["details"]["before"] == {"role": "org:member", "status": "active"}
    assert changed["details"]["after"] == {"role": "org:admin", "status": "active"}
    (gone,) = await audit(firm, "membership.gone")
    assert gone["details"]["before"] == {"role": "org:admin", "status": "active"}
    assert gone["details"]["after"]["status"] == "removed"


async def test_c4_a_ban_in_clerk_is_told_with_before_and_after(firm: Firm) -> None:
    await settled(firm)
    await deliver(firm, "user.updated", await user_of(firm, DANA, banned=True))
    query: dict[str, str | int] = {"action": "user.changed", "limit": 100}
    (entry,) = [
        it
        for it in found(await firm.api().get("/v1/audit", params=query))["data"]
        if it["target"] == firm.user_id(DANA)
    ]
    assert entry["details"] == {"before": {"status": "active"}, "after": {"status": "banned"}}
