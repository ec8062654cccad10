"""D4: an internationalized domain is one domain, in ASCII and in Unicode: ASCII to Clerk, Unicode on screen."""

import re
from typing import Any

import pytest

from tests.support.world import Firm

pytestmark = pytest.mark.anyio
ASCII, UNICODE = "post@xn--bcher-kva.example", "post@bücher.example"
SEED: dict[str, Any] = {
    "users": [{"email_address": "dana@example.com"}, {"email_address": ASCII}],
    "organizations": [
        {
            "name": "Northwind",
            "slug": "northwind",
            "members": [{"user": "dana@example.com", "role": "org:admin"}, {"user": ASCII}],
        }
    ],
    "events": True,
}
PREVIEW = "/v1/organizations/northwind/invitations/preview"
INVITE = "/v1/organizations/northwind/invitations"
PEOPLE = "/v1/organizations/northwind/people"


@pytest.fixture(autouse=True)
async def somebody_with_an_international_domain(firm: Firm) -> None:
    firm.emulator.seed(SEED)
    await firm.settle()


@pytest.mark.parametrize("typed", [ASCII, UNICODE, "Post@BÜCHER.example", "POST@XN--BCHER-KVA.example"])
async def test_d4_a_member_is_recognised_in_both_forms(firm: Firm, typed: str) -> None:
    lines = (await firm.api().post(PREVIEW, json={"text": typed})).json()["lines"]
    assert [line["verdict"] for line in lines] == ["member"]
    found = (await firm.api().get("/v1/users", params={"query": typed})).json()["data"]
    assert [it["email"] for it in found] == [ASCII]
    rows = (await firm.api().get(PEOPLE, params={"query": typed, "status": "active"})).json()["data"]
    assert [row["member"]["email"] for row in rows] == [ASCII]


async def test_d4_clerk_gets_ascii(firm: Firm) -> None:
    answer = await firm.api().post(INVITE, json={"email": "neu@bücher.example"})
    assert answer.status_code == 201, answer.text
    (invited,) = firm.state()["organization_invitations"]
    assert invited["email_address"] == "neu@xn--bcher-kva.example"
    again = await firm.api().post(INVITE, json={"email": "NEU@bücher.example"})
    assert again.status_code == 409


async def test_d4_pages_show_unicode(firm: Firm) -> None:
    page = await firm.api().get("/organizations/northwind/members")
    assert UNICODE in page.text
    assert ASCII not in re.sub(r' data-(copy|email)="[^"]*"', "", page.text), "but for what scripts copy and send"
