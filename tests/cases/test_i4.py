"""Clients of earlier versions of Clerk's API are served as those of the oldest version that the emulator knows."""

from collections.abc import Iterator

import pytest

from clerk_emulator.pytest_plugin import Clerk
from tests.support.emulated import asking_with_key, emulated

pytestmark = pytest.mark.anyio
OLDEST = "2025-11-10"
NEWEST = "2026-05-12"


@pytest.fixture
def clerk() -> Iterator[Clerk]:
    """Return an emulator in process with one user."""
    with emulated() as clerk:
        clerk.seed(users=[{"id": "user_ada", "email_address": "ada@example.com"}])
        yield clerk


@pytest.mark.parametrize("version", ["2025-04-10", "2025-03-12", "2024-10-01", "2021-02-05", None])
@pytest.mark.parametrize("by", ["header", "query"])
async def test_i4_an_earlier_version_or_none_is_served_as_oldest(clerk: Clerk, version: str | None, by: str) -> None:
    headers = {"Clerk-API-Version": version} if version and by == "header" else {}
    query = {"__clerk_api_version": version} if version and by == "query" else {}
    async with asking_with_key(clerk, **headers) as http:
        answer = await http.patch("/v1/users/user_ada", json={"public_metadata": {"a": 1}}, params=query)
    assert answer.status_code == 200  # the newest version takes no metadata there
    assert answer.json()["public_metadata"] == {"a": 1}
    assert answer.headers["warning"].startswith("299 clerk-emulator ")
    assert OLDEST in answer.headers["warning"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
async def test_i4_a_version_that_is_known_is_served_without_a_warning(clerk: Clerk, version: str) -> None:
    async with asking_with_key(clerk, **{"Clerk-API-Version": version}) as http:
        answer = await http.get("/v1/users")
    assert answer.status_code == 200
    assert "warning" not in answer.headers


async def test_i4_refusals_carry_the_warning_too(clerk: Clerk) -> None:
    async with asking_with_key(clerk, **{"Clerk-API-Version": "2025-04-10"}) as http:
        answer = await http.get("/v1/users/user_nobody")
    assert answer.status_code == 404
    assert OLDEST in answer.headers["warning"]


@pytest.mark.parametrize("version", ["1999-01-01", "2025-04-11", "2027-01-01", "none", "v1"])
async def test_i4_what_clerk_never_published_stays_400(clerk: Clerk, version: str) -> None:
    async with asking_with_key(clerk, **{"Clerk-API-Version": version}) as http:
        answer = await http.get("/v1/users")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "api_version_invalid")
