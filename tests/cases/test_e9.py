"""E9: an empty or invalid key set never replaces a good one."""

from typing import Any

import pytest

from instep.clerk.jwks import MAX_KEY_AGE
from tests.support.tokens import session_token
from tests.support.world import Firm

pytestmark = pytest.mark.anyio

SEED = {
    "users": [{"email_address": "dana@example.com", "first_name": "Dana"}],
    "organizations": [
        {"name": "Northwind", "slug": "northwind", "members": [{"user": "dana@example.com", "role": "org:admin"}]}
    ],
}


@pytest.mark.parametrize("answer", [{}, {"keys": []}, {"keys": "none"}, {"keys": [{"kid": "ins_x", "kty": "oct"}]}])
async def test_e9_an_empty_key_set_never_replaces_a_good_one(
    sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    firm = sqlite_firm
    firm.emulator.seed(SEED | {"events": True})
    await firm.settle()

    async def read_people() -> int:
        token = session_token(firm, "dana@example.com", azp="http://127.0.0.1:8000")
        client = firm.api(None, authorization=f"Bearer {token}")
        return (await client.get("/v1/organizations/northwind/people")).status_code

    assert await read_people() == 200
    monkeypatch.setitem(vars(firm.emulator.site.keyring), "jwks", answer)
    for _ in range(3):
        firm.clock.at += MAX_KEY_AGE
        assert await read_people() == 200, "the key that was read before stays good"
