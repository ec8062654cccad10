"""Pages of API keys: a secret is shown once, and revoking takes effect immediately."""

import re

import pytest

from tests.support.console import PARTIAL, console_of
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def test_a_key_is_created_used_and_revoked(sqlite_firm: Firm) -> None:
    async with console_of(sqlite_firm) as page:
        assert "No API keys yet" in (await page.get("/keys")).text
        form = {"name": "payroll", "scopes": "read", "organization": ""}
        made = await page.post("/keys", data=form, headers=PARTIAL)
        found = re.search(r"isk_[\w-]+", made.text)
        assert found is not None
        secret = found[0]
        listed = (await page.get("/keys")).text
        assert ("payroll" in listed, secret in listed) == (True, False)
        api = sqlite_firm.api(secret)
        assert (await api.get("/v1/organizations/northwind-law/people")).status_code == 200
        key = listed.partition('id="revoke-')[2].partition('"')[0]
        assert "Revoke the API key payroll?" in (await page.get(f"/keys/{key}/revoke", headers=PARTIAL)).text
        assert "was revoked" in (await page.post(f"/keys/{key}/revoke", headers=PARTIAL)).headers["hx-trigger"]
        assert (await api.get("/v1/organizations/northwind-law/people")).status_code == 401


@pytest.mark.parametrize("form", [{"name": " ", "scopes": "read"}, {"name": "x"}, {"name": "x", "scopes": "root"}])
async def test_missing_fields_are_reported(sqlite_firm: Firm, form: dict[str, str]) -> None:
    async with console_of(sqlite_firm) as page:
        wrong = await page.post("/keys", data=form, headers=PARTIAL)
        assert (wrong.status_code, "field-error" in wrong.text) == (422, True)
