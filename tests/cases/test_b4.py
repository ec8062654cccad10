"""A NUL in what Clerk sends is replaced; what a database can't hold is not tried again for half a day."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.bounds import MATES, Probe, make_probe
from tests.support.hostile import SHAPES

pytestmark = pytest.mark.anyio


@pytest.fixture
async def probe(migrated_url: str) -> AsyncIterator[Probe]:
    """instep on each database, with a Clerk that says what it is told."""
    probe = await make_probe(migrated_url)
    await probe.feed([], [])
    yield probe
    await probe.close()


async def deliveries(probe: Probe) -> list[Any]:
    return list((await probe.api.get("/v1/deliveries")).json()["deliveries"])


@pytest.mark.parametrize("bad", ["\0", "\ud83d"])
async def test_b4_what_no_database_holds_is_replaced_in_every_text(probe: Probe, bad: str) -> None:
    person = SHAPES["user"].good("1")
    person |= {"first_name": f"Ma{bad}ya", "username": f"m{bad}", "public_metadata": {"a": bad, bad: 1}}
    person["email_addresses"][0]["email_address"] = f"m{bad}aya@example.com"
    await probe.send("user.created", person)
    await probe.send("organization.updated", {**SHAPES["organization"].good("2"), "name": bad, "slug": f"a{bad}"})
    await probe.send("organizationMembership.created", {**SHAPES["membership"].good("1"), "role": f"org:{bad}"})
    found = (await probe.api.get("/v1/users/user_1")).json()
    assert (found["first_name"], found["public_metadata"]) == ("Ma\ufffdya", {"a": "\ufffd", "\ufffd": 1})
    assert {it["state"] for it in await deliveries(probe)} == {"settled"}
    await probe.look()
    assert probe.faults == []


async def test_b4_names_of_any_length_are_kept(probe: Probe) -> None:
    long = dict.fromkeys(("first_name", "last_name", "username"), "\u0390" * 50_000)
    await probe.send("user.created", {**SHAPES["user"].good("1"), **long})
    await probe.send("organizationMembership.created", SHAPES["membership"].good("1"))
    assert {it["state"] for it in await deliveries(probe)} == {"settled"}
    await probe.look()
    assert probe.faults == []


@pytest.mark.parametrize(
    "bad", [{"id": "x" * 5_000}, {"banned": "perhaps"}, {"first_name": {"a": 1}}, {"updated_at": "yesterday"}]
)
async def test_b4_what_cannot_be_kept_fails_at_once_and_alone(probe: Probe, bad: dict[str, Any]) -> None:
    await probe.send("user.created", {**SHAPES["user"].good("1"), **bad}, SHAPES["user"].good("2"))
    states = [(it["state"], it["attempts"]) for it in await deliveries(probe)]
    assert states.count(("parked", 0)) == 1
    assert {state for state, _ in states} == {"settled", "parked"}
    known = {it["clerk_id"] for it in (await probe.api.get("/v1/users")).json()["data"]}
    assert {"user_2", *(f"user_{name}" for name in MATES)} == known


async def test_b4_what_the_database_refuses_fails_at_once(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the edge ever let something through: the delivery fails alone, and at once."""
    monkeypatch.setattr("instep.clerk.lenient_json.replace_invalid_characters", lambda body: body)
    role = {"role": "org:\0"} if not probe.services.db.is_sqlite else {"max_allowed_memberships": 5}
    await probe.send("organizationMembership.created", {**SHAPES["membership"].good("mate1"), "id": "orgmem_x", **role})
    if not probe.services.db.is_sqlite:  # SQLite holds a NUL
        newest, *_ = await deliveries(probe)
        assert (newest["state"], newest["attempts"]) == ("parked", 0)
    await probe.look()
    assert probe.faults == []
