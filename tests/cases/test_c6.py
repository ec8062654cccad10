"""C6: a deactivated person is told so, and whom to ask; nobody else learns of it."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.auth.authenticator import SESSION_COOKIE
from instep.domain.models import SessionClaims
from instep.mirror.tables import users
from tests.support.tokens import session_token
from tests.support.world import OURS, Firm

pytestmark = pytest.mark.anyio

SEED: dict[str, Any] = {
    "users": [
        {"email_address": "dana@example.com", "first_name": "Dana", "last_name": "Weber"},
        {"email_address": "omar@example.com", "first_name": "Omar"},
        {"email_address": "rhea@example.com", "first_name": "Rhea"},
        {"email_address": "sam@example.com", "first_name": "Sam"},
    ],
    "organizations": [
        {
            "name": "Northwind",
            "slug": "northwind",
            "members": [{"user": "dana@example.com", "role": "org:admin"}, {"user": "omar@example.com"}],
        },
        {"name": "Southwind", "slug": "southwind", "members": [{"user": "rhea@example.com", "role": "org:admin"}]},
    ],
    "events": True,
}
API, PAGE = "/v1/organizations/northwind/people", "/organizations/northwind/members"


async def settled(firm: Firm) -> str:
    """Deactivate Omar; return instep's id of him."""
    firm.emulator.seed(SEED)
    await firm.settle()
    people = (await firm.api().get(API)).json()["data"]
    (omar,) = [it["member"]["user_id"] for it in people if it["member"]["email"] == "omar@example.com"]
    done = await firm.api().post(f"/v1/organizations/northwind/members/{omar}/deactivate")
    assert done.status_code == 200, done.text
    return str(omar)


def api_of(firm: Firm, email: str) -> Any:
    return firm.api(None, authorization=f"Bearer {session_token(firm, email)}")


async def console_of(firm: Firm, email: str) -> Any:
    claims = SessionClaims(user=firm.user_id(email), session="sess_1")
    return firm.api(
        None, cookie=f"{SESSION_COOKIE}={await firm.services.authenticator.sessions.open(claims)}", origin=OURS
    )


async def test_c6_the_api_tells_a_deactivated_person_whom_to_ask(firm: Firm) -> None:
    await settled(firm)
    client = api_of(firm, "omar@example.com")
    for method, path in (("GET", API), ("POST", "/v1/organizations/northwind/leave")):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "access_paused")
        assert answer.json()["contacts"] == [{"name": "Dana Weber", "email": "dana@example.com"}]
        assert "Dana Weber" in answer.json()["detail"]
    by_id = firm.organization_id("northwind")
    assert (await client.get(f"/v1/organizations/{by_id}/people")).status_code == 403


async def test_c6_the_pages_tell_a_deactivated_person_whom_to_ask(sqlite_firm: Firm) -> None:
    await settled(sqlite_firm)
    console = await console_of(sqlite_firm, "omar@example.com")
    for path in (PAGE, "/"):
        page = await console.get(path)
        assert page.status_code == 403
        assert "paused" in page.text
        assert "Northwind" in page.text
        assert "Dana Weber" in page.text


async def test_c6_everybody_else_gets_404(sqlite_firm: Firm) -> None:
    omar = await settled(sqlite_firm)
    for email in ("rhea@example.com", "sam@example.com"):
        assert (await api_of(sqlite_firm, email).get(API)).status_code == 404
        console = await console_of(sqlite_firm, email)
        page = await console.get(PAGE)
        assert page.status_code == 404
        assert "Dana" not in page.text
    nowhere = "/v1/organizations/nowhere/people"
    assert (await api_of(sqlite_firm, "omar@example.com").get(nowhere)).status_code == 404
    assert (await api_of(sqlite_firm, "omar@example.com").get("/v1/organizations/southwind/people")).status_code == 404
    removed = await sqlite_firm.api().delete(f"/v1/organizations/northwind/members/{omar}")
    assert removed.status_code == 200, removed.text
    assert (await api_of(sqlite_firm, "omar@example.com").get(API)).status_code == 404


async def test_c6_whose_whole_account_is_deactivated_is_told_so(sqlite_firm: Firm) -> None:
    omar = await settled(sqlite_firm)
    paused = sa.update(users).where(users.c.id == omar).values(is_active=False)
    sqlite_firm.services.db.write_sync(lambda conn: conn.execute(paused))
    answer = await api_of(sqlite_firm, "omar@example.com").get(API)
    assert (answer.status_code, answer.json()["code"]) == (403, "access_paused")
    assert [it["email"] for it in answer.json()["contacts"]] == ["dana@example.com"]
    page = await (await console_of(sqlite_firm, "omar@example.com")).get("/")
    assert page.status_code == 403
    assert "Dana Weber" in page.text


async def test_c6_who_is_banned_is_told_nothing(sqlite_firm: Firm) -> None:
    omar = await settled(sqlite_firm)
    banned = sa.update(users).where(users.c.id == omar).values(is_banned=True)
    sqlite_firm.services.db.write_sync(lambda conn: conn.execute(banned))
    answer = await api_of(sqlite_firm, "omar@example.com").get(API)
    assert (answer.status_code, answer.json()["reason"]) == (401, "barred")
    assert "Dana" not in answer.text
