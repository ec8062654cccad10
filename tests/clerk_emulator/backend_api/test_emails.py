"""Backend API: email addresses."""

import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def test_an_unverified_address_is_not_exclusive_and_never_primary(backend: Backend) -> None:
    ada, bo = await backend.user("ada@example.com"), await backend.user("bo@example.com")
    body = {"user_id": ada["id"], "email_address": "new@example.com"}
    created = await backend("POST", "/email_addresses", body)
    assert created["verification"] is None
    assert await backend.no("PATCH", f"/email_addresses/{created['id']}", {"primary": True}) == (
        422,
        "form_verification_needed",
    )
    primary = {"primary_email_address_id": created["id"]}
    assert (await backend.no("PATCH", f"/users/{ada['id']}", primary))[1] == "form_verification_needed"
    await backend("POST", "/email_addresses", {**body, "user_id": bo["id"], "verified": True})
    assert await backend.no("PATCH", f"/email_addresses/{created['id']}", {"verified": True}) == (
        422,
        "form_identifier_exists",
    )


async def test_changing_the_address_in_steps(backend: Backend) -> None:
    ada = await backend.user("old@example.com")
    body = {"user_id": ada["id"], "email_address": "new@example.com", "verified": True, "primary": True}
    new = await backend("POST", "/email_addresses", body)
    old = ada["primary_email_address_id"]
    assert (await backend("GET", f"/users/{ada['id']}"))["primary_email_address_id"] == new["id"]
    assert (await backend("DELETE", f"/email_addresses/{old}"))["deleted"] is True
    assert await backend.no("DELETE", f"/email_addresses/{new['id']}") == (400, "identification_deletion_failed")
    await backend.user("old@example.com")


async def test_replacing_all_addresses_at_once(backend: Backend) -> None:
    ada, _ = await backend.user("ada@example.com"), await backend.user("bo@example.com")
    path = f"/users/{ada['id']}/email_address"
    assert await backend.no("PUT", path, {"email_address": "bo@example.com"}) == (422, "form_identifier_exists")
    created = await backend("PUT", path, {"email_address": "ada@new.example"})
    user = await backend("GET", f"/users/{ada['id']}")
    assert [one["id"] for one in user["email_addresses"]] == [created["id"]] == [user["primary_email_address_id"]]
    reserved = await backend("PUT", path, {"email_address": "r@example.com", "identification_status": "reserved"})
    assert (reserved["reserved"], reserved["verification"]) == (True, None)
    assert (await backend.no("POST", "/users", {"email_address": ["r@example.com"]}))[0] == 422


async def test_a_code_verifies_and_a_wrong_one_is_a_result(backend: Backend, emulator: Emulator) -> None:
    ada = await backend.user()
    body = {"user_id": ada["id"], "email_address": "new+clerk_test@example.com"}
    path = f"/email_addresses/{(await backend('POST', '/email_addresses', body))['id']}"
    proof = await backend("POST", f"{path}/prepare_verification")
    assert not len(emulator.state.mail), "nothing is sent to a test address"
    invalid = {"verification_id": proof["id"], "code": "000000"}
    assert (await backend("POST", f"{path}/attempt_verification", invalid))["status"] == "unverified"
    right = {"verification_id": proof["id"], "code": "424242"}
    assert (await backend("POST", f"{path}/attempt_verification", right))["status"] == "verified"
    assert (await backend("GET", path))["verification"]["strategy"] == "email_code"
    again = await backend.no("POST", f"{path}/attempt_verification", right)
    assert again == (400, "verification_already_verified")
    late = await backend("POST", f"{path}/prepare_verification")
    emulator.clock.advance(minutes=11)
    tried = {"verification_id": late["id"], "code": "424242"}
    assert (await backend("POST", f"{path}/attempt_verification", tried))["status"] == "expired"
