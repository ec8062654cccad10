"""One part that can't be read costs that part alone, and is counted where people look."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.bounds import HOME, Probe, make_probe
from tests.support.hostile import ORGANIZATION, SHAPES, address

pytestmark = pytest.mark.anyio
BAD: list[object] = [
    None,
    5,
    [],
    {},
    address("1b", id=None),
    address("1b", email_address=None),
    address("1b", verification=5),
]


@pytest.fixture
async def probe(migrated_url: str) -> AsyncIterator[Probe]:
    """instep on each database, with a Clerk that says what it is told."""
    probe = await make_probe(migrated_url)
    yield probe
    await probe.close()


@pytest.mark.parametrize("bad", BAD)
async def test_b5_an_address_that_cannot_be_read_is_left_out(probe: Probe, bad: Any) -> None:
    person = {**SHAPES["user"].good("1"), "email_addresses": [bad, address("1"), bad]}
    await probe.feed([], [])
    await probe.send("user.created", person)
    assert (await probe.api.get("/v1/users/user_1")).json()["email"] == "person1@example.com"


async def test_b5_nobody_loses_their_primary_address_unnoticed(probe: Probe) -> None:
    await probe.feed([], [])
    await probe.send("user.created", SHAPES["user"].good("1"))
    await probe.send("user.updated", {**SHAPES["user"].good("1"), "updated_at": 2**50, "email_addresses": [None]})
    assert (await probe.api.get("/v1/users/user_1")).json()["email"] == "person1@example.com"
    (failed,) = (await probe.api.get("/v1/deliveries?state=parked")).json()["deliveries"]
    assert "Clerk sent unreadable data" in failed["outcome"]


@pytest.mark.parametrize("bad", [None, 5, {"id": "orginv_9"}, {**SHAPES["invitation"].good("9"), "email_address": 5}])
async def test_b5_an_invitation_that_cannot_be_read_is_counted(probe: Probe, bad: Any) -> None:
    probe.clerk.put("invitation", SHAPES["invitation"].good("1"))
    probe.clerk.put("invitation", bad)
    await probe.feed([], [])
    listed = (await probe.api.get(f"{HOME}/people")).json()
    assert listed["warnings"] == ["One invitation could not be read and is not shown. It is in Clerk."]
    assert [it["invitation"]["email"] for it in listed["data"] if "invitation" in it] == ["guest1@example.com"]
    page = await probe.console.get(f"/organizations/{ORGANIZATION}/members")
    assert "One invitation could not be read" in page.text
    export = await probe.api.get(f"{HOME}/people/export")
    assert "could not be read" in export.headers["instep-incomplete"]
    probe.clerk.put("invitation", bad)
    assert "2 invitations could not be read" in (await probe.api.get(f"{HOME}/people")).json()["warnings"][0]


async def test_b5_one_person_who_cannot_be_read_keeps_no_other_waiting(probe: Probe) -> None:
    """Memberships whose people are not here yet: Clerk is asked for all of them at once."""
    probe.clerk.put("user", {**SHAPES["user"].good("1"), "banned": "perhaps"})
    probe.clerk.put("user", SHAPES["user"].good("2"))
    await probe.feed([], [])
    await probe.send("organizationMembership.created", SHAPES["membership"].good("1"), SHAPES["membership"].good("2"))
    (failed,) = (await probe.api.get("/v1/deliveries?state=parked")).json()["deliveries"]
    assert "Clerk sent unreadable data" in failed["outcome"]
    people = (await probe.api.get(f"{HOME}/people")).json()["data"]
    assert "user_2" in {it["member"]["clerk_user_id"] for it in people}
    assert (await probe.api.get("/v1/deliveries?state=waiting")).json()["deliveries"] == []


async def test_b5_a_session_that_cannot_be_read_hides_no_other(probe: Probe) -> None:
    for bad in (None, {**SHAPES["session"].good("1"), "latest_activity": 5}):
        probe.clerk.put("session", bad)
    probe.clerk.put("session", {**SHAPES["session"].good("2"), "created_at": 10**15, "last_active_at": -1})
    await probe.feed([], [])
    (session,) = (await probe.api.get("/v1/users/user_mate1/sessions")).json()["data"]
    assert (session["id"], session["created_at"], session["last_active_at"]) == ("sess_2", None, None)
