"""Frontend API: reverification within a session."""

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock
from tests.clerk_emulator.clients import Backend, Json
from tests.clerk_emulator.frontend_api.browser_script import BrowserScript, code_for

pytestmark = pytest.mark.anyio
PASSWORD = "a good one"


@pytest.fixture
async def ada(backend: Backend) -> Json:
    """A user with a password."""
    return await backend.user(password=PASSWORD)


@pytest.fixture
async def script(browser: httpx2.AsyncClient, ada: Json, clock: Clock) -> BrowserScript:
    """Clerk's script in a browser where Ada signed in twenty minutes ago."""
    script = BrowserScript(browser)
    await script.sign_in("ada@example.com", PASSWORD)
    clock.advance(minutes=20)
    return script


async def path_of(script: BrowserScript) -> str:
    """Return the path of the reverification."""
    return f"/client/sessions/{(await script.client())['last_active_session_id']}/verify"


async def ages(script: BrowserScript) -> list[int]:
    """Return the minutes since each factor was verified."""
    found: list[int] = (await script.client())["sessions"][0]["factor_verification_age"]
    return found


async def test_reverification_by_password(script: BrowserScript) -> None:
    path = await path_of(script)
    assert await ages(script) == [20, -1]
    proof = {"strategy": "password", "password": PASSWORD}
    early = await script.no("POST", f"{path}/attempt_first_factor", **proof)
    assert early == (400, "session_reverification_missing")
    begun = await script("POST", path, level="multi_factor")
    assert (begun["level"], begun["status"]) == ("first_factor", "needs_first_factor"), "there is no second factor"
    assert [one["strategy"] for one in begun["supported_first_factors"]] == ["password", "email_code"]
    invalid = await script.no("POST", f"{path}/attempt_first_factor", strategy="password", password="wrong guess")
    assert invalid == (422, "form_password_incorrect")
    done = await script("POST", f"{path}/attempt_first_factor", **proof)
    assert (done["status"], done["session"]["status"]) == ("complete", "active")
    assert await ages(script) == [0, -1]
    again = await script.no("POST", f"{path}/attempt_first_factor", **proof)
    assert again == (400, "invalid_action_for_session_reverification")


async def test_reverification_by_email_code(script: BrowserScript, emulator: Emulator) -> None:
    path = await path_of(script)
    await script("POST", path, level="first_factor")
    await script("POST", f"{path}/prepare_first_factor", strategy="email_code")
    fields = {"strategy": "email_code", "code": code_for(emulator, "ada@example.com")}
    assert (await script("POST", f"{path}/attempt_first_factor", **fields))["status"] == "complete"
    assert await ages(script) == [0, -1]


@pytest.mark.parametrize(("level", "expected"), [("second_factor", [20, 0]), ("multi_factor", [0, 0])])
async def test_reverification_by_second_factor(
    script: BrowserScript, backend: Backend, ada: Json, level: str, expected: list[int]
) -> None:
    phone = {"phone_number": "+15555550123", "verified": True, "reserved_for_second_factor": True}
    await backend("POST", "/phone_numbers", {"user_id": ada["id"], **phone})
    path = await path_of(script)
    begun = await script("POST", path, level=level)
    if level == "multi_factor":
        proof = {"strategy": "password", "password": PASSWORD}
        begun = await script("POST", f"{path}/attempt_first_factor", **proof)
    assert begun["status"] == "needs_second_factor"
    await script("POST", f"{path}/prepare_second_factor", strategy="phone_code")
    done = await script("POST", f"{path}/attempt_second_factor", strategy="phone_code", code="424242")
    assert (done["status"], await ages(script)) == ("complete", expected)


async def test_reverification_requires_an_active_session_and_a_known_level(script: BrowserScript) -> None:
    path = await path_of(script)
    assert await script.no("POST", path, level="third_factor") == (422, "form_param_value_invalid")
    await script("POST", f"{path.removesuffix('/verify')}/end")
    assert await script.no("POST", path, level="first_factor") == (401, "signed_out")
