"""D2: a member is recognised by every address that is theirs in Clerk, not only by the primary one."""

import pytest

from tests.support.town import SEED
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


@pytest.fixture
async def secondary(firm: Firm) -> str:
    """A second address of Dana's, which the mirror does not hold."""
    firm.emulator.seed(SEED)
    await firm.settle()
    email = "d.whitfield@example.com"
    wanted = {"user_id": firm.user_id("dana@example.com"), "email_address": email, "verified": True}
    assert (await firm.clerk().post("/v1/email_addresses", json=wanted)).status_code == 200
    await firm.settle()
    return email


async def verdicts(firm: Firm, text: str) -> dict[str, str]:
    answer = await firm.api().post("/v1/organizations/northwind/invitations/preview", json={"text": text})
    assert answer.status_code == 200, answer.text
    return {line["email"]: line["verdict"] for line in answer.json()["lines"]}


async def test_d2_a_members_secondary_address_is_a_member_already(firm: Firm, secondary: str) -> None:
    found = await verdicts(firm, f"{secondary.upper()}, new@example.com, dana@example.com")
    assert found[secondary.upper().replace("EXAMPLE.COM", "example.com")] == "member"
    assert (found["new@example.com"], found["dana@example.com"]) == ("new", "member")


async def test_d2_a_preview_without_clerks_users_still_answers(firm: Firm, secondary: str) -> None:
    firm.emulator.fail("GetUserList", status=500)
    assert (await verdicts(firm, f"{secondary}, dana@example.com"))["dana@example.com"] == "member"
