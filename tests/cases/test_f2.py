"""On a fresh database everybody is told that nothing was synced yet, and nothing that is only so because of that."""

import httpx2
import pytest

from instep.app import doctor
from instep.clerk.client import ClerkClient
from instep.core.clock import HOUR, now
from tests.cases.support import acme, described
from tests.support.world import OURS, Firm

pytestmark = pytest.mark.anyio


@pytest.fixture
def firm(sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch) -> Firm:
    """A firm at the present time, whose doctor asks the emulator."""
    firm = sqlite_firm
    firm.clock.at = now() - HOUR
    key, url, transport = firm.emulator.secret_key, firm.emulator.site.url, httpx2.ASGITransport(app=firm.emulator)
    monkeypatch.setattr(doctor, "make_clerk", lambda _: ClerkClient(key, api_url=url, transport=transport))
    return firm


async def look(firm: Firm) -> dict[str, doctor.DiagnosticResult]:
    return {it.what: it for it in await doctor.run_diagnostics(firm.services.settings)}


async def half_arrived(firm: Firm) -> None:
    """Have three people in Clerk for an hour, of whom nothing was told, and a fourth by a webhook just now."""
    firm.emulator.seed(described(events=False))
    firm.clock.at = now()
    firm.emulator.seed({"users": [{"email_address": "new@example.com"}], "events": True})
    await firm.settle()


async def test_f2_the_doctor_says_that_nothing_was_synced_yet(firm: Firm) -> None:
    await half_arrived(firm)
    found = (await look(firm))["Webhook"]
    assert not found.is_good
    assert found.text.startswith("Nothing was synced yet. Missing here, or different: 3 people.")
    assert "instep sync apply" in found.text
    assert "min" not in found.text


async def test_f2_pages_and_api_say_that_nothing_was_synced_yet(firm: Firm) -> None:
    await half_arrived(firm)
    await firm.services.sync_services.freshness.check()
    told = (await firm.api().get("/v1/sync")).json()["freshness"]["warning"]
    assert told.startswith("Nothing was synced yet. Missing here, or different: 3 people.")
    token = await firm.services.sign_in_pages.sessions.open_break_glass()
    console = firm.api(None, cookie=f"instep_session={token}", origin=OURS)
    page = (await console.get("/sync")).text
    assert "Nothing was synced yet. Missing here, or different: 3 people." in page
    assert "No webhook for" not in page


async def test_f2_after_the_first_sync_the_webhook_is_what_is_spoken_of(firm: Firm) -> None:
    await half_arrived(firm)
    await firm.services.sync_services.sync.backfill(actor="test")
    assert (await look(firm))["Webhook"].is_good
    assert (await firm.services.sync_services.freshness.check()).warning is None


async def test_f2_a_webhook_that_arrives_is_not_called_quiet(firm: Firm) -> None:
    firm.clock.at = now() - 2 * HOUR
    await acme(firm)
    await firm.services.sync_services.sync.backfill(actor="test")
    firm.emulator.faults.add({"event": "user.updated", "do": "drop"})
    await firm.clerk().patch(f"/v1/users/{firm.user_id('ben@example.com')}", json={"first_name": "Lost"})
    firm.clock.at = now()
    firm.emulator.seed({"users": [{"email_address": "new@example.com"}], "events": True})
    await firm.settle()
    found = (await look(firm))["Webhook"]
    assert found.text == "Webhooks arrive, but not all of them. Missing here, or different: 1 person."


async def test_f2_before_anything_is_here_the_doctor_claims_nothing_of_it(firm: Firm) -> None:
    empty = await look(firm)
    assert empty["Webhook"].text == "no users in Clerk yet, and none here"
    assert empty["Admins"].text == "no organizations yet"
    assert all(it.is_good for it in (empty["Webhook"], empty["Admins"], empty["Sync"], empty["Deliveries"]))
    firm.emulator.seed(described(events=False))
    waiting = (await look(firm))["Webhook"]
    assert (waiting.is_good, waiting.text) == (False, "nothing was synced yet: run `instep sync apply`")
