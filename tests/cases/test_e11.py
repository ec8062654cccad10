"""Whatever answers in Clerk's place, its status is never ours: a provider's failure is a 503 problem of instep's."""

from typing import Any

import httpx2
import pytest

from tests.cases.support import acme
from tests.support.world import Firm
from tests.sync.world import no_pause

pytestmark = pytest.mark.anyio

NOT_CLERK = "<html><title>Corporate proxy</title></html>"


@pytest.fixture
async def api(sqlite_firm: Firm) -> httpx2.AsyncClient:
    """The API of a firm with an organization `acme` and its members."""
    await acme(sqlite_firm)
    sqlite_firm.services.sync_services.sync.source._pages._pause = no_pause  # type: ignore[attr-defined]
    return sqlite_firm.api()


def require_problem(answer: httpx2.Response, status: int, code: str) -> None:
    """Fail unless this is a problem document of instep's own."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)


def ada(firm: Firm) -> str:
    return firm.user_id("ada@example.com")


def ben(firm: Firm) -> str:
    return firm.user_id("ben@example.com")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_e11_a_redirect_of_clerks_is_not_passed_on(
    sqlite_firm: Firm, api: httpx2.AsyncClient, status: int
) -> None:
    sqlite_firm.emulator.fail("*", status=status, body=NOT_CLERK)
    for answer in (
        await api.get(f"/v1/users/{ada(sqlite_firm)}/sessions"),
        await api.post("/v1/sync/check"),
        await api.post("/v1/sync/plans"),
    ):
        require_problem(answer, 503, "temporarily_unavailable")
        assert answer.headers["retry-after"]
        assert "location" not in answer.headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 410, 413, 451])
async def test_e11_a_page_of_a_proxys_is_no_word_of_clerks(
    sqlite_firm: Firm, api: httpx2.AsyncClient, status: int
) -> None:
    sqlite_firm.emulator.fail("*", status=status, body=NOT_CLERK)
    require_problem(await api.get(f"/v1/users/{ada(sqlite_firm)}/sessions"), 503, "temporarily_unavailable")


@pytest.mark.parametrize("body", [NOT_CLERK, "", "null", "[]", '"ok"', "{"], ids=repr)
async def test_e11_an_answer_that_is_not_clerks_is_a_failure_of_the_provider(
    sqlite_firm: Firm, api: httpx2.AsyncClient, body: str
) -> None:
    sqlite_firm.emulator.fail("GetUsersCount", status=200, body=body)
    require_problem(await api.post("/v1/sync/check"), 503, "temporarily_unavailable")


async def test_e11_a_secret_key_that_clerk_refuses_is_not_the_callers_fault(
    sqlite_firm: Firm, api: httpx2.AsyncClient
) -> None:
    refusal = {"errors": [{"code": "clerk_key_invalid", "message": "No.", "long_message": "Invalid key."}]}
    sqlite_firm.emulator.fail("*", status=401, body=refusal)
    for answer in (await api.get(f"/v1/users/{ada(sqlite_firm)}/sessions"), await api.post("/v1/sync/check")):
        assert answer.status_code == 503
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("status", [302, 404])
async def test_e11_a_proxys_page_deletes_nobody(sqlite_firm: Firm, api: httpx2.AsyncClient, status: int) -> None:
    user = ben(sqlite_firm)
    sqlite_firm.emulator.fail("DeleteUser", status=status, body=NOT_CLERK)
    answer = await api.delete(f"/v1/users/{user}")
    assert answer.status_code in (202, 503)
    await require_alive(sqlite_firm, api, user)


async def test_e11_a_captive_portals_welcome_deletes_nobody(sqlite_firm: Firm, api: httpx2.AsyncClient) -> None:
    user = ben(sqlite_firm)
    sqlite_firm.emulator.fail("DeleteUser", status=200, body=NOT_CLERK)
    assert (await api.delete(f"/v1/users/{user}")).status_code in (202, 503)
    await require_alive(sqlite_firm, api, user)


async def test_e11_a_redirected_invitation_is_sent_once(sqlite_firm: Firm, api: httpx2.AsyncClient) -> None:
    sqlite_firm.emulator.fail("CreateOrganizationInvitation", status=302, body=NOT_CLERK, after_effect=True, count=1)
    wish: dict[str, Any] = {"email": "new@example.com", "role": "org:member"}
    answer = await api.post("/v1/organizations/acme/invitations", json=wish)
    assert answer.status_code in (201, 202), answer.text
    there = [it for it in sqlite_firm.emulator.state.organization_invitations if it.email_address == "new@example.com"]
    assert len(there) == 1


async def require_alive(firm: Firm, api: httpx2.AsyncClient, user: str) -> None:
    """Fail unless a person lives on both sides."""
    assert firm.emulator.state.users.find(user) is not None
    shown = await api.get(f"/v1/users/{user}")
    assert shown.json()["deleted_at"] is None
