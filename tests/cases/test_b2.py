"""Metadata that are no object fail no page."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.db import Conn
from tests.support.bounds import Probe, make_probe
from tests.support.hostile import SHAPES, nested

pytestmark = pytest.mark.anyio


@pytest.fixture
async def probe(migrated_url: str) -> AsyncIterator[Probe]:
    """instep on each database, with a Clerk that says what it is told."""
    probe = await make_probe(migrated_url)
    yield probe
    await probe.close()


@pytest.mark.parametrize("metadata", [["a"], "text", 5, True, None])
async def test_b2_metadata_that_are_no_object_count_as_empty(probe: Probe, metadata: Any) -> None:
    await probe.feed([], [])
    await probe.send("user.created", {**SHAPES["user"].good("1"), "public_metadata": metadata})
    await probe.send("organization.updated", {**SHAPES["organization"].good("2"), "public_metadata": metadata})
    answer = await probe.api.get("/v1/users/user_1")
    assert (answer.status_code, answer.json()["public_metadata"]) == (200, {})
    await probe.look()
    assert probe.faults == []


@pytest.mark.parametrize("metadata", ['["a"]', '"text"', "5", "null", nested(900)])
async def test_b2_metadata_that_an_earlier_version_stored_are_shown(probe: Probe, metadata: str) -> None:
    await probe.feed([], [])

    def store(conn: Conn) -> None:
        cast = "CAST(:it AS JSONB)" if conn.dialect.name == "postgresql" else ":it"
        for table in ("instep_users", "instep_organizations"):
            conn.execute(sa.text(f"UPDATE {table} SET public_metadata = {cast}"), {"it": metadata})

    probe.services.db.write_sync(store)
    await probe.look()
    assert probe.faults == []
    change = await probe.api.patch("/v1/users/user_mate1", json={"attributes": {"floor": 3}})
    assert (change.status_code, change.json()["attributes"]) == (200, {"floor": 3})


@pytest.mark.parametrize("field", ["public_metadata", "attributes"])
async def test_b2_metadata_of_a_request_are_refused_where_no_page_could_give_them_back(
    probe: Probe, field: str
) -> None:
    await probe.feed([], [])
    for bad in ('"text"', "[1]", nested(100), '{"a": "\\u0000"}', '{"\\ud800": 1}', '{"a": NaN}', '{"a": 1e999}'):
        body = f'{{"{field}": {bad}}}'.encode()
        answer = await probe.api.patch(
            "/v1/users/user_mate1", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, bad
    assert probe.clerk.wrote == []
