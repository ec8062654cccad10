"""REST API of application invitations, for instance admins."""

import pytest

from tests.invitations.firms import furnish
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
PATH = "/v1/invitations"


async def test_inviting_listing_and_revoking(sqlite_firm: Firm) -> None:
    await furnish(sqlite_firm)
    api = sqlite_firm.api()
    wanted = {"email": "maya@example.com", "role": "admin", "expires_in_days": 3}
    made = await api.post(PATH, json=wanted, headers={"Idempotency-Key": "k"})
    assert made.status_code == 201
    assert (made.json()["role"], made.json()["organization_id"], made.json()["status"]) == ("admin", None, "pending")
    assert (await api.post(PATH, json=wanted, headers={"Idempotency-Key": "k"})).json() == made.json()
    assert (await api.post(PATH, json=wanted)).status_code == 409
    assert (await api.get(PATH, params={"status": "pending"})).json()["data"] == [made.json()]
    gone = await api.post(f"{PATH}/{made.json()['id']}/revoke")
    assert gone.json()["status"] == "revoked"
    assert (await api.post(f"{PATH}/{made.json()['id']}/revoke")).json()["code"] == "already_revoked"
    assert (await api.get(PATH)).json() == {"data": []}


async def test_requests_without_a_session_are_refused(sqlite_firm: Firm) -> None:
    await furnish(sqlite_firm)
    nobody = sqlite_firm.api(key=None)
    assert (await nobody.get(PATH)).status_code == 401
    assert (await nobody.post(PATH, json={"email": "maya@example.com"})).status_code == 401
    assert (await nobody.post(f"{PATH}/inv_1/revoke")).status_code == 401
