"""A check reports however much it is; only an apply refuses."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import Result

from instep.app import cli_runtime
from instep.sync import cli
from tests.cases.support import acme
from tests.support.commands import firm_of_commands, invoke
from tests.support.world import Firm, make_firm

MANY = tuple(f"person{n:02}@example.com" for n in range(24))


@pytest.fixture
def firm(migrated_url: str, clerk_key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """A firm of 24 people, 12 of whom Clerk has deleted without a webhook."""

    async def make() -> Firm:
        firm = make_firm(migrated_url, private_key=clerk_key)
        await acme(firm, people=MANY)
        for email in MANY[12:]:
            await firm.clerk().delete(f"/v1/users/{firm.user_id(email)}")
        return firm

    with firm_of_commands(make, cli_runtime, monkeypatch) as made:
        monkeypatch.setattr(
            cli,
            "_run_with_sync_services",
            lambda use: cli_runtime.run_with_services(lambda services: use(services.sync_services)),
        )
        yield made


def counts(result: Result) -> dict[str, int]:
    return dict(json.loads(result.stdout)["run"]["counts"])


def test_f1_a_check_names_every_row_that_is_only_here(firm: Firm) -> None:
    found = invoke("sync", "check")
    assert found.exit_code == 2
    assert "12 missing in clerk" in found.output
    assert "12 membership only here" in found.output
    assert "allow-gone" not in found.output
    whole = invoke("sync", "check", "--json")
    assert len(json.loads(whole.stdout)["findings"]) == 24


def test_f1_a_plan_is_made_and_only_its_apply_refuses(firm: Firm) -> None:
    made = invoke("sync", "plan", "--json")
    assert made.exit_code == 2
    run = json.loads(made.stdout)["run"]
    assert (run["state"], run["code"]) == ("done", "fuse")
    refused = invoke("sync", "apply", run["id"])
    assert refused.exit_code == 3
    assert "12 users would be deleted here, more than 10. To allow it: --allow-gone 12" in refused.output
    assert counts(invoke("sync", "check", "--json"))["missing_in_clerk"] == 12
    allowed = invoke("sync", "apply", run["id"], "--allow-gone", "12")
    assert allowed.exit_code == 0, allowed.output
    assert invoke("sync", "check").exit_code == 0


def test_f1_the_limit_counts_the_rows_that_are_chosen(firm: Firm) -> None:
    rows = json.loads(invoke("sync", "plan", "--json").stdout)
    some = [it["number"] for it in rows["findings"] if it["kind"] == "membership_only_here"][:2]
    words = [word for number in some for word in ("--row", str(number))]
    assert invoke("sync", "apply", rows["run"]["id"], *words).exit_code == 0
    assert counts(invoke("sync", "check", "--json"))["membership_only_here"] == 10


def test_f1_a_plan_made_with_an_allowance_is_applied_by_it(firm: Firm) -> None:
    plan = json.loads(invoke("sync", "plan", "--allow-gone", "12", "--json").stdout)["run"]
    assert plan["code"] is None
    assert invoke("sync", "apply", plan["id"]).exit_code == 0


def test_f1_a_check_of_lists_that_are_not_whole_says_what_it_could_see(firm: Firm) -> None:
    firm.emulator.fail("InstanceGetOrganizationMemberships", status=200, body={"data": [], "total_count": 12})
    found = invoke("sync", "check", "--json")
    assert found.exit_code == 2
    assert counts(found) == {"missing_in_clerk": 12, "membership_only_here": 12, "not_whole": 1}
    (note,) = [it["note"] for it in json.loads(found.stdout)["findings"] if it["kind"] == "not_whole"]
    assert note.startswith("Clerk listed 0 of 12")
    assert invoke("sync", "plan").exit_code == 3
