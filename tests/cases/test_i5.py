"""Whoever uploaded no picture has one all the same: their initials, from the emulator and from nowhere else."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import httpx2
import pytest

from clerk_emulator.pytest_plugin import Clerk
from tests.support.emulated import asking, asking_with_key, emulated

pytestmark = pytest.mark.anyio
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def clerk() -> Iterator[Clerk]:
    """Return an emulator in process with an organization of two, one of them without a name."""
    with emulated() as clerk:
        clerk.seed(
            users=[
                {"id": "user_ada", "email_address": "ada@example.com", "first_name": "Ada", "last_name": "North"},
                {"id": "user_bo", "email_address": "bo@example.com"},
            ],
            organizations=[
                {
                    "id": "org_firm",
                    "name": "Northwind Law",
                    "created_by": "user_ada",
                    "members": [{"user": "user_bo", "role": "org:member"}],
                    "invitations": [{"email_address": "cy@example.com", "inviter": "user_ada"}],
                }
            ],
        )
        yield clerk


def pictures(value: Any) -> Iterator[str]:
    """Walk the addresses of all pictures in an answer."""
    if isinstance(value, dict):
        yield from (found for name, found in value.items() if name in ("image_url", "profile_image_url"))
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from pictures(one)


async def drawing(http: httpx2.AsyncClient, address: str) -> str:
    """Return the letters of a picture, which has to be a harmless one."""
    answer = await http.get(address)
    assert answer.status_code == 200, address
    assert answer.headers["content-type"].partition(";")[0] == "image/svg+xml"
    assert answer.headers["access-control-allow-origin"] == "*"  # Clerk's components ask by CORS
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    root = ElementTree.fromstring(answer.text)  # noqa: S314 - it is the picture that is tested
    assert {element.tag for element in root.iter()} == {f"{SVG}svg", f"{SVG}rect", f"{SVG}text"}
    assert not any("href" in name or name.startswith("on") for element in root.iter() for name in element.attrib)
    return root.findtext(f"{SVG}text") or ""


async def test_i5_every_answer_shows_a_picture_that_the_emulator_serves(clerk: Clerk) -> None:
    async with asking_with_key(clerk) as http:
        for path in (
            "/users",
            "/users/user_ada",
            "/organizations",
            "/organizations/org_firm/memberships",
            "/organizations/org_firm/invitations",
            "/users/user_bo/organization_memberships",
        ):
            found = list(pictures((await http.get(f"/v1{path}")).json()))
            assert found, path
            for address in found:
                assert address.startswith(f"{clerk.emulator.site.url}/images/"), path
                assert await drawing(http, address), path


async def test_i5_browsers_and_webhooks_get_the_same(clerk: Clerk) -> None:
    async with asking(clerk) as http:
        await http.post("/sign-in", data={"user_id": "user_ada"})
        shown = list(pictures((await http.get("/__clerk/v1/client")).json()))
        clerk.emulator.state.touch_and_publish("user.updated", clerk.emulator.state.users.find("user_ada"))
        told = list(pictures(clerk.events[-1]["data"]))
        assert shown
        assert told
        assert {await drawing(http, address) for address in told} == {"AN"}
        assert {await drawing(http, address) for address in shown} == {"AN", "NL"}


async def test_i5_the_letters_follow_the_name_and_a_picture_replaces_them(clerk: Clerk) -> None:
    async with asking_with_key(clerk) as http:
        bo = (await http.get("/v1/users/user_bo")).json()
        assert (await drawing(http, bo["image_url"]), bo["has_image"]) == ("B", False)
        named = (await http.patch("/v1/users/user_bo", json={"first_name": "élan", "last_name": "Øst"})).json()
        assert await drawing(http, named["image_url"]) == "ÉØ"
        assert named["image_url"] != bo["image_url"]
        file = {"file": ("a.png", b"\x89PNG", "image/png")}
        photographed = (await http.post("/v1/users/user_bo/profile_image", files=file)).json()
        assert photographed["has_image"] is True
        assert (await http.get(photographed["image_url"])).headers["content-type"] == "image/png"


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\"'&>", "../..", "\ud800", "🦊 fox", " ", "%00"])
async def test_i5_no_name_breaks_the_picture(clerk: Clerk, name: str) -> None:
    async with asking_with_key(clerk) as http:
        body = json.dumps({"first_name": name, "last_name": name}).encode()
        headers = {"content-type": "application/json"}
        assert (await http.patch("/v1/users/user_ada", content=body, headers=headers)).status_code == 200
        shape = (await http.get("/v1/organizations/org_firm/invitations")).json()["data"][0]["public_inviter_data"]
        assert (await drawing(http, shape["image_url"])).isalnum()


@pytest.mark.parametrize("letters", ["<x", "&l", "ABC", "a b", "..", "<script>"])
async def test_i5_nothing_else_is_drawn(clerk: Clerk, letters: str) -> None:
    async with asking(clerk) as http:
        assert (await http.get(f"/images/initials/10/{quote(letters)}.svg")).status_code == 404
