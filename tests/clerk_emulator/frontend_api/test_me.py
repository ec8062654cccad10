"""Frontend API: the signed-in user's profile, password, addresses, image, other sessions and deletion."""

import base64
import json

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Json, Receiver
from tests.clerk_emulator.frontend_api.browser_script import PATH, BrowserScript

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"
PNG = b"\x89PNG\r\n\x1a\n"


def new_script(emulator: Emulator) -> BrowserScript:
    """Clerk's script in a new browser."""
    transport = httpx2.ASGITransport(emulator)
    return BrowserScript(httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001"))


@pytest.fixture
async def ada(backend: Backend) -> Json:
    return await backend.user(password=PASSWORD, first_name="Ada")


@pytest.fixture
async def script(emulator: Emulator, ada: Json, receiver: Receiver) -> BrowserScript:
    """Ada's browser, signed in."""
    script = new_script(emulator)
    await script.sign_in("ada@example.com", PASSWORD)
    await emulator.webhooks.drain()
    receiver.got.clear()
    return script


async def test_the_profile_is_updated(script: BrowserScript, ada: Json, emulator: Emulator, receiver: Receiver) -> None:
    assert (await script("GET", "/me"))["id"] == ada["id"]
    changed = await script("PATCH", "/me", first_name="Ada M.", last_name="", unsafe_metadata='{"theme":"dark"}')
    assert (changed["first_name"], changed["last_name"]) == ("Ada M.", None)
    merged = await script("PATCH", "/me/metadata", unsafe_metadata='{"size":2}')
    assert merged["unsafe_metadata"] == {"theme": "dark", "size": 2}
    assert (await script.no("PATCH", "/me/metadata", unsafe_metadata="[]"))[0] == 422
    assert "private_metadata" not in changed
    await emulator.webhooks.drain()
    assert receiver.types == ["user.updated", "user.updated"]


async def test_users_cannot_write_public_or_private_metadata(
    script: BrowserScript, ada: Json, backend: Backend
) -> None:
    await script("PATCH", "/me", public_metadata='{"plan":"gold"}', external_id="ext_1", banned="false")
    user = await backend("GET", f"/users/{ada['id']}")
    assert (user["public_metadata"], user["external_id"]) == ({}, None)


async def test_a_new_password_signs_out_elsewhere(
    script: BrowserScript, emulator: Emulator, receiver: Receiver
) -> None:
    elsewhere = new_script(emulator)
    await elsewhere.sign_in("ada@example.com", PASSWORD)
    path = "/me/change_password"
    invalid = await script.no("POST", path, current_password="no", new_password="another good one")
    assert invalid == (422, "form_password_validation_failed")
    assert (await script.no("POST", path, new_password="another good one"))[1] == "form_param_missing"
    short = await script.no("POST", path, current_password=PASSWORD, new_password="short")
    assert short == (422, "form_password_length_too_short")
    fields = {"current_password": PASSWORD, "new_password": "another good one", "sign_out_of_other_sessions": "true"}
    assert (await script("POST", path, **fields))["password_enabled"]
    assert await elsewhere.no("GET", "/me") == (401, "signed_out")
    assert not (await script("POST", "/me/remove_password", current_password="another good one"))["password_enabled"]
    assert await script.no("POST", "/me/remove_password", current_password="x") == (400, "no_password_set")
    assert (await script("POST", path, new_password=PASSWORD))["password_enabled"]
    await emulator.webhooks.drain()
    assert [type_ for type_ in receiver.types if type_.startswith("session.")] == ["session.created", "session.revoked"]


async def test_another_device_is_listed_and_signed_out(
    script: BrowserScript, emulator: Emulator, backend: Backend
) -> None:
    elsewhere, stranger = new_script(emulator), new_script(emulator)
    await elsewhere.sign_in("ada@example.com", PASSWORD)
    await backend.user("bo@example.com", password=PASSWORD)
    await stranger.sign_in("bo@example.com", PASSWORD)
    active = await script("GET", "/me/sessions/active")
    assert len(active) == len(await script("GET", "/me/sessions")) == 2
    other = (await elsewhere.client())["sessions"][0]["id"]
    assert other in {session["id"] for session in active}
    assert await stranger.no("POST", f"/me/sessions/{other}/revoke") == (404, "resource_not_found")
    assert (await script("POST", f"/me/sessions/{other}/revoke"))["status"] == "revoked"
    assert await elsewhere.no("GET", "/me") == (401, "signed_out")
    assert len(await script("GET", "/me/sessions/active")) == 1


async def test_an_address_is_added_verified_made_primary_and_deleted(
    script: BrowserScript, ada: Json, emulator: Emulator, backend: Backend
) -> None:
    await backend.user("bo@example.com")
    taken = await script.no("POST", "/me/email_addresses", email_address="bo@example.com")
    assert taken == (422, "form_identifier_exists")
    created = await script("POST", "/me/email_addresses", email_address="New@Example.com")
    one = f"/me/email_addresses/{created['id']}"
    assert await script.no("POST", f"{one}/attempt_verification", code="1") == (400, "verification_missing")
    begun = await script("POST", f"{one}/prepare_verification", strategy="email_code")
    assert begun["verification"]["status"] == "unverified"
    assert await script.no("PATCH", "/me", primary_email_address_id=created["id"]) == (422, "form_verification_needed")
    assert await script.no("POST", f"{one}/attempt_verification", code="x") == (422, "form_code_incorrect")
    (code,) = [mail.code for mail in emulator.state.mail if mail.to == "new@example.com"]
    done = await script("POST", f"{one}/attempt_verification", code=code)
    assert done["verification"]["status"] == "verified"
    assert await script("GET", one) == done
    await script("PATCH", "/me", primary_email_address_id=created["id"])
    old = ada["email_addresses"][0]["id"]
    assert (await script("DELETE", f"/me/email_addresses/{old}"))["deleted"]
    assert [row["email_address"] for row in await script("GET", "/me/email_addresses")] == ["new@example.com"]
    assert await script.no("DELETE", one) == (400, "identification_deletion_failed")
    user = await backend("GET", f"/users/{ada['id']}")
    assert user["primary_email_address_id"] == created["id"]


async def test_a_number_is_added_verified_and_deleted(script: BrowserScript) -> None:
    created = await script("POST", "/me/phone_numbers", phone_number="+15555550100")
    one = f"/me/phone_numbers/{created['id']}"
    await script("POST", f"{one}/prepare_verification", strategy="phone_code")
    done = await script("POST", f"{one}/attempt_verification", code="424242")
    assert done["verification"]["status"] == "verified"
    assert (await script("PATCH", one, reserved_for_second_factor="true"))["reserved_for_second_factor"]
    assert (await script("GET", one))["phone_number"] == "+15555550100"
    assert len(await script("GET", "/me/phone_numbers")) == 1
    assert (await script("DELETE", one))["deleted"]
    assert await script.no("GET", one) == (404, "resource_not_found")


async def test_addresses_of_other_users_are_rejected(script: BrowserScript, backend: Backend) -> None:
    bo = await backend.user("bo@example.com")
    path = f"/me/email_addresses/{bo['email_addresses'][0]['id']}"
    assert await script.no("GET", path) == (404, "resource_not_found")
    assert await script.no("DELETE", path) == (404, "resource_not_found")


async def test_an_image_is_uploaded_as_a_file_or_as_the_body(
    script: BrowserScript, ada: Json, backend: Backend
) -> None:
    path = f"{PATH}/me/profile_image"
    for body in (
        {"files": {"file": ("me.png", PNG, "image/png")}},
        {"content": base64.b64encode(PNG), "headers": {"content-type": "application/octet-stream"}},
    ):
        answer = await script.http.post(path, **body)
        image = answer.json()["response"]["public_url"]
        assert (await script.http.get(image)).content == PNG
        assert (await backend("GET", f"/users/{ada['id']}"))["image_url"] == image
        await script("DELETE", "/me/profile_image")
        assert await script.no("DELETE", "/me/profile_image") == (404, "image_not_found")


async def test_the_account_is_deleted_if_allowed(
    script: BrowserScript, ada: Json, backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    await backend("PATCH", f"/users/{ada['id']}", {"delete_self_enabled": False})
    assert await script.no("DELETE", "/me") == (403, "user_delete_self_not_enabled")
    await backend("PATCH", f"/users/{ada['id']}", {"delete_self_enabled": True})
    assert (await script("DELETE", "/me"))["id"] == ada["id"]
    assert await script.no("GET", "/me") == (401, "signed_out")
    await emulator.webhooks.drain()
    assert json.loads(receiver.got[-1][1])["data"]["id"] == ada["id"]
    assert receiver.types[-1] == "user.deleted"
