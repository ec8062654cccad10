"""Trust comes from the key: a delivery never says which Clerk instance a database belongs to."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from instep.app import cli_instance, cli_runtime, doctor
from instep.audit.tables import audit
from instep.clerk.client import ClerkClient
from instep.core.db import Conn
from instep.mirror.tables import facts
from instep.sync import cli
from tests.cases.support import PEOPLE, acme, described
from tests.support.commands import firm_of_commands, invoke
from tests.support.svix import signed
from tests.support.world import OURS, Firm, make_firm

pytestmark = pytest.mark.anyio

EXAMPLE = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"
STRANGER = "user_29w83sxmDNGwOuEthce5gg56FcC"


def example(type_: str = "user.created", *, instance: str | None = EXAMPLE) -> bytes:
    """Return what "Send example" of Clerk's dashboard sends: somebody else's event, signed with our secret."""
    address = {"id": "idn_1", "email_address": "example@example.org", "verification": {"status": "verified"}}
    data = {
        "id": STRANGER,
        "object": "user",
        "first_name": "Example",
        "primary_email_address_id": "idn_1",
        "email_addresses": [address],
        "created_at": 1_654_012_591_514,
        "updated_at": 1_654_012_591_835,
    }
    event = {"data": data, "object": "event", "timestamp": 1_654_012_591_835, "type": type_, "instance_id": instance}
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


async def send(firm: Firm, body: bytes, id: str) -> int:
    """Deliver it as Clerk does, and work the inbox; return the status of the answer."""
    headers = signed(body, at=firm.clock.at, id=id)
    status = (await firm.api(None).post("/webhooks/clerk", content=body, headers=headers)).status_code
    while await firm.services.delivery_processor.run_once():
        pass
    return status


async def delivery(firm: Firm, id: str) -> dict[str, Any]:
    listed = (await firm.api().get("/v1/deliveries")).json()["deliveries"]
    (found,) = [it for it in listed if it["id"] == id]
    return dict(found)


async def emails(firm: Firm) -> set[str]:
    return {it["email"] for it in (await firm.api().get("/v1/users")).json()["data"]}


async def pages(firm: Firm) -> httpx2.AsyncClient:
    """Return the console, opened with the break-glass key."""
    token = await firm.services.sign_in_pages.sessions.open_break_glass()
    return firm.api(None, cookie=f"instep_session={token}", origin=OURS)


async def test_a2_an_example_is_kept_changes_nothing_and_binds_nothing(firm: Firm) -> None:
    assert await send(firm, example(), "msg_example") == 202
    found = await delivery(firm, "msg_example")
    assert (found["state"], found["outcome"]) == ("settled", "foreign")
    assert await emails(firm) == set()
    await acme(firm)
    assert await emails(firm) == set(PEOPLE)
    assert (await firm.api().post("/v1/sync/check")).json()["run"]["counts"] == {}


async def test_a2_an_example_takes_nothing_out_of_rotation(firm: Firm) -> None:
    await acme(firm)
    await send(firm, example(), "msg_example")
    assert (await firm.api(None).get("/health/ready")).status_code == 200
    figures = (await firm.api(None).get("/metrics")).text
    assert "\ninstep_webhook_deliveries_foreign 1.0\n" in figures
    assert 'instep_webhook_deliveries_pending{state="parked"} 0.0' in figures


@pytest.mark.parametrize("type_", ["user.deleted", "session.ended", "organization.updated", "nothing.known"])
async def test_a2_no_event_of_another_instance_does_anything(sqlite_firm: Firm, type_: str) -> None:
    firm = sqlite_firm
    await acme(firm)
    ours = firm.user_id("ben@example.com")
    body = example(type_).replace(STRANGER.encode(), ours.encode())
    assert await send(firm, body, "msg_example") == 202
    assert (await delivery(firm, "msg_example"))["outcome"] == "foreign"
    assert await emails(firm) == set(PEOPLE)


async def test_a2_the_deliveries_page_names_what_came_from_another_instance(sqlite_firm: Firm) -> None:
    firm = sqlite_firm
    await acme(firm)
    console = await pages(firm)
    assert 'id="foreign"' not in (await console.get("/deliveries")).text
    await send(firm, example(), "msg_example")
    page = (await console.get("/deliveries")).text
    assert "1 delivery from another Clerk instance was not applied." in page
    narrowed = (await console.get("/deliveries?state=foreign")).text
    assert "msg_example" in narrowed
    assert ("Not applied</span>" in narrowed, "Done</span>" in narrowed) == (True, False)
    assert "organizationMembership.created</bdi>" not in narrowed
    assert "it came from another Clerk instance" in (await console.get("/deliveries/msg_example")).text


async def test_a2_a_delivery_before_the_instance_is_known_is_kept_and_applied_later(firm: Firm) -> None:
    firm.emulator.fail("GetInstance", status=503)
    firm.emulator.seed(described())
    await firm.settle()
    assert await emails(firm) == set()
    assert {it["state"] for it in (await firm.api().get("/v1/deliveries")).json()["deliveries"]} == {"new"}
    firm.emulator.faults.clear()
    firm.clock.advance(60_000)
    await firm.settle()
    assert await emails(firm) == set(PEOPLE)


async def test_a2_without_a_secret_key_deliveries_are_kept_for_later(sqlite_migrated_url: str, clerk_key: str) -> None:
    firm = make_firm(sqlite_migrated_url, private_key=clerk_key)
    without = ClerkClient(None, api_url=firm.emulator.site.url)
    keyed = firm.services.delivery_processor.instance_binder.source
    firm.services.delivery_processor.instance_binder.source = without
    firm.emulator.seed(described())
    await firm.settle()
    assert await emails(firm) == set()
    firm.services.delivery_processor.instance_binder.source = keyed
    firm.clock.advance(60_000)
    await firm.settle()
    assert await emails(firm) == set(PEOPLE)
    await firm.close()


async def test_a2_a_delivery_that_names_no_instance_counts_for_what_clerk_says(firm: Firm) -> None:
    await acme(firm)
    await firm.clerk().patch(f"/v1/users/{firm.user_id('ben@example.com')}", json={"first_name": "Benedict"})
    lie = example("user.updated", instance=None).replace(STRANGER.encode(), firm.user_id("ben@example.com").encode())
    assert await send(firm, lie, "msg_nameless") == 202
    assert (await delivery(firm, "msg_nameless"))["state"] == "settled"
    shown = (await firm.api().get(f"/v1/users/{firm.user_id('ben@example.com')}")).json()
    assert (shown["email"], shown["first_name"]) == ("ben@example.com", "Benedict")
    assert await send(firm, example(instance=None), "msg_stranger") == 202
    assert await emails(firm) == set(PEOPLE)


def fact(conn: Conn, name: str) -> str | None:
    return conn.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def bound_by_a_delivery(conn: Conn) -> None:
    """Leave what an earlier version left: the instance of the first delivery, here of an example."""
    conn.execute(sa.insert(facts).values(name="clerk_instance_id", value=EXAMPLE))


async def test_a2_a_database_that_a_delivery_had_bound_follows_the_key(firm: Firm) -> None:
    firm.services.db.write_sync(bound_by_a_delivery)
    await acme(firm)
    assert await emails(firm) == set(PEOPLE)
    assert firm.services.db.read_sync(fact, "clerk_instance_id") == firm.emulator.state.id
    assert (await firm.api().post("/v1/sync/check")).status_code == 200
    assert await send(firm, example(), "msg_example") == 202
    assert await emails(firm) == set(PEOPLE)


async def test_a2_the_doctor_names_the_instance_and_what_came_from_another(
    sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    firm = sqlite_firm
    key, url, transport = firm.emulator.secret_key, firm.emulator.site.url, httpx2.ASGITransport(app=firm.emulator)
    monkeypatch.setattr(doctor, "make_clerk", lambda _: ClerkClient(key, api_url=url, transport=transport))

    async def look() -> dict[str, doctor.DiagnosticResult]:
        return {it.what: it for it in await doctor.run_diagnostics(firm.services.settings)}

    firm.services.db.write_sync(bound_by_a_delivery)
    assert f"a delivery had named {EXAMPLE}" in (await look())["Instance"].text
    await acme(firm)
    await send(firm, example(), "msg_example")
    found = await look()
    assert found["Instance"].is_good
    assert found["Instance"].text.startswith(f"{firm.emulator.state.id}, as the secret key says")
    assert EXAMPLE in found["Instance"].text
    assert found["Other instances"].is_good
    assert f"1 delivery was kept and not applied, the last of {EXAMPLE}" in found["Other instances"].text


@pytest.fixture
def moved(sqlite_migrated_url: str, clerk_key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """A firm whose database was another instance's: two people are here whom this one does not know."""

    async def make() -> Firm:
        firm = make_firm(sqlite_migrated_url, private_key=clerk_key)
        await acme(firm)
        is_instance = facts.c.name.in_(("clerk_instance", "clerk_instance_id"))
        firm.services.db.write_sync(
            lambda conn: conn.execute(sa.update(facts).where(is_instance).values(value=EXAMPLE))
        )
        for email in PEOPLE[1:]:
            await firm.clerk().delete(f"/v1/users/{firm.user_id(email)}")
        return firm

    with firm_of_commands(make, cli_runtime, monkeypatch) as firm:

        def run_with_sync_services(use: Any) -> Any:
            return cli_runtime.run_with_services(lambda services: use(services.sync_services))

        for commands in (cli_instance, cli):
            monkeypatch.setattr(commands, "_run_with_sync_services", run_with_sync_services)
        yield firm


