"""Sync and deliveries over REST and on the command line: admins alone, and the exit says how it went."""

import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from instep.app import cli, sync_services
from instep.clerk.client import ClerkClient
from instep.core.clock import MINUTE, now
from instep.core.db import Database
from instep.mirror.tables import users
from instep.sync import repository
from instep.sync.models import Run, RunKind
from tests.support.world import Firm, make_firm
from tests.sync.world import seed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def firm(db: Database) -> AsyncIterator[Firm]:
    url = db.engine.url.render_as_string(hide_password=False)
    made = make_firm(url)
    yield made
    await made.close()


async def test_a_plan_is_created_read_and_applied(firm: Firm) -> None:
    firm.emulator.seed(seed(4))
    async with firm.api() as api:
        made = await api.post("/v1/sync/plans?limit=3", json={"allow_gone": None})
        assert made.status_code == 201, made.text
        plan = made.json()
        assert plan["run"]["counts"] == {"missing_here": 5, "membership_only_in_clerk": 4}
        assert len(plan["findings"]) == 3
        more = (await api.get(f"/v1/sync/plans/{plan['run']['id']}?after={plan['next']}")).json()
        assert len(more["findings"]) == 6
        assert (await api.get(f"/v1/sync/plans/{plan['run']['id']}?after={10**20}")).status_code == 422
        some = await api.post(f"/v1/sync/plans/{plan['run']['id']}/apply", json={"rows": [1, 2]})
        assert some.json()["counts"] == {"applied": 2}
        rest = await api.post(f"/v1/sync/plans/{plan['run']['id']}/apply")
        assert rest.json()["counts"] == {"applied": 7}
        check = await api.post("/v1/sync/check")
        assert check.json()["run"]["counts"] == {}
        status = (await api.get("/v1/sync")).json()
        assert [it["kind"] for it in status["runs"]] == ["check", "apply", "apply", "plan"]
        assert status["runs"][0]["totals"]["user"] == {
            "before": 4,
            "fetched": 4,
            "after": 4,
            "is_whole": True,
            "unreadable": 0,
        }


async def test_a_refusal_states_the_reason(firm: Firm) -> None:
    firm.emulator.seed(seed(4))
    firm.emulator.fail("GetUserList", status=200, body=[])
    async with firm.api() as api:
        checked = (await api.post("/v1/sync/check")).json()["run"]
        assert (checked["state"], checked["counts"]["not_whole"]) == ("done", 1)
        answer = await api.post("/v1/sync/plans")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_whole")
        assert (await api.get("/v1/sync")).json()["runs"][0]["state"] == "refused"
        assert (await api.post("/v1/sync/plans/none/apply")).status_code == 404
        assert (await api.get("/v1/sync/plans/none")).status_code == 404


def begin(firm: Firm, kind: RunKind, *, now: int) -> Run:
    """A run as it is kept while its process carries it out."""
    db = firm.services.db
    run = Run(id=f"syn_{kind}", kind=kind, state="running", actor="usr_1", started_at=now, changed_at=now)
    lease = db.write_sync(repository.take_lease, "a process", now=now)
    assert lease is not None
    db.write_sync(repository.start_run, run, lease)
    return run


async def test_a_run_whose_process_died_is_shown_as_interrupted(firm: Firm) -> None:
    run = begin(firm, "plan", now=firm.clock())
    async with firm.api() as api:

        async def told() -> list[tuple[Any, ...]]:
            runs = [(await api.get("/v1/sync")).json()["runs"][0]]
            runs.append((await api.get(f"/v1/sync/plans/{run.id}")).json()["run"])
            return [(it["state"], it["code"], it["ended_at"] is not None) for it in runs]

        assert await told() == [("running", None, False)] * 2
        firm.clock.advance(2 * MINUTE)
        assert await told() == [("stopped", "interrupted", True)] * 2
        await api.post("/v1/sync/check")
        runs = (await api.get("/v1/sync")).json()["runs"]
        assert [(it["state"], it["code"]) for it in runs] == [("done", None), ("stopped", "interrupted")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/sync"),
        ("POST", "/v1/sync/check"),
        ("POST", "/v1/sync/plans"),
        ("GET", "/v1/sync/plans/x"),
        ("POST", "/v1/sync/plans/x/apply"),
        ("GET", "/v1/deliveries"),
        ("POST", "/v1/deliveries/x/replay"),
    ],
)
async def test_anonymous_callers_and_members_get_no_data(firm: Firm, method: str, path: str) -> None:
    async with firm.api(None) as api:
        assert (await api.request(method, path)).status_code == 401


async def test_deliveries_are_listed_and_replayed(firm: Firm) -> None:
    firm.emulator.seed({**seed(3), "events": True})
    await firm.settle_patiently()
    async with firm.api() as api:
        page = (await api.get("/v1/deliveries?state=settled&limit=3")).json()
        assert len(page["deliveries"]) == 3
        more = (await api.get(f"/v1/deliveries?limit=3&cursor={page['next_cursor']}")).json()
        assert not {it["id"] for it in more["deliveries"]} & {it["id"] for it in page["deliveries"]}
        before = await firm.services.db.read(_people)
        one = page["deliveries"][0]["id"]
        again = await api.post(f"/v1/deliveries/{one}/replay")
        assert again.json()["state"] == "new"
        assert (await api.post(f"/v1/deliveries/{one}/replay")).json()["code"] == "not_ended"
        await firm.settle_patiently()
        assert await firm.services.db.read(_people) == before
        assert (await api.post("/v1/deliveries/none/replay")).status_code == 404
        assert (await api.get("/v1/deliveries?cursor=what")).json()["code"] == "bad_cursor"


def _people(conn: Any) -> list[Any]:
    return list(conn.execute(users.select().order_by(users.c.id)).all())


async def test_the_metrics_include_webhook_freshness(firm: Firm) -> None:
    await firm.services.sync_services.freshness.check()
    async with firm.api() as api:
        assert "instep_sync_users_behind 0.0" in (await api.get("/metrics")).text


async def test_the_cli_exit_code_reports_the_result(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    firm.emulator.seed(seed(3))

    def made() -> ClerkClient:
        transport = httpx2.ASGITransport(app=firm.emulator)
        return ClerkClient(firm.emulator.secret_key, api_url=firm.emulator.site.url, transport=transport)

    monkeypatch.setattr(sync_services, "ClerkClient", lambda *_, **__: made())
    monkeypatch.setattr(sync_services, "load_settings", lambda: firm.services.settings)

    def run(*words: str) -> tuple[int, Any]:
        with ThreadPoolExecutor(1) as aside:
            result = aside.submit(CliRunner().invoke, cli.app, [*words, "--json"]).result()
        return result.exit_code, json.loads(result.stdout) if result.stdout.startswith(("{", "[")) else result.output

    assert run("sync", "check")[0] == 2
    code, first = run("sync", "apply")
    assert (code, first["run"]["kind"]) == (0, "first")
    assert run("sync", "check")[0] == 0
    code, plan = run("sync", "plan")
    assert (code, plan["findings"]) == (0, [])
    assert run("sync", "apply", plan["run"]["id"])[0] == 0
    assert run("sync", "apply")[0] == 0
    firm.emulator.fail("GetUserList", status=200, body=[])
    assert run("sync", "check")[0] == 2
    assert run("sync", "plan")[0] == 3
    assert run("deliveries")[0] == 0
    died = begin(firm, "check", now=now() - 2 * MINUTE)
    told = {it["id"]: it for it in run("sync", "status")[1]["runs"]}
    assert (told[died.id]["state"], told[died.id]["code"]) == ("stopped", "interrupted")
