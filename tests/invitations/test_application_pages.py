"""Console pages of application invitations."""

import re

import pytest

from instep.core.clock import DAY, MINUTE
from instep.invitations.models import DEFAULT_EXPIRY_DAYS
from tests.support.console import PARTIAL, console_of
from tests.support.world import Firm

pytestmark = pytest.mark.anyio

FORM = {"email": "eve@example.com", "role": "member", "expires_in_days": "3", "notify": "1", "key": "k"}


def ids(firm: Firm) -> list[tuple[str, str]]:
    """Return id and status of all application invitations in Clerk, oldest first."""
    return [(it.id, it.status(firm.emulator.state.now)) for it in firm.emulator.state.invitations.oldest_first()]


async def test_a_person_is_invited_resent_and_revoked(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        assert "No invitations to the application" in (await page.get("/invitations")).text
        assert 'id="app-form"' in (await page.get("/invitations/new", headers=PARTIAL)).text
        sent = await page.post("/invitations", data=FORM, headers=PARTIAL)
        assert "Invitation sent to eve@example.com" in sent.headers["hx-trigger"]
        ((first, _),) = ids(sqlite_firm)
        again = await page.post(f"/invitations/{first}/resend", headers=PARTIAL)
        assert "Invitation sent to eve@example.com" in again.headers["hx-trigger"]
        (_, was), (second, now) = ids(sqlite_firm)
        assert (was, now) == ("revoked", "pending")
        soon = await page.post(f"/invitations/{second}/resend", headers=PARTIAL)
        assert "was just resent" in soon.headers["hx-trigger"]
        listed = (await page.get("/invitations", headers=PARTIAL)).text
        assert re.findall(r'id="row-(\w+)"', listed) == [second]
        assert (
            "Revoke the invitation of eve@example.com?"
            in (await page.get(f"/invitations/{second}/revoke", headers=PARTIAL)).text
        )
        gone = await page.post(f"/invitations/{second}/revoke", data={"key": "r"}, headers=PARTIAL)
        assert "Invitation revoked" in gone.headers["hx-trigger"]
        assert first in (await page.get("/invitations?status=revoked", headers=PARTIAL)).text


async def test_a_resent_invitation_keeps_its_duration_and_role(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        await page.post("/invitations", data={**FORM, "role": "admin"}, headers=PARTIAL)
        ((first, _),) = ids(sqlite_firm)
        sqlite_firm.clock.advance(2 * MINUTE)
        await page.post(f"/invitations/{first}/resend", headers=PARTIAL)
        old, new = sqlite_firm.emulator.state.invitations.oldest_first()
        assert new.public_metadata["role"] == old.public_metadata["role"] == "admin"
        assert abs((new.expires_at - new.created_at) - (old.expires_at - old.created_at)) < MINUTE


@pytest.mark.parametrize("profile", ["minimal"], indirect=True)
async def test_a_resent_invitation_keeps_its_duration_where_clerk_omits_it(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        await page.post("/invitations", data=FORM, headers=PARTIAL)
        for times in (1, 2):
            newest, _ = ids(sqlite_firm)[-1]
            sqlite_firm.clock.advance(2 * MINUTE)
            await page.post(f"/invitations/{newest}/resend", headers=PARTIAL)
            assert len(ids(sqlite_firm)) == times + 1
        lasts = [it.expires_at - it.created_at for it in sqlite_firm.emulator.state.invitations.oldest_first()]
        assert {round(it / DAY) for it in lasts} == {3}


async def test_a_resent_invitation_of_unknown_duration_gets_the_default(
    sqlite_firm: Firm,
) -> None:
    sqlite_firm.emulator.state.settings.omitted = ["invitation.expires_at"]
    async with console_of(sqlite_firm) as page:
        body = {
            "email_address": "eve@example.com",
            "expires_in_days": 20,
            "public_metadata": {"instep_operation": "op_none"},
        }
        assert (await sqlite_firm.clerk().post("/v1/invitations", json=body)).is_success
        ((first, _),) = ids(sqlite_firm)
        sqlite_firm.clock.advance(2 * MINUTE)
        await page.post(f"/invitations/{first}/resend", headers=PARTIAL)
        _, new = sqlite_firm.emulator.state.invitations.oldest_first()
        assert round((new.expires_at - new.created_at) / DAY) == DEFAULT_EXPIRY_DAYS


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "nonsense"}, "app-email-error"),
        ({"role": "Not A Role"}, "app-role-error"),
        ({"expires_in_days": "999"}, "app-expires_in_days-error"),
        ({"expires_in_days": "x"}, "app-expires_in_days-error"),
        ({"organization": "northwind-law"}, "app-organization-error"),
        ({"email": "omar@example.com"}, "app-email-error"),
    ],
)
async def test_an_error_is_shown_at_its_field(sqlite_firm: Firm, change: dict[str, str], field: str) -> None:
    async with console_of(sqlite_firm) as page:
        wrong = await page.post("/invitations", data=FORM | change, headers=PARTIAL)
        assert (wrong.status_code >= 400, field in wrong.text) == (True, True)
        assert ids(sqlite_firm) == []


async def test_an_outage_of_clerk_is_a_warning_and_unknown_ids_are_not_found(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        assert (await page.get("/invitations/inv_none/revoke", headers=PARTIAL)).status_code == 404
        assert (await page.post("/invitations/inv_none/resend", headers=PARTIAL)).status_code == 404
        sqlite_firm.emulator.fail("*", status=500)
        shown = await page.get("/invitations")
        assert (shown.status_code, "Retry" in shown.text) == (200, True)


async def test_a_failed_resend_is_finished_by_the_worker(sqlite_firm: Firm) -> None:
    """There is one invitation in the end."""
    async with console_of(sqlite_firm) as page:
        await page.post("/invitations", data=FORM, headers=PARTIAL)
        ((first, _),) = ids(sqlite_firm)
        sqlite_firm.emulator.fail("CreateInvitation", status=429, retry_after=60, count=1)
        assert (await page.post(f"/invitations/{first}/resend", headers=PARTIAL)).status_code == 202
        sqlite_firm.clock.advance(2 * MINUTE)
        await sqlite_firm.services.executor.resume_due()
        assert [status for _, status in ids(sqlite_firm)] == ["revoked", "pending"]


async def test_resending_twice_with_one_idempotency_key_creates_one_invitation(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        await page.post("/invitations", data=FORM, headers=PARTIAL)
        ((first, _),) = ids(sqlite_firm)
        path, key = f"/v1/invitations/{first}/resend", {"idempotency-key": "once"}
        answers = [await sqlite_firm.api().post(path, headers=key) for _ in range(2)]
        assert [it.status_code for it in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()
        assert [status for _, status in ids(sqlite_firm)] == ["revoked", "pending"]
