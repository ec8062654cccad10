"""Backend API: users."""

from typing import Any

import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def create_users(backend: Backend, emulator: Emulator, count: int) -> list[str]:
    """Create users, a second apart, and return their ids, newest first."""
    ids = []
    for number in range(count):
        emulator.clock.advance(seconds=1)
        created = await backend.user(f"p{number}@example.com", first_name=f"P{number}", username=f"user{number}")
        ids.append(created["id"])
    return ids[::-1]


def ids_of(rows: Any) -> list[str]:
    return [row["id"] for row in rows]


async def test_an_address_belongs_to_one_user_whatever_its_case(backend: Backend) -> None:
    created = await backend.user("Ada@Example.com")
    assert created["email_addresses"][0]["email_address"] == "ada@example.com"
    assert created["email_addresses"][0]["verification"]["strategy"] == "admin"
    assert created["primary_email_address_id"] == created["email_addresses"][0]["id"]
    body = {"email_address": ["ADA@example.com"]}
    assert await backend.no("POST", "/users", body) == (422, "form_identifier_exists")


async def test_a_rejected_user_leaves_nothing_behind(backend: Backend, emulator: Emulator) -> None:
    await backend.user()
    body = {"email_address": ["new@example.com", "ada@example.com"], "username": "newby"}
    assert await backend.no("POST", "/users", body) == (422, "form_identifier_exists")
    await backend("POST", "/users", {"email_address": ["new@example.com"], "username": "newby"})
    assert len(emulator.state.users) == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "form_data_missing")),
        ({"email_address": ["no address"]}, (422, "form_param_format_invalid")),
        ({"email_address": "ada@example.com"}, (422, "form_param_value_invalid")),
        ({"email_address": ["a@b.co"], "password": "short"}, (422, "form_password_length_too_short")),
        ({"email_address": ["a@b.co"], "created_at": "yesterday"}, (422, "form_param_format_invalid")),
        ({"username": "adam", "public_metadata": {"a": "x" * 9_000}}, (422, "form_param_exceeds_allowed_size")),
        (["a@b.co"], (400, "request_body_invalid")),
    ],
)
async def test_invalid_users_are_rejected(backend: Backend, body: Any, expected: tuple[int, str]) -> None:
    assert await backend.no("POST", "/users", body) == expected


async def test_pages_are_newest_first_and_fit_together(backend: Backend, emulator: Emulator) -> None:
    ids = await create_users(backend, emulator, 7)
    assert ids_of(await backend("GET", "/users")) == ids
    assert ids_of(await backend("GET", "/users", limit=3, offset=2)) == ids[2:5]
    assert ids_of(await backend("GET", "/users", limit=3, order_by="+created_at")) == ids[::-1][:3]
    assert ids_of(await backend("GET", "/users", order_by="-first_name", limit=1)) == [ids[0]]
    assert (await backend("GET", "/users/count"))["total_count"] == 7


async def test_the_cursor_returns_all_users_and_is_strict(backend: Backend, emulator: Emulator) -> None:
    ids = await create_users(backend, emulator, 5)
    assert ids_of(await backend("GET", "/users", limit=2, starting_after=ids[1])) == ids[2:4]
    up = await backend("GET", "/users", starting_after=ids[1], order_by="created_at")
    assert ids_of(up) == [ids[0]]
    error = (422, "form_param_value_invalid")
    assert await backend.no("GET", "/users", starting_after=ids[1], order_by="-first_name") == error
    assert await backend.no("GET", "/users", starting_after=ids[1], offset=1) == error
    assert await backend.no("GET", "/users", starting_after="user_gone") == error


async def test_limits_are_1_to_500(backend: Backend, emulator: Emulator) -> None:
    await create_users(backend, emulator, 12)
    assert len(await backend("GET", "/users", limit=500)) == 12
    for query in ({"limit": 0}, {"limit": 501}, {"limit": "x"}, {"offset": -1}, {"order_by": "nonsense"}):
        assert (await backend.no("GET", "/users", **query))[0] == 422


async def test_filters_return_exactly_the_matching_users(backend: Backend, emulator: Emulator) -> None:
    ids = await create_users(backend, emulator, 4)
    await backend("POST", f"/users/{ids[0]}/ban")
    after = emulator.state.users.find(ids[1])
    assert after is not None
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"email_address": ["p0@example.com", "P1@example.com", "none@example.com"]}, ids[2:]),
        ({"user_id": [ids[1], f"+{ids[2]}"]}, ids[1:3]),
        ({"user_id": f"-{ids[1]}"}, [ids[0], *ids[2:]]),
        ({"query": "P1@EXAMPLE"}, [ids[2]]),
        ({"username": "user3"}, [ids[0]]),
        ({"name_query": "p2"}, [ids[1]]),
        ({"email_address_query": "p3@"}, [ids[0]]),
        ({"banned": "true"}, [ids[0]]),
        ({"banned": "false"}, ids[1:]),
        ({"created_at_after": after.created_at}, [ids[0]]),
        ({"created_at_before": after.created_at}, ids[2:]),
        ({"phone_number": "+15555550100"}, []),
        ({"last_active_at_after": 1}, []),
    ]
    for query, expected in cases:
        assert ids_of(await backend("GET", "/users", **query)) == expected, query
        assert (await backend("GET", "/users/count", **query))["total_count"] == len(expected), query


