"""An idempotency key stands for one change: said again it is answered again, and for anything else it is refused."""

import pytest

from tests.support.firms import BOTH_PROFILES
from tests.support.town import Town

pytestmark = [pytest.mark.anyio, BOTH_PROFILES]

KEY = {"Idempotency-Key": "key-1"}
INVITATIONS = "/v1/organizations/northwind/invitations"


async def test_the_same_change_said_again_is_done_once_and_answered_twice(town: Town) -> None:
    api = town.firm.api()
    answers = [await api.post(INVITATIONS, json={"email": "new@example.com"}, headers=KEY) for _ in range(3)]
    assert [it.status_code for it in answers] == [201, 201, 201]
    assert len({it.json()["id"] for it in answers}) == 1
    sent = [it for it in town.firm.state()["organization_invitations"] if it["email_address"] == "new@example.com"]
    assert len(sent) == 1


async def test_another_change_under_the_same_key_is_refused_and_changes_nothing(town: Town) -> None:
    api = town.firm.api()
    first = (await api.post(INVITATIONS, json={"email": "new@example.com"}, headers=KEY)).json()
    before = town.firm.state()
    for path, body in (
        (INVITATIONS, {"email": "other@example.com"}),
        (f"{INVITATIONS}/{first['id']}/revoke", {}),
        (f"{INVITATIONS}/{first['id']}/resend", {}),
    ):
        answer = await api.post(path, json=body, headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused"), path
    assert town.firm.state() == before


async def test_somebody_elses_key_is_not_mine(town: Town) -> None:
    first = await town.firm.api().post(INVITATIONS, json={"email": "new@example.com"}, headers=KEY)
    dana = town.firm.api(None, **town.keys["admin"], **{"sec-fetch-site": "same-origin"})
    other = await dana.post(INVITATIONS, json={"email": "other@example.com"}, headers=KEY)
    assert (first.status_code, other.status_code) == (201, 201)
    assert other.json()["email"] == "other@example.com"
