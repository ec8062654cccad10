"""Backend API: phone numbers."""

import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio
NUMBER = "+4915551234567"


async def test_a_user_is_created_with_and_found_by_a_number(backend: Backend) -> None:
    created = await backend("POST", "/users", {"phone_number": ["+49 1555 123-4567"]})
    assert created["phone_numbers"][0]["phone_number"] == NUMBER
    assert created["primary_phone_number_id"] == created["phone_numbers"][0]["id"]
    assert [row["id"] for row in await backend("GET", "/users", phone_number=NUMBER)] == [created["id"]]
    assert [row["id"] for row in await backend("GET", "/users", query="1555123")] == [created["id"]]
    assert await backend.no("POST", "/users", {"phone_number": [NUMBER]}) == (422, "form_identifier_exists")
    error = await backend.no("DELETE", f"/phone_numbers/{created['primary_phone_number_id']}")
    assert error == (400, "identification_deletion_failed")


async def test_a_number_is_verified_by_a_code(backend: Backend, emulator: Emulator) -> None:
    ada = await backend.user()
    body = {"user_id": ada["id"], "phone_number": NUMBER}
    assert await backend.no("POST", "/phone_numbers", {**body, "primary": True}) == (422, "form_verification_needed")
    created = await backend("POST", "/phone_numbers", body)
    assert created["verification"] is None
    path = f"/phone_numbers/{created['id']}"
    proof = await backend("POST", f"{path}/prepare_verification")
    (text,) = emulator.state.mail
    assert (text.kind, text.to) == ("sms", NUMBER)
    tried = {"verification_id": proof["id"], "code": text.code}
    assert (await backend("POST", f"{path}/attempt_verification", tried))["status"] == "verified"
    assert (await backend("GET", path))["verification"]["strategy"] == "phone_code"


async def test_a_second_factor_is_set_and_removed(backend: Backend) -> None:
    ada = await backend.user()
    body = {"user_id": ada["id"], "phone_number": NUMBER, "verified": True, "reserved_for_second_factor": True}
    await backend("POST", "/phone_numbers", body)
    assert (await backend("GET", f"/users/{ada['id']}"))["two_factor_enabled"] is True
    await backend("DELETE", f"/users/{ada['id']}/mfa")
    assert (await backend("GET", f"/users/{ada['id']}"))["two_factor_enabled"] is False


async def test_one_number_replaces_all_others(backend: Backend) -> None:
    ada = await backend("POST", "/users", {"phone_number": [NUMBER, "+4915557654321"]})
    created = await backend("PUT", f"/users/{ada['id']}/phone_number", {"phone_number": "+4915550000000"})
    user = await backend("GET", f"/users/{ada['id']}")
    assert [one["id"] for one in user["phone_numbers"]] == [created["id"]] == [user["primary_phone_number_id"]]
    assert (await backend("POST", "/users", {"phone_number": [NUMBER]}))["id"] != ada["id"]
