"""D6: an invitation that got lost between revoking and inviting again is in the API's list as on the page."""

import pytest

from tests.support.town import Town, settle
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
PEOPLE = "/v1/organizations/northwind/people"


@pytest.fixture
async def town(firm: Firm) -> Town:
    """Northwind, whose invitation of Ada was revoked to be sent again; the new one is refused."""
    town = await settle(firm)
    invitation = firm.state()["organization_invitations"][0]["id"]
    firm.emulator.fail("CreateOrganizationInvitation", status=403, count=1)
    await firm.api().post(f"/v1/organizations/northwind/invitations/{invitation}/resend")
    return town


async def test_d6_a_lost_invitation_is_in_the_list_and_on_the_page(town: Town, firm: Firm) -> None:
    rows = (await firm.api().get(PEOPLE)).json()["data"]
    lost = [row["invitation"] for row in rows if row["kind"] == "invitation"]
    assert [(it["email"], it["status"]) for it in lost] == [("ada@example.com", "lost")]
    page = await firm.api().get("/organizations/northwind/members")
    assert page.text.count('id="row-lost-') == 1
    retried = await firm.api().post(f"/v1/operations/{lost[0]['operation']}/retry")
    assert retried.status_code < 400, retried.text


async def test_d6_only_admins_are_told_of_it(town: Town, firm: Firm) -> None:
    rows = (await firm.api(None, **town.keys["member"]).get(PEOPLE)).json()["data"]
    assert [row for row in rows if row["kind"] == "invitation"] == []


@pytest.mark.parametrize("query", ["status=active", "query=nobody", "role=org:admin"])
async def test_d6_a_narrowed_list_leaves_it_out(town: Town, firm: Firm, query: str) -> None:
    rows = (await firm.api().get(f"{PEOPLE}?{query}")).json()["data"]
    assert [row for row in rows if row["kind"] == "invitation"] == []
