"""D1: an address in other letters is the same address: nothing is changed, and nothing recorded."""

from typing import Any

import pytest

from tests.support.town import SEED
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def audit_of(firm: Firm) -> list[Any]:
    entries: list[Any] = (await firm.api().get("/v1/audit")).json()["data"]
    return entries


@pytest.mark.parametrize("email", ["DANA@example.com", "dana@EXAMPLE.com"])
async def test_d1_letter_case_alone_is_the_same_address(firm: Firm, email: str) -> None:
    firm.emulator.seed(SEED)
    await firm.settle()
    before, state = await audit_of(firm), firm.state()
    dana = firm.user_id("dana@example.com")
    answer = await firm.api().post(f"/v1/users/{dana}/email", json={"email": email})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "same")
    assert answer.json()["email"] == "dana@example.com"
    assert (await firm.api().patch(f"/v1/users/{dana}", json={"email": email})).status_code == 200
    await firm.settle()
    assert await audit_of(firm) == before
    assert firm.state() == state
