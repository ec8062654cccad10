"""Actions on invitations from the console."""

import pytest

from tests.support.console import HOME, PARTIAL, console_of, invitation_id
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
ADA = "ada@example.com"


async def test_an_invitation_is_resent_and_has_a_cooldown(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        old = await invitation_id(sqlite_firm, ADA)
        done = await page.post(f"{HOME}/invitations/{old}/resend", data={"key": "k"}, headers=PARTIAL)
        new = await invitation_id(sqlite_firm, ADA)
        assert (f"resent to {ADA}" in done.headers["hx-trigger"], new in done.headers["hx-trigger"]) == (True, True)
        again = await page.post(f"{HOME}/invitations/{new}/resend", headers=PARTIAL)
        assert (again.status_code, "Try again in" in again.headers["hx-trigger"]) == (429, True)
        assert "Sent just now." in (await page.get(f"{HOME}/members")).text
        timeline = await page.get(f"{HOME}/invitations/{new}/timeline", headers=PARTIAL)
        assert "Resent" in timeline.text


async def test_the_link_is_shown_and_the_access_is_audited(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"{HOME}/invitations/{await invitation_id(sqlite_firm, ADA)}"
        assert 'data-copy="http' in (await page.post(f"{at}/link", headers=PARTIAL)).text
        assert "Copy invitation link" in (await page.get(f"{HOME}/audit")).text


async def test_revoking_is_confirmed_and_reported(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"{HOME}/invitations/{await invitation_id(sqlite_firm, ADA)}"
        assert f"Revoke the invitation of {ADA}?" in (await page.get(f"{at}/revoke", headers=PARTIAL)).text
        assert "revoked" in (await page.post(f"{at}/revoke", headers=PARTIAL)).headers["hx-trigger"]
        again = await page.post(f"{at}/revoke", headers=PARTIAL)
        assert (again.status_code, "Already revoked" in again.headers["hx-trigger"]) == (409, True)


async def test_a_list_is_previewed_then_sent(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        form = {"text": "bo@example.com, omar@example.com nonsense", "role": "org:member", "days": "7", "key": "k"}
        preview = await page.post(f"{HOME}/invitations/many", data={**form, "step": "preview"}, headers=PARTIAL)
        assert "1 person will be invited" in preview.text
        sent = await page.post(f"{HOME}/invitations/many", data={**form, "step": "send"}, headers=PARTIAL)
        assert sent.headers["hx-retarget"] == "#dialog"
        await sqlite_firm.services.executor.resume_due()
        batch = sent.text.partition("/invitations/batches/")[2].partition("?")[0]
        results = await page.get(f"{HOME}/invitations/batches/{batch}/results")
        assert [line.split(",")[3] for line in results.text.splitlines()] == ["status", "sent", "skipped", "skipped"]


async def test_selected_invitations_are_revoked_together(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        form = {"action": "revoke", "invitation": [await invitation_id(sqlite_firm, ADA), "inv_nothing"], "key": "k"}
        assert (await page.post(f"{HOME}/invitations/bulk", data=form, headers=PARTIAL)).status_code == 422
        answer = await page.post(f"{HOME}/invitations/bulk", data={**form, "word": "revoke"}, headers=PARTIAL)
        assert "1 done, 1 skipped" in answer.text
