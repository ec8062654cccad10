"""Details of a user: sessions and invitations as Clerk has them, history, and setting a password."""

import pytest
import sqlalchemy as sa

from instep.domain.models import SessionClaims
from instep.operations.tables import operations
from tests.support.console import HOME, PARTIAL, console_of, user_id
from tests.support.world import Firm

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery staple"


async def at(firm: Firm) -> str:
    return f"/users/{await user_id(firm, 'omar@example.com')}"


async def sign_in(firm: Firm, email: str) -> str:
    async with firm.clerk() as clerk:
        made = await clerk.post("/v1/sessions", json={"user_id": firm.user_id(email)})
    return str(made.json()["id"])


async def test_sessions_are_read_when_the_details_are_opened_and_can_be_ended(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        here = await at(sqlite_firm)
        assert f'hx-get="{here}/details"' in (await page.get(here, headers=PARTIAL)).text
        assert "No active sessions." in (await page.get(f"{here}/details", headers=PARTIAL)).text
        session = await sign_in(sqlite_firm, "omar@example.com")
        assert f"sessions/end?session={session}" in (await page.get(f"{here}/details", headers=PARTIAL)).text
        question = (await page.get(f"{here}/sessions/end?session={session}", headers=PARTIAL)).text
        assert "End this session of Omar?" in question
        ended = await page.post(f"{here}/sessions/end", data={"session": session, "key": "k"}, headers=PARTIAL)
        assert "1 session ended" in ended.headers["hx-trigger"]
        assert "No active sessions." in (await page.get(f"{here}/details", headers=PARTIAL)).text


async def test_an_unavailable_clerk_is_shown_and_nothing_else_breaks(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        here = await at(sqlite_firm)
        sqlite_firm.emulator.fail("*", status=500)
        answer = await page.get(f"{here}/details", headers=PARTIAL)
        assert (answer.status_code, "Sessions could not be loaded from Clerk." in answer.text) == (200, True)


async def test_sent_invitations_are_those_of_this_organization(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        body = {
            "email_address": "eve@example.com",
            "role": "org:member",
            "inviter_user_id": sqlite_firm.user_id("dana@example.com"),
        }
        async with sqlite_firm.clerk() as clerk:
            organization = sqlite_firm.organization_id("northwind-law")
            await clerk.post(f"/v1/organizations/{organization}/invitations", json=body)
        dana = await user_id(sqlite_firm, "dana@example.com")
        shown = (await page.get(f"{HOME}/members/{dana}/details", headers=PARTIAL)).text
        assert ("eve@example.com" in shown, "ada@example.com" in shown) == (True, False)
        omar = await user_id(sqlite_firm, "omar@example.com")
        assert "Invitations sent" not in (await page.get(f"{HOME}/members/{omar}/details", headers=PARTIAL)).text


async def test_the_history_shows_webhooks_and_operations(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        omar = await user_id(sqlite_firm, "omar@example.com")
        await page.post(f"{HOME}/members/{omar}/role", data={"role": "org:admin", "key": "k"}, headers=PARTIAL)
        await sqlite_firm.settle()
        story = (await page.get(f"{HOME}/people/{omar}/story", headers=PARTIAL)).text
        assert ("Change role" in story, "User changed in Clerk" in story) == (True, False)
        above = (await page.get(f"/people/{omar}/story", headers=PARTIAL)).text
        assert above.index("Change role") < above.index("User changed in Clerk")
        assert "No activity yet." in (await page.get(f"{HOME}/people/usr_none/story", headers=PARTIAL)).text


async def test_a_password_is_set_by_clerks_rules_and_stored_nowhere(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        here = await at(sqlite_firm)
        assert "autocomplete=" in (await page.get(f"{here}/password", headers=PARTIAL)).text
        short = await page.post(f"{here}/password", data={"password": "short", "key": "k"}, headers=PARTIAL)
        assert (short.status_code, "Clerk does not accept this password" in short.text) == (422, True)
        assert 'value="short"' not in short.text
        done = await page.post(f"{here}/password", data={"password": PASSWORD, "key": "k2"}, headers=PARTIAL)
        assert "Password of Omar set" in done.headers["hx-trigger"]
        rows = sqlite_firm.services.db.read_sync(lambda conn: conn.execute(sa.select(operations)).all())
        assert not [row for row in rows if PASSWORD in repr(row) or "'short'" in repr(row)]


async def test_a_member_sees_neither_sessions_nor_history_of_another(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        dana, maya = [await user_id(sqlite_firm, f"{name}@example.com") for name in ("dana", "maya")]
        session = await sign_in(sqlite_firm, "maya@example.com")
        token = await sqlite_firm.services.authenticator.sessions.adopt(
            claims(sqlite_firm, "maya@example.com", session)
        )
        page.headers["cookie"] = f"instep_session={token}"
        shown = (await page.get(f"{HOME}/members/{dana}", headers=PARTIAL)).text
        assert ("person-details" in shown, "person-story" in shown) == (False, False)
        assert "Sessions" not in (await page.get(f"{HOME}/members/{dana}/details", headers=PARTIAL)).text
        assert (await page.get(f"{HOME}/members/{dana}/sessions/end", headers=PARTIAL)).status_code == 403
        assert session in (await page.get(f"{HOME}/members/{maya}/details", headers=PARTIAL)).text


def claims(firm: Firm, email: str, session: str) -> SessionClaims:
    return SessionClaims(user=firm.user_id(email), session=session)
