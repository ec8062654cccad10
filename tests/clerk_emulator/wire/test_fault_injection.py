"""Faults of operations."""

from typing import Any

import anyio
import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.wire.fault_injection import InvalidFaultError
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def test_a_status_fault_occurs_count_times_without_effect(backend: Backend, emulator: Emulator) -> None:
    emulator.faults.add({"operation": "CreateUser", "status": 500, "count": 2})
    body = {"email_address": ["ada@example.com"]}
    for _ in range(2):
        assert await backend.no("POST", "/users", body) == (500, "internal_clerk_error")
    assert not len(emulator.state.users)
    await backend("POST", "/users", body)


async def test_a_rate_limit_fault_has_retry_after(backend: Backend, emulator: Emulator) -> None:
    emulator.faults.add({"operation": "*", "status": 429, "retry_after": 7, "count": 1})
    answer = await backend.raw("GET", "/users")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["errors"][0]["code"] == "too_many_requests"


async def test_a_fault_of_an_operation_precedes_a_wildcard(backend: Backend, emulator: Emulator) -> None:
    emulator.faults.add({"operation": "*", "status": 503})
    emulator.faults.add({"operation": "GetUserList", "status": 504})
    assert (await backend.raw("GET", "/users")).status_code == 504
    assert (await backend.raw("GET", "/users/count")).status_code == 503


@pytest.mark.parametrize(("body", "content_type"), [([], "application/json"), ("<html>", "text/html; charset=utf-8")])
async def test_a_body_fault_replaces_the_response(
    backend: Backend, emulator: Emulator, body: Any, content_type: str
) -> None:
    emulator.faults.add({"operation": "GetUserList", "body": body})
    answer = await backend.raw("GET", "/users")
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert answer.text == (body if isinstance(body, str) else "[]")


async def test_an_error_after_the_effect(backend: Backend, emulator: Emulator) -> None:
    emulator.faults.add({"operation": "CreateUser", "status": 502, "after_effect": True, "count": 1})
    assert (await backend.raw("POST", "/users", {"email_address": ["ada@example.com"]})).status_code == 502
    assert len(emulator.state.users) == 1


@pytest.mark.parametrize(("when", "users"), [("before", 0), ("after", 1)])
async def test_a_hanging_call_ends_when_the_caller_gives_up(
    backend: Backend, emulator: Emulator, when: str, users: int
) -> None:
    emulator.faults.add({"operation": "CreateUser", "hang": when, "count": 1})
    with anyio.move_on_after(0.2) as scope:
        await backend.raw("POST", "/users", {"email_address": ["ada@example.com"]})
    assert scope.cancelled_caught
    assert len(emulator.state.users) == users


async def test_a_hanging_call_over_the_network_ends_when_the_caller_gives_up(served: Emulator) -> None:
    served.faults.add({"operation": "CreateUser", "hang": "after", "count": 1})
    headers = {"Authorization": f"Bearer {served.secret_key}"}
    async with httpx2.AsyncClient(base_url=served.site.url, headers=headers, timeout=0.3) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await http.post("/v1/users", json={"email_address": ["ada@example.com"]})
        assert (await http.get("/v1/users/count", timeout=5)).json()["total_count"] == 1


async def test_latency_is_waited_for(backend: Backend, emulator: Emulator) -> None:
    emulator.faults.add({"operation": "GetUserList", "latency_ms": 60_000})
    with anyio.move_on_after(0.2) as scope:
        await backend.raw("GET", "/users")
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"operation": "Nonsense", "status": 500},
        {"operation": "CreateUser"},
        {"operation": "CreateUser", "status": 99},
        {"operation": "CreateUser", "status": "500"},
        {"operation": "CreateUser", "hang": "sometimes"},
        {"operation": "CreateUser", "event": "user.created", "status": 500},
        {"event": "user.created", "do": "sing"},
        {"event": "user.sung", "do": "drop"},
        {"event": "user.created", "do": "drop", "nonsense": 1},
        {"event": "user.created", "do": ["drop"]},
        {"operation": ["CreateUser"], "status": 500},
        ["drop"],
    ],
)
async def test_an_invalid_fault_is_rejected(emulator: Emulator, data: Any) -> None:
    with pytest.raises(InvalidFaultError):
        emulator.faults.add(data)
