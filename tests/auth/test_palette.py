"""Palette on the server: results are limited to what the reader may see."""

import re
from typing import Any

import pytest

from tests.support.town import BROWSER, Town

pytestmark = pytest.mark.anyio

PARTIAL = {"hx-request": "true", "hx-request-type": "partial"}


async def find(town: Town, who: str, q: str, at: str = "", path: str = "/commands") -> dict[str, str]:
    """What somebody finds: the addresses by name."""
    params: dict[str, Any] = {"q": q, "at": at}
    answer = await town.firm.api(None, **town.keys[who], **BROWSER, **PARTIAL).get(path, params=params)
    assert answer.status_code == 200
    lines = re.findall(r'<a class="menu-item[^"]*"[^>]*href="([^"]*)".*?class="menu-text">(.*?)<', answer.text, re.S)
    return {name: href for href, name in lines}


@pytest.mark.parametrize(
    ("who", "at", "people"),
    [
        ("admin", "northwind", {"Omar"}),
        ("member", "northwind", {"Omar"}),
        ("admin", "", set()),
        ("other admin", "northwind", set()),
        ("stranger", "northwind", set()),
        ("instance admin", "", {"Omar"}),
        ("instance admin", "southwind", {"Omar"}),
        ("break-glass", "northwind", {"Omar"}),
    ],
)
async def test_people_are_found_where_the_reader_may_see_them(town: Town, who: str, at: str, people: set[str]) -> None:
    assert set(await find(town, who, "omar", at)) == people


async def test_a_person_is_found_once_in_the_current_organization(town: Town) -> None:
    assert (await find(town, "admin", "dana", "northwind"))["Dana"].startswith("/organizations/northwind/members/usr_")
    within = await find(town, "instance admin", "dana", "northwind")
    assert within["Dana"].startswith("/organizations/northwind/members/usr_")
    assert (await find(town, "instance admin", "rhea", "northwind"))["Rhea"].startswith("/users/usr_")


@pytest.mark.parametrize("path", ["/commands", "/places"])
async def test_own_organizations_are_found(town: Town, path: str) -> None:
    assert set(await find(town, "admin", "wind", path=path)) == {"Northwind Law"}
    assert set(await find(town, "instance admin", "wind", path=path)) == {"Northwind Law", "Southwind"}
    assert await find(town, "admin", "southwind", path=path) == {}


async def test_without_scripts_the_palette_is_a_page(town: Town) -> None:
    client = town.firm.api(None, **town.keys["admin"], **BROWSER)
    page = (await client.get("/commands", params={"q": "invite", "at": "northwind"})).text
    assert "<h1>Search</h1>" in page
    assert 'href="/organizations/northwind/invitations/new"' in page
    assert "Nothing matches" in (await client.get("/commands", params={"q": "zzz\0%"})).text