def test_a2_another_instances_database_is_not_synced_and_the_command_says_why(moved: Firm) -> None:
    for words in (("check",), ("plan",), ("apply",), ("changed",)):
        refused = invoke("sync", *words)
        assert refused.exit_code == 3
        assert f"The secret key belongs to {moved.emulator.state.id}, and this database to {EXAMPLE}." in refused.output
    shown = invoke("instance", "--json")
    assert json.loads(shown.output) == {
        "bound": EXAMPLE,
        "secret_key": moved.emulator.state.id,
        "reason": None,
        "foreign": 0,
    }
    assert "instep instance --rebind" in invoke("instance").output


def test_a2_rebinding_refuses_any_instance_but_the_secret_keys(moved: Firm) -> None:
    refused = invoke("instance", "ins_another", "--rebind")
    assert refused.exit_code == 1
    assert f"The secret key belongs to {moved.emulator.state.id}, not to ins_another." in str(refused.exception)
    assert moved.services.db.read_sync(fact, "clerk_instance") == EXAMPLE
    assert invoke("instance", "ins_another").exit_code == 2


def test_a2_rebinding_changes_the_id_alone_and_says_what_is_unknown_there(moved: Firm) -> None:
    db, ours = moved.services.db, moved.emulator.state.id
    before = db.read_sync(_mirror)
    ended = invoke("instance", "--rebind", "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.output)
    assert (found["before"], found["bound"], found["unknown_rows"]) == (EXAMPLE, ours, 4)
    assert db.read_sync(_mirror) == before
    (entry,) = db.read_sync(
        lambda conn: conn.execute(sa.select(audit).where(audit.c.action == "instance.rebind")).all()
    )
    assert (entry.actor, entry.target, entry.details) == ("cli", ours, {"before": EXAMPLE, "after": ours})
    assert invoke("sync", "check").exit_code == 2
    assert "already" in invoke("instance", "--rebind").output


def test_a2_a_plan_of_another_instance_is_not_applied_after_rebinding(moved: Firm) -> None:
    db = moved.services.db
    assert invoke("instance", "--rebind").exit_code == 0
    plan = json.loads(invoke("sync", "plan", "--json").output)["run"]["id"]
    moved.clock.advance(1_000)
    moved_again = sa.update(facts).where(facts.c.name == "clerk_instance").values(value="ins_x")
    db.write_sync(lambda conn: conn.execute(moved_again))
    assert invoke("instance", "--rebind").exit_code == 0
    refused = invoke("sync", "apply", plan)
    assert refused.exit_code == 3
    assert "another Clerk instance" in refused.output


def _mirror(conn: Conn) -> list[Any]:
    tables = ("instep_users", "instep_organizations", "instep_memberships")
    return [list(conn.execute(sa.text(f"SELECT * FROM {name} ORDER BY id"))) for name in tables]
