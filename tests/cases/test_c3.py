"""C3: a banned member is shown as banned, and counted neither as active nor as an admin."""

import pytest

from instep.members.repository import find_organizations_without_admin
from tests.cases.mirror_events import DANA, MAYA, OMAR, SLUG, deliver, found, people, settled, statuses, user_of
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def test_c3_a_banned_member_is_shown_as_banned_in_list_page_and_export(firm: Firm) -> None:
    await settled(firm)
    await deliver(firm, "user.updated", await user_of(firm, MAYA, banned=True))

    assert await statuses(firm) == {
        DANA: ["org:admin active"],
        OMAR: ["org:member active"],
        MAYA: ["org:admin banned"],
    }
    totals = (await people(firm))["totals"]
    assert (totals["members"], totals["active"], totals["banned"], totals["admins"]) == (3, 2, 1, 1)
    page = (await firm.api().get(f"/organizations/{SLUG}/members")).text
    assert page.count("Banned") >= 1
    only = await people(firm, status="banned")
    assert [row["member"]["email"] for row in only["data"]] == [MAYA]
    active = await people(firm, status="active")
    assert {row["member"]["email"] for row in active["data"]} == {DANA, OMAR}
    exported = (await firm.api().get(f"/v1/organizations/{SLUG}/people/export", params={"format": "csv"})).text
    assert next(line for line in exported.splitlines() if MAYA in line).split(",")[6] == "banned"


async def test_c3_a_page_goes_on_past_the_barred(firm: Firm) -> None:
    """One row a page: every member comes exactly once, in whatever status."""
    await settled(firm)
    await deliver(firm, "user.updated", await user_of(firm, MAYA, banned=True))
    await deliver(firm, "user.updated", await user_of(firm, OMAR, deprovisioned=True))
    await firm.api().post(f"/v1/organizations/{SLUG}/members/{firm.user_id(OMAR)}/deactivate")
    seen, cursor = [], None
    while True:
        page = await people(firm, limit=1, **({"cursor": cursor} if cursor else {}))
        seen += [row["member"]["email"] for row in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [DANA, MAYA, OMAR]


async def test_c3_an_organization_whose_only_admin_is_banned_has_no_active_admin(firm: Firm) -> None:
    await settled(firm)
    await firm.clerk().post(f"/v1/users/{firm.user_id(MAYA)}/ban")
    await firm.settle()
    last = await firm.api().patch(f"/v1/organizations/{SLUG}/members/{firm.user_id(DANA)}", json={"role": "org:member"})
    assert (last.status_code, last.json()["code"]) == (409, "last_admin")
    await firm.clerk().post(f"/v1/users/{firm.user_id(DANA)}/ban")
    await firm.settle()
    without = await firm.services.db.read(find_organizations_without_admin)
    assert [name for _, name in without] == ["Northwind Law"]


async def test_c3_a_ban_that_is_lifted_gives_the_membership_back(firm: Firm) -> None:
    await settled(firm)
    for deed, status in (("ban", "banned"), ("unban", "active")):
        await firm.clerk().post(f"/v1/users/{firm.user_id(MAYA)}/{deed}")
        await firm.settle()
        assert (await statuses(firm))[MAYA] == [f"org:admin {status}"]


async def test_c3_a_deactivation_outlives_a_ban(firm: Firm) -> None:
    await settled(firm)
    member = f"/v1/organizations/{SLUG}/members/{firm.user_id(OMAR)}"
    await deliver(firm, "user.updated", await user_of(firm, OMAR, banned=True))
    found(await firm.api().post(f"{member}/deactivate"))
    await deliver(firm, "user.updated", await user_of(firm, OMAR, banned=False))
    assert (await statuses(firm))[OMAR] == ["org:member deactivated"]
    found(await firm.api().post(f"{member}/reactivate"))
    assert (await statuses(firm))[OMAR] == ["org:member active"]
