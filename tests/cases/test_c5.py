"""C5: an API key makes nobody an instance admin, so that nothing of its making outlives its revocation."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from tests.support.tokens import session_token
from tests.support.world import Firm, make_firm

pytestmark = pytest.mark.anyio

SEED: dict[str, Any] = {
    "users": [
        {"email_address": "dana@example.com", "first_name": "Dana"},
        {"email_address": "omar@example.com", "first_name": "Omar"},
        {"email_address": "ivy@example.com", "first_name": "Ivy", "public_metadata": {"role": "admin"}},
    ],
    "organizations": [
        {
            "name": "Northwind",
            "slug": "northwind",
            "members": [{"user": "dana@example.com", "role": "org:admin"}, {"user": "omar@example.com"}],
            "invitations": [{"email_address": "root@example.com", "created_at": "-1d", "expires_at": "+4d"}],
        }
    ],
    "events": True,
}


@pytest.fixture
async def firm(sqlite_migrated_url: str, clerk_key: str) -> AsyncIterator[Firm]:
    """A firm whose settings name an address of an admin who has no account yet."""
    settings: dict[str, Any] = {"INSTEP_ADMINS": "root@example.com", "INSTEP_EMAIL_CHANGE": "force"}
    firm = make_firm(sqlite_migrated_url, private_key=clerk_key, **settings)
    firm.emulator.seed(SEED)
    await firm.settle()
    yield firm
    await firm.close()


async def key_of(firm: Firm) -> Any:
    """Return the API by an instance-wide key that may write."""
    scopes = frozenset({"read", "write"})
    _, secret = await firm.services.api_keys.create(
        BREAK_GLASS_PRINCIPAL, name="app", scopes=scopes, organization_id=None
    )
    return firm.api(secret)


async def id_of(firm: Firm, email: str) -> str:
    found = (await firm.api().get("/v1/users", params={"query": email})).json()["data"]
    (id,) = [it["id"] for it in found if it["email"] == email]
    return str(id)


async def escalations(firm: Firm) -> list[tuple[str, str, Any]]:
    """Return every way by which a key could make an admin, or become one."""
    omar, ivy = await id_of(firm, "omar@example.com"), await id_of(firm, "ivy@example.com")
    admin = {"role": "admin"}
    return [
        ("PATCH", f"/v1/users/{omar}", {"public_metadata": admin}),
        ("PATCH", f"/v1/users/{omar}", {"first_name": "O", "public_metadata": {**admin, "plan": "pro"}}),
        ("PATCH", f"/v1/users/{omar}", {"email": "root@example.com"}),
        ("POST", f"/v1/users/{omar}/email", {"email": "Root@Example.com"}),
        ("POST", "/v1/users", {"email": "new@example.com", "public_metadata": admin}),
        ("POST", "/v1/users", {"email": "new@example.com", "public_metadata": admin, "clerk": False}),
        ("POST", "/v1/users", {"email": "root@example.com"}),
        ("POST", "/v1/invitations", {"email": "new@example.com", "role": "admin"}),
        ("PATCH", f"/v1/users/{ivy}", {"public_metadata": {"role": None}}),
        ("PATCH", f"/v1/users/{ivy}", {"email": "thief@example.com"}),
        ("POST", f"/v1/users/{ivy}/email", {"email": "thief@example.com"}),
        ("POST", f"/v1/users/{ivy}/password", {"password": "correct horse battery"}),
        ("POST", f"/v1/users/{ivy}/ban", None),
        ("POST", f"/v1/users/{ivy}/unban", None),
        ("DELETE", f"/v1/users/{ivy}", None),
    ]


async def test_c5_a_key_makes_no_admin_and_becomes_none(firm: Firm) -> None:
    client, before = await key_of(firm), firm.state()
    for method, path, body in await escalations(firm):
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "rights_by_key"), f"{method} {path} {answer.text}"
    assert firm.state() == before


async def test_c5_a_key_makes_no_keys(firm: Firm) -> None:
    client = await key_of(firm)
    assert (await client.post("/v1/keys", json={"name": "another", "scopes": ["write"]})).status_code == 403


async def test_c5_a_person_whom_a_key_tried_to_make_admin_can_make_no_keys(firm: Firm) -> None:
    client, omar = await key_of(firm), await id_of(firm, "omar@example.com")
    await client.patch(f"/v1/users/{omar}", json={"public_metadata": {"role": "admin"}})
    await firm.settle()
    token = session_token(firm, "omar@example.com")
    person = firm.api(None, authorization=f"Bearer {token}")
    assert (await person.post("/v1/keys", json={"name": "mine"})).status_code == 403


async def test_c5_a_key_still_edits_what_gives_no_rights(firm: Firm) -> None:
    client = await key_of(firm)
    omar, ivy = await id_of(firm, "omar@example.com"), await id_of(firm, "ivy@example.com")
    for id, body in (
        (omar, {"public_metadata": {"role": "editor", "plan": "pro"}}),
        (omar, {"email": "omar.new@example.com"}),
        (ivy, {"first_name": "Ivana", "public_metadata": {"plan": "pro"}}),
    ):
        answer = await client.patch(f"/v1/users/{id}", json=body)
        assert answer.status_code == 200, answer.text
    made = await client.post("/v1/users", json={"email": "new@example.com", "public_metadata": {"role": "editor"}})
    assert made.status_code == 201, made.text
    assert (await client.get(f"/v1/users/{ivy}")).json()["role"] == "admin"


async def test_c5_an_instance_admin_still_makes_admins(firm: Firm) -> None:
    omar = await id_of(firm, "omar@example.com")
    token = session_token(firm, "ivy@example.com")
    client = firm.api(None, authorization=f"Bearer {token}")
    answer = await client.patch(f"/v1/users/{omar}", json={"public_metadata": {"role": "admin"}})
    assert answer.status_code == 200, answer.text


async def test_c5_the_link_for_an_admins_address_is_for_instance_admins_in_person(firm: Firm) -> None:
    """Whoever opens the link has proved the address, and with it would be an instance admin."""
    (invitation,) = [it["id"] for it in firm.state()["organization_invitations"]]
    path = f"/v1/organizations/northwind/invitations/{invitation}/link"
    dana = firm.api(None, authorization=f"Bearer {session_token(firm, 'dana@example.com')}")
    for client in (await key_of(firm), dana):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "rights_by_link")
    assert (await firm.api().get(path)).status_code == 200
