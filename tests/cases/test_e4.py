"""E4: where the cookie says who asks, the browser must say that one of our pages does."""

import pytest

from tests.support.town import Town
from tests.support.world import KEY

pytestmark = pytest.mark.anyio

EVIL = {"origin": "https://evil.example"}
LEAVE = "/v1/organizations/northwind/leave"


@pytest.mark.parametrize("authorization", ["Basic x", "Digest a", "x", "Bearer", "Bearerx y", "", " "])
@pytest.mark.parametrize(
    "site", [EVIL, EVIL | {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {}], ids=str
)
async def test_e4_another_authorization_header_does_not_stand_in_for_the_origin(
    town: Town, authorization: str, site: dict[str, str]
) -> None:
    for who in ("member", "instance admin"):
        api = town.firm.api(None, **town.keys[who], authorization=authorization, **site)
        answer = await api.post(LEAVE)
        assert answer.status_code in (401, 403)
        assert answer.status_code == 403 or authorization == "Bearer"
    people = (await town.firm.api().get("/v1/organizations/northwind/people")).json()["data"]
    assert "omar@example.com" in str(people)


@pytest.mark.parametrize("method", ["PATCH", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_e4_no_method_gets_past_the_origin(town: Town, method: str) -> None:
    api = town.firm.api(None, **town.keys["instance admin"], authorization="Basic x", **EVIL)
    for path in ("/v1/users/usr_1", LEAVE, "/organizations/northwind/leave", "/sync/check", "/sign-out"):
        answer = await api.request(method, path)
        assert answer.status_code in (403, 404, 405), path
    assert (await town.firm.api(None, **town.keys["instance admin"]).get("/v1/users")).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_e4_no_content_type_gets_past_the_origin(town: Town, kind: str) -> None:
    api = town.firm.api(None, **town.keys["instance admin"], **EVIL, **({"content-type": kind} if kind else {}))
    answer = await api.post("/v1/users", content=b'{"email": "new@example.com"}')
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


async def test_e4_a_method_named_in_a_header_or_the_query_is_not_taken(town: Town) -> None:
    api = town.firm.api(None, **town.keys["member"], **EVIL, **{"x-http-method-override": "POST"})
    assert (await api.get(f"{LEAVE}?_method=POST")).status_code == 405


async def test_e4_a_program_with_a_key_needs_no_origin_on_the_api(town: Town) -> None:
    for extra in ({}, town.keys["member"]):
        answer = await town.firm.api(KEY, **EVIL, **extra).post(
            "/v1/users", json={"email": f"new{len(extra)}@example.com"}
        )
        assert answer.status_code == 201, answer.text


async def test_e4_our_own_pages_may_change_something(town: Town) -> None:
    api = town.firm.api(None, **town.keys["member"], **{"sec-fetch-site": "same-origin"})
    assert (await api.post(LEAVE)).status_code == 200
