"""The pages of sync: a page asks, a worker runs; what differs is shown as before and after, and mended as chosen."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from instep.core.clock import HOUR, MINUTE
from instep.sync import repository
from instep.sync.models import Freshness, Run
from tests.support.console import HOME, PARTIAL, console_of
from tests.support.world import KEY, Firm, make_firm

pytestmark = pytest.mark.anyio


@pytest.fixture
def firm(sqlite_firm: Firm) -> Firm:
    """The statements are proven on both databases in test_run_queue."""
    return sqlite_firm


@pytest.fixture
async def pages(firm: Firm) -> AsyncIterator[httpx2.AsyncClient]:
    async with console_of(firm) as client:
        yield client


async def work(firm: Firm) -> None:
    """What a worker does within a second."""
    while await firm.services.sync_services.run_queue.run_once():
        pass


async def drift(firm: Firm) -> None:
    """Clerk changes three things, and no webhook comes."""
    clerk = firm.clerk()
    maya, omar = firm.user_id("maya@example.com"), firm.user_id("omar@example.com")
    organization = firm.organization_id("northwind-law")
    answers = [
        await clerk.patch(f"/v1/users/{maya}", json={"first_name": "Maja"}),
        await clerk.patch(f"/v1/organizations/{organization}/memberships/{omar}", json={"role": "org:admin"}),
        await clerk.post("/v1/users", json={"email_address": ["nadia@example.com"], "first_name": "Nadia"}),
    ]
    assert all(it.is_success for it in answers), [it.text for it in answers]


async def last_run(firm: Firm) -> Run:
    return (await firm.services.db.read(repository.list_stored_runs, limit=1))[0]


async def planned(firm: Firm, pages: httpx2.AsyncClient) -> str:
    """The address of a plan that was asked for on the page and made by a worker."""
    asked = await pages.post("/sync/plan")
    assert asked.status_code == 303
    await work(firm)
    return str(asked.headers["location"])


async def test_a_check_is_requested_on_the_page_and_executed_by_a_worker(firm: Firm, pages: httpx2.AsyncClient) -> None:
    assert "Never" in (await pages.get("/sync")).text
    assert (await pages.post("/sync/check")).headers["location"] == "/sync"
    waiting = (await pages.get("/sync")).text
    assert "waiting for a worker" in waiting
    assert 'hx-trigger="every 2s"' in waiting
    await work(firm)
    done = (await pages.get("/sync")).text
    assert "Clerk and the database are in sync." in done
    assert "waiting for a worker" not in done
    run = await last_run(firm)
    assert (run.kind, run.state, run.actor) == ("check", "done", "break_glass")


async def test_only_one_run_is_requested_at_a_time_and_can_be_withdrawn(firm: Firm, pages: httpx2.AsyncClient) -> None:
    await pages.post("/sync/check")
    second = await pages.post("/sync/check", headers=PARTIAL)
    assert second.status_code == 409
    assert "Only one runs at a time" in second.headers["hx-trigger"]
    run = await last_run(firm)
    assert (await pages.post(f"/sync/runs/{run.id}/withdraw")).status_code == 303
    assert await firm.services.sync_services.run_queue.run_once() == 0
    assert (await last_run(firm)).state == "stopped"
    assert (await pages.post(f"/sync/runs/{run.id}/withdraw")).status_code == 409


async def test_a_plan_shows_before_and_after_and_selected_rows_are_fixed(firm: Firm, pages: httpx2.AsyncClient) -> None:
    await drift(firm)
    path = await planned(firm, pages)
    page = (await pages.get(path)).text
    assert re.search(r'diff-before">.*?<bdi>Maya</bdi>.*?diff-after">.*?<bdi>Maja</bdi>', page, re.DOTALL)
    assert re.search(r'diff-before">.*?<bdi>org:member</bdi>.*?<bdi>org:admin</bdi>', page, re.DOTALL)
    assert re.search(r'First name<span class="badge diff-owner"[^>]*>.*?Clerk</span>', page, re.DOTALL)
    assert "Plan hash" in page
    assert "valid for 14 min" in page
    assert "Users <strong>4</strong> of <strong>4</strong>" in page
    rows = await firm.services.db.read(repository.list_findings, path.rpartition("/")[2])
    name = next(it.number for it in rows if it.finding.kind == "field_differs")
    question = (await pages.get(f"{path}/apply?row={name}")).text
    assert "Fix 1 row?" in question
    assert "1 row is written to the database." in question
    assert (await pages.post(f"{path}/apply", data={"row": str(name)})).status_code == 303
    await work(firm)
    rows = await firm.services.db.read(repository.list_findings, path.rpartition("/")[2])
    assert [it.number for it in rows if it.outcome == "applied"] == [name]
    after = (await pages.get(path)).text
    assert "Fixed" in after
    assert "Apply all 2 rows" in after
    results = (await pages.get(f"/sync/runs/{(await last_run(firm)).id}")).text
    assert "1 fixed" in results
    assert "Maja" in results
    assert "org:admin" not in results


async def test_all_rows_are_fixed_and_both_sides_are_in_sync(firm: Firm, pages: httpx2.AsyncClient) -> None:
    await drift(firm)
    path = await planned(firm, pages)
    await pages.post(f"{path}/apply")
    await work(firm)
    await pages.post("/sync/check")
    await work(firm)
    assert "Clerk and the database are in sync." in (await pages.get("/sync")).text
    assert (await pages.post(f"{path}/apply", headers=PARTIAL)).status_code == 422, "nothing of it is left"


async def test_several_deletions_require_a_confirmation_word(firm: Firm, pages: httpx2.AsyncClient) -> None:
    for email in ("maya@example.com", "omar@example.com"):
        await firm.clerk().delete(f"/v1/users/{firm.user_id(email)}")
    path = await planned(firm, pages)
    question = (await pages.get(f"{path}/apply")).text
    assert "4 rows are marked as deleted here." in question
    assert "Type delete to confirm" in question
    assert (await pages.post(f"{path}/apply")).status_code == 422
    assert (await pages.post(f"{path}/apply", data={"word": "delete"})).status_code == 303
    await work(firm)
    assert (await last_run(firm)).counts == {"applied": 4}


async def test_an_expired_plan_is_not_applied_and_the_page_says_so(firm: Firm, pages: httpx2.AsyncClient) -> None:
    await drift(firm)
    path = await planned(firm, pages)
    await pages.post(f"{path}/apply")
    firm.clock.advance(16 * MINUTE)
    await work(firm)
    assert (await last_run(firm)).code in ("plan_expired", "not_begun")
    page = (await pages.get(path)).text
    assert "can no longer be applied" in page
    assert "Create a new plan" in page
    assert 'id="apply-all"' not in page


async def test_a_refusal_is_shown_with_what_to_do(firm: Firm, pages: httpx2.AsyncClient) -> None:
    firm.emulator.fail("GetUserList", status=200, body=[])
    await pages.post("/sync/check")
    await work(firm)
    assert "Incomplete list" in (await pages.get("/sync")).text, "a check reports what it could see"
    await planned(firm, pages)
    page = (await pages.get("/sync")).text
    assert "Clerk&#39;s lists were incomplete" in page
    assert "Check again in a few minutes." in page


async def test_the_deletion_limit_is_raised_for_one_plan_by_a_confirmation_word(
    firm: Firm, pages: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instep.sync.plan.MIN_DELETION_LIMIT", 1)
    for email in ("maya@example.com", "omar@example.com"):
        await firm.clerk().delete(f"/v1/users/{firm.user_id(email)}")
    await planned(firm, pages)
    page = (await pages.get("/sync")).text
    assert "too many deletions" in page
    assert "--allow-gone" not in page
    assert 'href="/sync/plan?allow_gone=2"' in page
    assert "Type allow to confirm" in (await pages.get("/sync/plan?allow_gone=2")).text
    assert (await pages.post("/sync/plan", data={"allow_gone": "2"})).status_code == 422
    allowed = await pages.post("/sync/plan", data={"allow_gone": "2", "word": "allow"})
    await work(firm)
    assert "Deleted here" in (await pages.get(allowed.headers["location"])).text


async def test_a_failure_of_clerk_is_shown(firm: Firm, pages: httpx2.AsyncClient) -> None:
    firm.emulator.fail("GetUsersCount", status=401)
    await pages.post("/sync/check")
    await work(firm)
    assert (await last_run(firm)).state == "failed"
    assert 'data-tone="error"' in (await pages.get("/sync")).text


async def test_an_empty_database_offers_the_first_sync_alone(firm: Firm) -> None:
    token = await firm.services.sign_in_pages.sessions.open_break_glass()
    pages = firm._client(firm.app, "http://127.0.0.1:8000", {"cookie": f"instep_session={token}"})
    pages.headers["origin"] = "http://127.0.0.1:8000"
    firm.emulator.seed({"users": [{"email_address": "ada@example.com"}], "events": False})
    page = (await pages.get("/sync")).text
    assert "Nothing has been synced from Clerk yet" in page
    assert 'id="start-check"' not in page
    await pages.post("/sync/first")
    await work(firm)
    page = (await pages.get("/sync")).text
    assert "Nothing has been synced from Clerk yet" not in page
    assert "1 new" in page


async def test_progress_is_shown_with_rate_and_remaining_time(firm: Firm, pages: httpx2.AsyncClient) -> None:
    now = firm.services.clock()
    stage = {"kind": "user", "done": 600, "total": 1_600, "begun_at": now - 10_000, "begun_with": 100}
    run = Run(
        id="syn_x", kind="first", state="running", actor="break_glass", started_at=now, changed_at=now, stage=stage
    )
    lease = await firm.services.db.write(repository.take_lease, "test", now=now)
    assert lease is not None
    await firm.services.db.write(repository.start_run, run, lease)
    page = (await pages.get("/sync")).text
    assert "Users: 600 of 1,600" in page
    assert re.search(r"(49|50) per second", page)
    assert "about 20 s left" in page
    assert 'value="37"' in page
    await firm.services.db.write(repository.release_lease, lease)
    for path in ("/sync", "/sync/runs/syn_x"):
        page = (await pages.get(path)).text
        assert "600 of 1,600" not in page, "its process is gone"
        assert "Running</span>" not in page
        assert "Interrupted" in page


async def test_a_large_plan_is_paged(firm: Firm, pages: httpx2.AsyncClient) -> None:
    people = [{"email_address": f"p{n}@example.com"} for n in range(60)]
    firm.emulator.seed({"users": people, "events": False})
    path = await planned(firm, pages)
    first = (await pages.get(path)).text
    assert first.count('class="pick"') == 50
    more = re.search(r'id="more"[^>]*href="([^"]+)"', first)
    assert more is not None
    rest = await pages.get(more[1].replace("&amp;", "&"), headers=PARTIAL)
    assert rest.text.count('class="pick"') == 10
    assert 'id="more"' not in rest.text
    none = (await pages.get(f"{path}?kind=role_differs")).text
    assert none.count('class="pick"') == 50, "a kind that it did not find is no filter"


async def test_the_source_of_truth_is_shown_by_field(sqlite_migrated_url: str) -> None:
    firm = make_firm(sqlite_migrated_url, INSTEP_DATABASE_OWNS="deactivation role")
    async with console_of(firm) as pages:
        page = (await pages.get("/sync")).text
    owners = dict(re.findall(r'<li><span>([^<]+)</span><span class="badge"[^>]*>([^<]+)</span>', page))
    assert owners["Role"] == "The database"
    assert owners["First name"] == "Clerk"
    await firm.close()


async def test_missing_webhooks_are_shown_on_every_page_of_an_admin(firm: Firm, pages: httpx2.AsyncClient) -> None:
    assert "No webhook for" not in (await pages.get(f"{HOME}/members")).text
    now = firm.services.clock()
    await firm.services.db.write(repository.save_freshness, Freshness(now, now - 26 * HOUR, 3))
    calls = len(firm.emulator.control.request_log.list())
    for path in ("/sync", "/deliveries", "/keys", f"{HOME}/operations"):
        page = (await pages.get(path)).text
        assert "No webhook for 26 h while Clerk changed 3 people." in page
        assert 'action="/sync/changed"' in page
    assert len(firm.emulator.control.request_log.list()) == calls, "no page asks Clerk"


async def test_fix_now_applies_the_changes_and_removes_the_warning(firm: Firm, pages: httpx2.AsyncClient) -> None:
    await drift(firm)
    firm.clock.advance(10 * MINUTE)
    await firm.services.sync_services.freshness.check()
    assert "while Clerk changed 2 people" in (await pages.get("/sync")).text
    told = firm.services.pubsub.count_listeners()
    await pages.post("/sync/changed")
    await work(firm)
    assert firm.services.pubsub.count_listeners() == told
    assert "while Clerk changed" not in (await pages.get("/sync")).text


async def test_a_cross_site_request_starts_nothing(firm: Firm, pages: httpx2.AsyncClient) -> None:
    for path in ("/sync/check", "/sync/first", "/sync/changed", "/sync/plan", "/sync/runs/x/apply"):
        foreign = await pages.post(path, headers={"origin": "https://elsewhere.example"})
        assert foreign.status_code == 403
    assert await firm.services.db.read(repository.list_stored_runs) == []


async def test_an_unknown_run_is_not_found(firm: Firm, pages: httpx2.AsyncClient) -> None:
    for path in ("/sync/runs/none", "/sync/runs/none/apply"):
        assert (await pages.get(path)).status_code == 404
    assert KEY not in (await pages.get("/sync")).text
