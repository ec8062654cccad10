"""A time that is none, of a person or a membership, fails no page and no export; it is shown as unknown."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.db import Conn, metadata
from tests.support.bounds import HOME, Probe, make_probe
from tests.support.hostile import NOW, ORGANIZATION, SHAPES

pytestmark = pytest.mark.anyio
MICROSECONDS = 1_764_440_000_000_000
WRONG = [MICROSECONDS, -1, 253_402_300_800_000, "yesterday", None, True]


@pytest.fixture
async def probe(migrated_url: str) -> AsyncIterator[Probe]:
    """instep on each database, with a Clerk that says what it is told."""
    probe = await make_probe(migrated_url)
    yield probe
    await probe.close()


async def everything_is_shown(probe: Probe) -> None:
    await probe.look()
    assert probe.faults == []


@pytest.mark.parametrize("at", WRONG)
async def test_b1_a_wrong_time_is_unknown_everywhere(probe: Probe, at: Any) -> None:
    person = {**SHAPES["user"].good("1"), "created_at": at, "last_sign_in_at": at, "last_active_at": at}
    membership = {**SHAPES["membership"].good("1"), "created_at": at}
    await probe.feed([], [])
    await probe.send("user.created", person)
    await probe.send("organizationMembership.created", membership)

    listed = {it["clerk_id"]: it for it in (await probe.api.get("/v1/users")).json()["data"]}
    assert [listed["user_1"][it] for it in ("joined_at", "last_sign_in_at", "last_active_at")] == [None, None, None]
    people = (await probe.api.get(f"{HOME}/people?query=First1")).json()["data"]
    assert [it["member"]["joined_at"] for it in people] == [None]
    rows = list(csv.DictReader(io.StringIO((await probe.api.get(f"{HOME}/people/export")).text.lstrip("\ufeff"))))
    assert [it["joined_at"] for it in rows if it["first_name"] == "First1"] == [""]
    assert len(rows) == 4
    page = await probe.console.get(f"/organizations/{ORGANIZATION}/members")
    assert "unknown" in page.text
    await everything_is_shown(probe)


async def test_b1_rows_that_an_earlier_version_stored_are_shown(probe: Probe) -> None:
    await probe.feed([], [])
    wrong = {"joined_at": MICROSECONDS, "changed_at": MICROSECONDS}

    def store(conn: Conn) -> None:
        users, memberships = metadata.tables["instep_users"], metadata.tables["instep_memberships"]
        conn.execute(sa.update(users).values(**wrong, last_active_at=2**60))
        conn.execute(sa.update(memberships).values(**wrong))

    probe.services.db.write_sync(store)
    await everything_is_shown(probe)
    assert (await probe.api.get("/v1/users")).json()["data"][0]["joined_at"] is None


async def test_b1_a_wrong_time_of_an_invitation_is_unknown(probe: Probe) -> None:
    for n, at in enumerate(WRONG):
        probe.clerk.put("invitation", {**SHAPES["invitation"].good(str(n)), "created_at": at, "expires_at": at})
    await probe.feed([], [])
    shown = [it["invitation"] for it in (await probe.api.get(f"{HOME}/people")).json()["data"] if "invitation" in it]
    assert [(it["created_at"], it["expires_at"]) for it in shown] == [(None, None)] * len(WRONG)
    await everything_is_shown(probe)


async def test_b1_the_sync_takes_in_people_of_unknown_times(probe: Probe) -> None:
    for n in range(3):
        probe.clerk.put("user", {**SHAPES["user"].good(str(n)), "created_at": MICROSECONDS + n})
    probe.clerk.put("user", {**SHAPES["user"].good("9"), "created_at": NOW - 5})
    await probe.feed([], [])
    await probe.sync()
    listed = {it["clerk_id"] for it in (await probe.api.get("/v1/users")).json()["data"]}
    assert {"user_0", "user_1", "user_2", "user_9"} <= listed
    await everything_is_shown(probe)
