"""D5: somebody without any address gets a first one: their account stays theirs."""

import pytest

from tests.support.world import Firm

pytestmark = pytest.mark.anyio
PHONE = "+15555550100"


async def test_d5_the_first_address_of_a_phone_only_account_is_added(firm: Firm) -> None:
    assert firm.services.settings.instep_email_change == "reinvite"
    made = await firm.clerk().post("/v1/users", json={"phone_number": [PHONE], "first_name": "Phoebe"})
    assert made.status_code == 200, made.text
    phoebe = made.json()["id"]
    organization = {"name": "Northwind", "slug": "northwind", "created_by": phoebe}
    assert (await firm.clerk().post("/v1/organizations", json=organization)).status_code == 200
    await firm.settle()
    answer = await firm.api().post(f"/v1/users/{phoebe}/email", json={"email": "phoebe@example.com"})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "changed"), answer.text
    await firm.settle()
    person = (await firm.api().get(f"/v1/users/{phoebe}")).json()
    assert (person["email"], person["status"]) == ("phoebe@example.com", "active")
    rows = (await firm.api().get("/v1/organizations/northwind/people?status=active")).json()["data"]
    assert [row["member"]["clerk_user_id"] for row in rows] == [phoebe]
    user = (await firm.clerk().get(f"/v1/users/{phoebe}")).json()
    assert [it["email_address"] for it in user["email_addresses"]] == ["phoebe@example.com"]
    assert [it["phone_number"] for it in user["phone_numbers"]] == [PHONE]
