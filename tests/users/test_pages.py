"""Pages of users: list, detail, edit, email change, ban, delete and restore."""

import pytest

from tests.support.console import HOME, PARTIAL, console_of, user_id
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def test_all_users_are_listed_and_found(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        assert (await page.get("/users")).text.count('data-kind="member"') == 3
        assert (await page.get("/users?q=omar", headers=PARTIAL)).text.count('data-kind="member"') == 1
        assert "No users found" in (await page.get("/users?status=banned", headers=PARTIAL)).text


async def test_a_profile_is_edited_on_both_sides(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"{HOME}/members/{await user_id(sqlite_firm, 'omar@example.com')}"
        assert "Omar" in (await page.get(at, headers=PARTIAL)).text
        form = {"first_name": "Omar", "last_name": "Haddad", "username": "", "key": "k"}
        assert "Saved" in (await page.post(f"{at}/edit", data=form, headers=PARTIAL)).headers["hx-trigger"]
        assert "Omar Haddad" in (await page.get(at)).text
        wrong = await page.post(f"{at}/edit", data={**form, "first_name": "x" * 300}, headers=PARTIAL)
        assert (wrong.status_code, "profile-first_name-error" in wrong.text) == (422, True)


async def test_a_new_address_leads_to_an_offer_to_invite_it(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"/users/{await user_id(sqlite_firm, 'omar@example.com')}"
        form = {"email": "omar@new.example", "key": "k"}
        offer = await page.post(f"{at}/email", data=form, headers=PARTIAL)
        assert (offer.headers["hx-retarget"], "is deactivated there" in offer.text) == ("#dialog", True)
        result = await page.post(f"{at}/email/reinvite", data=form, headers=PARTIAL)
        assert "omar@new.example invited" in result.text
        taken = await page.post(f"{at}/email", data={**form, "email": "nonsense"}, headers=PARTIAL)
        assert (taken.status_code, "profile-email-error" in taken.text) == (422, True)


async def test_an_account_is_banned_deleted_and_restored(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"/users/{await user_id(sqlite_firm, 'omar@example.com')}"
        for action, title in (("ban", "Omar banned"), ("unban", "Omar can sign in again")):
            assert (await page.get(f"{at}/{action}", headers=PARTIAL)).status_code == 200
            assert title in (await page.post(f"{at}/{action}", headers=PARTIAL)).headers["hx-trigger"]
        untyped = await page.post(f"{at}/delete", data={"clerk": "ban"}, headers=PARTIAL)
        assert "Confirmation text does not match" in untyped.headers["hx-trigger"]
        gone = await page.post(f"{at}/delete", data={"clerk": "ban", "word": "delete"}, headers=PARTIAL)
        assert "Omar deleted" in gone.headers["hx-trigger"]
        assert "Omar" in (await page.get("/users?status=deleted", headers=PARTIAL)).text
        assert "Omar restored" in (await page.post(f"{at}/restore", headers=PARTIAL)).headers["hx-trigger"]


async def test_a_user_is_created(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        form = {"email": "eve@example.com", "first_name": "Eve", "in_clerk": "1", "key": "k"}
        assert "Eve created" in (await page.post("/users", data=form, headers=PARTIAL)).headers["hx-trigger"]
        again = await page.post("/users", data={**form, "key": "other"}, headers=PARTIAL)
        assert (again.status_code, "already uses" in again.text) == (409, True)


async def test_a_user_of_another_organization_is_not_found(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        await page.post("/users", data={"email": "eve@example.com", "key": "k"}, headers=PARTIAL)
        found = (await sqlite_firm.api().get("/v1/users", params={"query": "eve"})).json()["data"][0]["id"]
        assert (await page.get(f"/users/{found}")).status_code == 200
        assert (await page.get(f"{HOME}/members/{found}")).status_code == 404


async def test_a_code_form_without_its_hidden_fields_is_refused_and_breaks_nothing(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        at = f"/users/{await user_id(sqlite_firm, 'omar@example.com')}"
        assert (
            400 <= (await page.post(f"{at}/email/verify", data={"code": "424242"}, headers=PARTIAL)).status_code < 500
        )
