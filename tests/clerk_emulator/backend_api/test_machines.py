"""Backend API: machines and their tokens."""

from typing import Any

import jwt
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Json

pytestmark = pytest.mark.anyio


async def ask(backend: Backend, secret: str, method: str, path: str, body: Any = None) -> tuple[int, Json]:
    """Call as a machine."""
    answer = await backend.http.request(method, f"/v1{path}", json=body, headers={"Authorization": f"Bearer {secret}"})
    return answer.status_code, answer.json()


async def test_a_token_is_valid_for_machines_in_its_scope(backend: Backend, emulator: Emulator) -> None:
    mailer = await backend("POST", "/machines", {"name": "Mailer"})
    archive = await backend("POST", "/machines", {"name": "Archive", "scoped_machines": [mailer["id"]]})
    stranger = await backend("POST", "/machines", {"name": "Stranger"})
    status, token = await ask(backend, mailer["secret_key"], "POST", "/m2m_tokens", {"seconds_until_expiration": 60})
    assert (status, token["scopes"]) == (201, [archive["id"]])
    body = {"token": token["token"]}
    assert (await ask(backend, archive["secret_key"], "POST", "/m2m_tokens/verify", body))[1]["subject"] == mailer["id"]
    assert (await ask(backend, stranger["secret_key"], "POST", "/m2m_tokens/verify", body))[0] == 404
    emulator.clock.advance(seconds=61)
    assert (await backend.no("POST", "/m2m_tokens/verify", body))[0] == 404
    assert (await ask(backend, mailer["secret_key"], "GET", "/users"))[0] == 401


async def test_a_token_is_reused_on_request(backend: Backend) -> None:
    secret = (await backend("POST", "/machines", {"name": "Mailer"}))["secret_key"]
    body = {"min_remaining_ttl_seconds": 60}
    tokens = [(await ask(backend, secret, "POST", "/m2m_tokens", body))[1]["id"] for _ in range(2)]
    assert tokens[0] == tokens[1]
    assert (await ask(backend, secret, "POST", "/m2m_tokens", {"min_remaining_ttl_seconds": 3600}))[0] == 400


async def test_a_signed_token_is_verified_offline(backend: Backend, emulator: Emulator) -> None:
    created = await backend("POST", "/machines", {"name": "Mailer"})
    data = {"token_format": "jwt", "claims": {"job": 7}}
    _, token = await ask(backend, created["secret_key"], "POST", "/m2m_tokens", data)
    claims = jwt.decode(token["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["job"]) == (created["id"], 7)
    assert jwt.get_unverified_header(token["token"])["cat"] == "cl_B7d4PD333AAA"
    assert emulator.site.keyring.read(token["token"]) == claims


async def test_a_rotated_secret_key_stays_valid_for_a_while(backend: Backend, emulator: Emulator) -> None:
    created = await backend("POST", "/machines", {"name": "Mailer"})
    await backend("POST", f"/machines/{created['id']}/secret_key/rotate", {"previous_token_ttl": 60})
    assert (await ask(backend, created["secret_key"], "POST", "/m2m_tokens", {}))[0] == 201
    emulator.clock.advance(seconds=61)
    assert (await ask(backend, created["secret_key"], "POST", "/m2m_tokens", {}))[0] == 401
