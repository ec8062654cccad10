"""One list of members and invitations, from the database and from Clerk, each honest about the other's failure."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from clerk_emulator.webhooks.dispatcher import WebhookDispatcher
from instep.core.clock import DAY
from instep.members.listing import INVITATIONS_UNAVAILABLE
from tests.support.faults import failing
from tests.support.firms import EVERYWHERE
from tests.support.world import Firm, make_firm

pytestmark = [pytest.mark.anyio, EVERYWHERE]

PATIENCE = 0.05
SEED = {
    "users": [
        {"email_address": f"{name.lower()}@example.com", "first_name": name} for name in ("Dana", "Maya", "Omar")
    ],
    "organizations": [
        {
            "name": "Northwind Law",
            "slug": "northwind-law",
            "max_allowed_memberships": 10,
            "members": [
                {"user": "dana@example.com", "role": "org:admin"},
                {"user": "maya@example.com"},
                {"user": "omar@example.com"},
            ],
            "invitations": [
                {"email_address": "ada@example.com", "created_at": "-3d", "expires_at": "+4d"},
                {"email_address": "bo@example.com", "created_at": "-1d", "expires_at": "+6d", "role": "org:admin"},
                {"email_address": "old@example.com", "created_at": "-9d", "expires_at": "-2d"},
            ],
        }
    ],
    "events": True,
}


@pytest.fixture
async def firm(migrated_url: str, profile: str) -> AsyncIterator[Firm]:
    """Northwind Law, in Clerk and in the mirror; the list waits 50 ms for Clerk."""
    firm = make_firm(migrated_url, patience=PATIENCE, profile=profile)
    firm.emulator.seed(SEED)
    await firm.settle()
    yield firm
    await firm.close()


async def people(firm: Firm, **query: Any) -> Any:
    response = await firm.api().get("/v1/organizations/northwind-law/people", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def names(page: Any) -> list[str]:
    return [row[row["kind"]]["email"].partition("@")[0] for row in page["data"]]


async def test_invitations_newest_first_and_then_members_by_name(firm: Firm) -> None:
    page = await people(firm)
    assert names(page) == ["bo", "ada", "old", "dana", "maya", "omar"]
    assert [row["kind"] for row in page["data"]] == ["invitation"] * 3 + ["member"] * 3
    assert [row["invitation"]["status"] for row in page["data"][:3]] == ["pending", "pending", "expired"]
    assert page["warnings"] == []
    assert page["totals"] == {
        "members": 3,
        "active": 3,
        "deactivated": 0,
        "banned": 0,
        "deprovisioned": 0,
        "admins": 1,
        "invitations": 2,
        "expired_invitations": 1,
        "seats": 10,
        "seats_used": 5,
    }


async def test_the_organization_goes_by_any_of_its_names(firm: Firm) -> None:
    clerk_id = firm.organization_id("northwind-law")
    response = await firm.api().get(f"/v1/organizations/{clerk_id}/people")
    assert names(response.json()) == names(await people(firm))
    assert (await firm.api().get("/v1/organizations/southwind/people")).status_code == 404


async def test_pages_walk_over_both_sources_and_show_everyone_once(firm: Firm) -> None:
    walked, page = [], await people(firm, limit=2)
    walked += names(page)
    while page["next_cursor"]:
        page = await people(firm, limit=2, cursor=page["next_cursor"])
        walked += names(page)
        assert page["totals"]["invitations"] == 2, "carried along, though Clerk is not asked any more"
    assert walked == ["bo", "ada", "old", "dana", "maya", "omar"]


async def test_members_alone_need_no_call_to_clerk(firm: Firm) -> None:
    firm.emulator.fail("*", status=500)
    page = await people(firm, status="active")
    assert (names(page), page["warnings"]) == (["dana", "maya", "omar"], [])


async def test_a_search_finds_members_and_invitations_alike(firm: Firm) -> None:
    assert names(await people(firm, query="BO example")) == ["bo"]
    assert names(await people(firm, query="maya example")) == ["maya"]
    assert names(await people(firm, role="org:admin")) == ["bo", "dana"]
    assert names(await people(firm, status="expired")) == ["old"]
    assert names(await people(firm, status="pending,active", role="org:member")) == ["ada", "maya", "omar"]


@pytest.mark.parametrize(
    "asked", ["query=%00", "role=%00", "role=org:admin,%00", "cursor=5b6e756c6c2c5b225c7530303030"]
)
async def test_what_no_database_holds_is_refused_and_breaks_nothing(firm: Firm, asked: str) -> None:
    response = await firm.api().get(f"/v1/organizations/northwind-law/people?{asked}")
    assert response.status_code in (400, 422)
    assert response.json()["code"] in ("invalid_request", "bad_cursor")


async def test_an_accepted_invitation_is_a_member_at_once_and_never_both(firm: Firm) -> None:
    """Clerk tells by webhook; until it comes, the invitation is gone and the member not yet there."""
    invitation = next(it for it in firm.state()["organization_invitations"] if it["email_address"] == "ada@example.com")
    ticket = invitation["url"].partition("ticket=")[2]
    browser = firm.browser()
    await browser.post("/v1/tickets/accept", data={"ticket": ticket, "first_name": "Ada", "last_name": "N"})
    assert "ada" not in names(await people(firm))
    await firm.settle()
    page = await people(firm)
    assert names(page) == ["bo", "old", "ada", "dana", "maya", "omar"]
    assert page["totals"]["seats_used"] == 5


async def test_an_invitation_expires_by_the_clock_though_no_webhook_says_so(firm: Firm) -> None:
    firm.clock.advance(5 * DAY)
    page = await people(firm)
    assert [row["invitation"]["status"] for row in page["data"][:3]] == ["pending", "expired", "expired"]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503, "body": "no JSON"},
        {"status": 429, "retry_after": 30},
        {"status": 401},
        {"status": 200, "body": {"data": "not a list"}},
        {"hang": "before"},
        {"latency_ms": 60_000},
    ],
    ids=str,
)
async def test_while_clerk_fails_the_members_come_with_a_warning(firm: Firm, fault: dict[str, Any]) -> None:
    firm.emulator.fail("ListOrganizationInvitations", **fault)
    page = await people(firm)
    assert names(page) == ["dana", "maya", "omar"]
    assert page["warnings"] == [INVITATIONS_UNAVAILABLE]
    assert (page["totals"]["members"], page["totals"]["invitations"]) == (3, None)
    firm.emulator.faults.clear()
    assert (await people(firm))["warnings"] == []


async def test_without_the_database_there_is_no_list_but_a_problem_that_says_when_to_come_back(firm: Firm) -> None:
    client = firm.api()
    with failing(firm.services.db):
        response = await client.get("/v1/organizations/northwind-law/people")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["code"] == "temporarily_unavailable"
    assert (await client.get("/v1/organizations/northwind-law/people")).status_code == 200


async def test_if_the_members_alone_cannot_be_read_it_is_no_list_of_invitations(firm: Firm) -> None:
    with failing(firm.services.db, only="FROM instep_memberships JOIN"):
        response = await firm.api().get("/v1/organizations/northwind-law/people")
    assert response.status_code == 503


async def test_a_firm_whose_webhooks_are_lost_still_shows_its_invitations(firm: Firm) -> None:
    courier: WebhookDispatcher = firm.emulator.webhooks
    courier.is_muted = True
    await firm.clerk().post(
        f"/v1/organizations/{firm.organization_id('northwind-law')}/invitations",
        json={"email_address": "new@example.com", "role": "org:member"},
    )
    assert names(await people(firm))[0] == "new"
