"""Rate limits."""

import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def count_until_refused(backend: Backend, method: str, path: str, body: object = None) -> tuple[int, int]:
    """Call until the response is 429; return the number of accepted calls and the retry delay."""
    for count in range(2_000):
        answer = await backend.raw(method, path, body)
        if answer.status_code == 429:
            assert answer.json()["errors"][0]["code"] == "too_many_requests"
            return count, int(answer.headers["retry-after"])
    raise AssertionError("never refused")


@pytest.mark.parametrize(("kind", "most"), [("development", 100), ("production", 1_000)])
async def test_a_key_is_limited_per_ten_sliding_seconds(
    emulator: Emulator, backend: Backend, kind: str, most: int
) -> None:
    emulator.clock.stop()
    emulator.state.settings.rate_limits = kind
    await backend.raw("GET", "/users/count")
    emulator.clock.advance(seconds=4)
    assert await count_until_refused(backend, "GET", "/users/count") == (most - 1, 6)
    assert (await backend.raw("GET", "/jwks")).status_code == 200
    emulator.clock.advance(seconds=6)
    assert await count_until_refused(backend, "GET", "/users/count") == (1, 4)
    emulator.clock.advance(seconds=10)
    assert (await backend.raw("GET", "/users/count")).status_code == 200


async def test_changes_are_limited_per_user(emulator: Emulator, backend: Backend) -> None:
    emulator.clock.stop()
    emulator.state.settings.rate_limits = "production"
    ada, bo = await backend.user(), await backend.user("bo@example.com")
    path = f"/users/{ada['id']}"
    for _ in range(5):
        await backend("PATCH", path, {"first_name": "A"})
        await backend("PATCH", f"{path}/metadata", {"public_metadata": {}})
    assert await count_until_refused(backend, "PATCH", path, {"first_name": "A"}) == (0, 10)
    assert (await backend.raw("PATCH", f"/users/{bo['id']}", {"first_name": "B"})).status_code == 200


async def test_organization_invitations_are_limited_to_250_per_hour(emulator: Emulator, backend: Backend) -> None:
    emulator.clock.stop()
    firm, _ = await backend.firm(max_allowed_memberships=0)
    emulator.state.settings.rate_limits = "production"
    path = f"/organizations/{firm['id']}/invitations"
    for number in range(250):
        await backend("POST", path, {"email_address": f"p{number}@example.com", "role": "org:member"})
    body = {"email_address": "late@example.com", "role": "org:member"}
    assert await count_until_refused(backend, "POST", path, body) == (0, 3600)


async def test_rate_limits_are_off_by_default(backend: Backend) -> None:
    answers = [await backend.raw("GET", "/users/count") for _ in range(120)]
    assert {answer.status_code for answer in answers} == {200}
