"""Pages that change members: a confirmation, one change, its outcome; and only from pages of ours."""

import pytest

from tests.support.console import HOME, PARTIAL, console_of, user_id
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def test_a_member_is_deactivated_and_comes_back(sqlite_firm: Firm) -> None:
    """The dialog shows the impact; the answer makes the page reload its list."""
    async with console_of(sqlite_firm) as page:
        at = f"{HOME}/members/{await user_id(sqlite_firm, 'omar@example.com')}"
        asked = await page.get(f"{at}/deactivate", headers=PARTIAL)
        assert "Deactivate Omar?" in asked.text
        assert "They lose access immediately." in asked.text
        for action, title in (("deactivate", "Omar is deactivated"), ("reactivate", "Omar is active again")):
            done = await page.post(f"{at}/{action}", data={"key": "k"}, headers=PARTIAL)
            assert (done.status_code, title in done.headers["hx-trigger"]) == (200, True)
            assert "people-changed" in done.headers["hx-trigger"]


async def test_a_role_is_changed_and_the_last_admin_stays(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        omar, dana = [await user_id(sqlite_firm, f"{name}@example.com") for name in ("omar", "dana")]
        done = await page.post(f"{HOME}/members/{omar}/role", data={"role": "org:admin"}, headers=PARTIAL)
        assert "Omar is now Admin" in done.headers["hx-trigger"]
        await page.post(f"{HOME}/members/{omar}/role", data={"role": "org:member"}, headers=PARTIAL)
        for action, form in (("role", {"role": "org:member"}), ("deactivate", {}), ("remove", {})):
            refused = await page.post(f"{HOME}/members/{dana}/{action}", data=form, headers=PARTIAL)
            assert (refused.status_code, "This is the last admin" in refused.headers["hx-trigger"]) == (409, True)
            assert "req_" in refused.headers["hx-trigger"]
        assert "This is the last admin" in (await page.get(f"{HOME}/members/{dana}/remove")).text


async def test_without_scripts_a_change_redirects_to_the_list(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"{HOME}/members/{await user_id(sqlite_firm, 'omar@example.com')}"
        assert "<!doctype html>" in (await page.get(f"{at}/remove")).text
        done = await page.post(f"{at}/remove")
        assert (done.status_code, done.headers["location"]) == (303, f"{HOME}/members")


async def test_a_form_of_another_site_changes_nothing(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"{HOME}/members/{await user_id(sqlite_firm, 'omar@example.com')}"
        for path in (f"{at}/role", f"{at}/deactivate", f"{at}/remove", f"{HOME}/members/bulk", f"{at}/edit"):
            foreign = await page.post(path, data={"role": "org:admin"}, headers={"origin": "https://evil.example"})
            assert foreign.status_code == 403
        for path in (f"{HOME}/invitations/x/revoke", f"{HOME}/invitations/x/link", f"{HOME}/leave", "/users", "/keys"):
            assert (await page.post(path, headers={"origin": "https://evil.example"})).status_code == 403


async def test_a_bulk_change_lists_the_selected_and_reports_each_outcome(sqlite_firm: Firm) -> None:
    """Whoever can't be changed is skipped with the reason; a grave action asks for a word."""
    async with console_of(sqlite_firm) as page:
        ids = [await user_id(sqlite_firm, f"{name}@example.com") for name in ("omar", "maya", "dana")]
        asked = await page.get(f"{HOME}/members/bulk", params={"action": "remove", "member": ids}, headers=PARTIAL)
        assert "Remove 3 people?" in asked.text
        form = {"action": "remove", "member": ids, "key": "k"}
        untyped = await page.post(f"{HOME}/members/bulk", data=form, headers=PARTIAL)
        assert untyped.status_code == 422
        result = await page.post(f"{HOME}/members/bulk", data={**form, "word": "remove"}, headers=PARTIAL)
        assert "2 done, 1 skipped" in result.text
        assert "This is the last admin." in result.text


async def test_the_filtered_list_is_exported(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        sheet = await page.get(f"{HOME}/members/export", params={"q": "omar", "format": "csv"})
        assert [line.split(",")[1] for line in sheet.text.splitlines()] == ["email", "omar@example.com"]
        whole = (await page.get(f"{HOME}/members/export", params={"format": "json"})).json()
        assert len(whole["data"]) == 4