async def test_metadata_on_patch_is_for_the_older_version_only(backend: Backend) -> None:
    user = await backend.user()
    path, body = f"/users/{user['id']}", {"public_metadata": {"a": 1}}
    newest = {"__clerk_api_version": "2026-05-12"}
    assert await backend.no("PATCH", path, body, **newest) == (422, "form_param_deprecated")
    changed = await backend("PATCH", path, body, __clerk_api_version="2025-11-10")
    assert changed["public_metadata"] == {"a": 1}


async def test_metadata_merges_by_patch_and_is_replaced_by_put(backend: Backend) -> None:
    user = await backend.user(public_metadata={"a": {"b": 1}}, private_metadata={"keep": True})
    path = f"/users/{user['id']}/metadata"
    merged = await backend("PATCH", path, {"public_metadata": {"a": {"c": 2}}})
    assert merged["public_metadata"] == {"a": {"b": 1, "c": 2}}
    replaced = await backend("PUT", path, {"public_metadata": {}})
    assert (replaced["public_metadata"], replaced["private_metadata"]) == ({}, {"keep": True})


async def test_updated_at_increases_with_every_change_even_on_a_stopped_clock(backend: Backend) -> None:
    user = await backend.user()
    versions = [user["updated_at"]]
    for name in ("Bo", "Cy", "Di"):
        versions.append((await backend("PATCH", f"/users/{user['id']}", {"first_name": name}))["updated_at"])
    assert versions == sorted(set(versions))


async def test_banning_ends_all_sessions(backend: Backend) -> None:
    user = await backend.user()
    session = await backend("POST", "/sessions", {"user_id": user["id"]})
    assert (await backend("POST", f"/users/{user['id']}/ban"))["banned"] is True
    assert (await backend("GET", f"/sessions/{session['id']}"))["status"] == "revoked"
    assert await backend.no("POST", "/sessions", {"user_id": user["id"]}) == (403, "user_banned")
    assert (await backend("POST", f"/users/{user['id']}/unban"))["banned"] is False


async def test_bulk_bans_are_all_or_none(backend: Backend) -> None:
    one, two = await backend.user("a@example.com"), await backend.user("b@example.com")
    body = {"user_ids": [one["id"], two["id"]]}
    assert [user["banned"] for user in await backend("POST", "/users/ban", body)] == [True, True]
    assert (await backend.no("POST", "/users/unban", {"user_ids": [one["id"], "user_gone"]}))[0] == 404
    assert (await backend("GET", f"/users/{one['id']}"))["banned"] is True
    assert (await backend.no("POST", "/users/ban", {"user_ids": ["x"] * 51}))[0] == 422


async def test_a_lock_expires(backend: Backend, emulator: Emulator) -> None:
    user = await backend.user()
    locked = await backend("POST", f"/users/{user['id']}/lock")
    assert (locked["locked"], locked["lockout_expires_in_seconds"]) == (True, 3600)
    emulator.clock.advance(hours=1)
    assert (await backend("GET", f"/users/{user['id']}"))["locked"] is False


async def test_passwords_are_checked_and_never_shown(backend: Backend) -> None:
    user = await backend.user(password="correct horse battery")
    path = f"/users/{user['id']}/verify_password"
    assert "correct horse" not in str(user)
    assert await backend("POST", path, {"password": "correct horse battery"}) == {"verified": True}
    assert await backend.no("POST", path, {"password": "wrong horse"}) == (422, "incorrect_password")
    await backend("POST", f"/users/{user['id']}/remove_password", {})
    assert await backend.no("POST", path, {"password": "any"}) == (400, "no_password_set")


async def test_deleting_a_user_deletes_address_memberships_and_sessions(backend: Backend) -> None:
    organization, admin = await backend.firm()
    session = await backend("POST", "/sessions", {"user_id": admin["id"]})
    gone = await backend("DELETE", f"/users/{admin['id']}")
    assert gone == {"object": "user", "id": admin["id"], "deleted": True}
    assert await backend.no("GET", f"/users/{admin['id']}") == (404, "resource_not_found")
    assert (await backend("GET", f"/sessions/{session['id']}"))["status"] == "removed"
    members = await backend("GET", f"/organizations/{organization['id']}/memberships")
    assert members == {"data": [], "total_count": 0}
    await backend.user("ada@example.com")
