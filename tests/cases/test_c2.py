"""C2: session tokens of the application's own front end and of the Backend API, reasons in 401, and CORS."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from tests.support.tokens import session_token
from tests.support.world import Firm, make_firm

pytestmark = pytest.mark.anyio

APP, ADMIN = "https://app.example.com", "https://admin.example.com"
SEED: dict[str, Any] = {
    "users": [{"email_address": "dana@example.com", "first_name": "Dana"}],
    "organizations": [
        {"name": "Northwind", "slug": "northwind", "members": [{"user": "dana@example.com", "role": "org:admin"}]}
    ],
    "events": True,
}
PEOPLE = "/v1/organizations/northwind/people"


@pytest.fixture
async def firm(sqlite_migrated_url: str, clerk_key: str) -> AsyncIterator[Firm]:
    """A firm whose application has two front ends."""
    settings: dict[str, Any] = {
        "INSTEP_AUTHORIZED_PARTIES": f"{APP}, HTTPS://Admin.Example.com:443/",
        "INSTEP_CORS_ORIGINS": APP,
    }
    firm = make_firm(sqlite_migrated_url, private_key=clerk_key, **settings)
    firm.emulator.seed(SEED)
    await firm.settle()
    yield firm
    await firm.close()


async def ask(firm: Firm, token: str, **headers: str) -> Any:
    """Ask for the list with this bearer."""
    return await firm.api(None, authorization=f"Bearer {token}", **headers).get(PEOPLE)


@pytest.mark.parametrize("origin", [APP, ADMIN, "http://127.0.0.1:8000", None])
async def test_c2_a_token_of_the_applications_front_end_or_of_the_backend_api_is_accepted(
    firm: Firm, origin: str | None
) -> None:
    assert (await ask(firm, session_token(firm, "dana@example.com", azp=origin))).status_code == 200


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"azp": "https://evil.example"}, "party"),
        ({"azp": "http://app.example.com"}, "party"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"nbf": 4_000_000_000, "exp": 4_000_000_060}, "early"),
        ({"iss": "https://other.clerk.accounts.dev"}, "issuer"),
        ({"sts": "pending"}, "pending"),
        ({"sid": None}, "machine_token"),
    ],
)
async def test_c2_a_401_names_the_rule_that_refused_the_token(firm: Firm, claims: dict[str, Any], reason: str) -> None:
    answer = await ask(firm, session_token(firm, "dana@example.com", **claims))
    assert answer.status_code == 401
    assert (answer.json()["code"], answer.json()["reason"]) == ("unauthenticated", reason)
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_c2_a_401_says_how_a_front_end_is_allowed(firm: Firm) -> None:
    answer = await ask(firm, session_token(firm, "dana@example.com", azp="https://new.example"))
    assert "https://new.example" in answer.json()["detail"]
    assert "INSTEP_AUTHORIZED_PARTIES" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing"),
        ({"cookie": "instep_session=made-up"}, "session_over"),
        ({"authorization": "Bearer isk_made_up"}, "unknown_api_key"),
        ({"authorization": "Bearer isk_a.b.c"}, "unknown_api_key"),
        ({"authorization": "Bearer a.b.c"}, "malformed"),
        ({"authorization": "Bearer nonsense"}, "wrong_key"),
    ],
)
async def test_c2_every_401_has_a_reason(firm: Firm, headers: dict[str, str], reason: str) -> None:
    answer = await firm.api(None, **headers).get("/v1/users")
    assert (answer.status_code, answer.json()["reason"]) == (401, reason)


@pytest.fixture
def lines() -> Any:
    """Collect what is logged."""
    with structlog.testing.capture_logs() as found:
        yield found


async def test_c2_a_refusal_is_one_line_in_the_log_and_a_flood_is_bounded(lines: list[Any], firm: Firm) -> None:
    token = session_token(firm, "dana@example.com", azp="https://new.example")
    await ask(firm, token)
    (line,) = [it for it in lines if it["event"] == "authentication_failed"]
    assert (line["reason"], line["path"]) == ("party", PEOPLE)
    assert "https://new.example" in line["detail"]
    assert token not in str(lines)

    anonymous = firm.api(None)
    for _ in range(200):
        await anonymous.get("/v1/users")
    flood = [it for it in lines if it["event"] == "authentication_failed" and it["reason"] == "missing"]
    assert 1 <= len(flood) <= 20
    firm.clock.advance(60_000)
    await anonymous.get("/v1/users")
    assert lines[-1]["suppressed"] == 200 - len(flood)


async def test_c2_a_front_end_of_ours_may_call_the_api_across_origins(firm: Firm) -> None:
    client = firm.api(None, origin=APP)
    preflight = await client.options(
        PEOPLE,
        headers={
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "authorization, content-type, idempotency-key",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == APP
    assert "access-control-allow-credentials" not in preflight.headers
    answer = await ask(firm, session_token(firm, "dana@example.com", azp=APP), origin=APP)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
    refused = await client.get(PEOPLE)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == APP, "so that the page can read the reason"


@pytest.mark.parametrize("origin", [ADMIN, "https://evil.example", "null"])
async def test_c2_another_origin_may_not(firm: Firm, origin: str) -> None:
    answer = await ask(firm, session_token(firm, "dana@example.com"), origin=origin)
    assert "access-control-allow-origin" not in answer.headers
    preflight = await firm.api(None, origin=origin).options(PEOPLE, headers={"access-control-request-method": "GET"})
    assert "access-control-allow-origin" not in preflight.headers


async def test_c2_pages_are_not_for_other_origins(firm: Firm) -> None:
    answer = await firm.api(None, origin=APP).get("/sign-in")
    assert "access-control-allow-origin" not in answer.headers


async def test_c2_without_the_setting_no_origin_is_allowed(sqlite_firm: Firm) -> None:
    answer = await sqlite_firm.api(None, origin=APP).get("/v1/users")
    assert "access-control-allow-origin" not in answer.headers
