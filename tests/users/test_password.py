"""Passwords are sent to Clerk and stored nowhere; an unknown outcome is reported."""

import json

import pytest
import sqlalchemy as sa

from instep.audit.tables import audit
from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.domain.errors import ChangeRejectedError
from instep.operations.tables import operations as table
from tests.support.world import Firm
from tests.users.firms import BOB, LOU, clerk_user, furnish, operations, person, recover, silence, users_of

pytestmark = pytest.mark.anyio
SECRET = "correct horse battery staple"
UNKNOWN = "We do not know whether the password was changed; set it again."


async def read_all_stored(firm: Firm) -> str:
    """Return all operations and the whole audit as text."""
    rows = [
        await firm.services.db.read(lambda conn, it=it: conn.execute(sa.select(it)).all())  # type: ignore[misc]
        for it in (table, audit)
    ]
    return str(rows)


async def test_a_password_is_set_in_clerk_and_stored_nowhere(firm: Firm, capsys: pytest.CaptureFixture[str]) -> None:
    await furnish(firm)
    async with firm.api() as api:
        path = f"/v1/users/{firm.user_id(BOB)}/password"
        answer = await api.post(path, json={"password": SECRET})
        assert answer.status_code == 200, answer.text
        short = await api.post(path, json={"password": "short"})
        assert (short.status_code, short.json()["code"], short.json()["field"]) == (422, "password_refused", "password")
        assert (await api.post(path, json={"password": ""})).status_code == 422
        wrong = await api.post(path, json={"password": SECRET, "more": SECRET})
        assert SECRET not in wrong.text
    async with firm.clerk() as clerk:
        checked = await clerk.post(f"/v1/users/{firm.user_id(BOB)}/verify_password", json={"password": SECRET})
    assert checked.json() == {"verified": True}
    assert SECRET not in await read_all_stored(firm)
    assert SECRET not in json.dumps(capsys.readouterr())
    there = clerk_user(firm, firm.user_id(BOB))
    assert there is not None
    assert (await person(firm, BOB)).attributes == {}


@pytest.mark.parametrize("after", [True, False])
async def test_a_lost_response_needs_attention(firm: Firm, after: bool) -> None:
    await furnish(firm)
    silence(firm, "PATCH", "/users/", after=after)
    async with firm.api() as api:
        answer = await api.post(f"/v1/users/{firm.user_id(BOB)}/password", json={"password": SECRET})
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (
            409,
            "password_unknown",
            UNKNOWN,
        )
        await recover(firm)
        assert [(it.state, it.reason) for it in await operations(firm, "user.password")] == [("attention", UNKNOWN)]
        again = await api.post(f"/v1/users/{firm.user_id(BOB)}/password", json={"password": SECRET})
        assert again.status_code == 200
    assert SECRET not in await read_all_stored(firm)


async def test_a_change_that_certainly_had_no_effect_is_refused(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    firm.emulator.fail("UpdateUser", status=429, retry_after=9, count=1)
    with pytest.raises(ChangeRejectedError, match="The password was not changed; set it again") as caught:
        await users_of(firm).set_password(BREAK_GLASS_PRINCIPAL, firm.user_id(BOB), SECRET)
    assert (caught.value.code, caught.value.status) == ("password_not_set", 503)
    assert (await operations(firm, "user.password"))[0].state == "refused"


async def test_without_a_clerk_account_there_is_no_password(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    with pytest.raises(ChangeRejectedError, match="no Clerk account"):
        await users_of(firm).set_password(BREAK_GLASS_PRINCIPAL, (await person(firm, LOU)).id, SECRET)
