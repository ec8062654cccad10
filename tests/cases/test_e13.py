"""E13: behind PgBouncer in transaction mode everything works, and doctor says what notices need."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from instep.app.config import make_settings
from instep.app.doctor import run_diagnostics
from instep.core.db import Database
from instep.core.pubsub import PostgresRelay, PubSub
from instep.core.schema_migrations import check_schema, migrate_schema
from instep.mirror.tables import memberships, users
from tests.support.pgbouncer import pgbouncer
from tests.support.town import SEED
from tests.support.world import Firm, make_firm

pytestmark = pytest.mark.anyio
SIDE_BY_SIDE, LISTS = 12, 120


@pytest.fixture
def pooled_url(postgres_migrated_url: str) -> Iterator[str]:
    """A migrated database, reached through a pooler."""
    with pgbouncer(postgres_migrated_url) as url:
        yield url


@pytest.fixture
async def firm(pooled_url: str) -> AsyncIterator[Firm]:
    """A firm behind the pooler, with everybody in it."""
    firm = make_firm(pooled_url)
    firm.emulator.seed(SEED)
    await firm.settle()
    yield firm
    await firm.close()


async def test_e13_lists_side_by_side_all_answer(firm: Firm) -> None:
    api = firm.api()

    async def some() -> list[int]:
        path = "/v1/organizations/northwind/people"
        return [(await api.get(path, params={"q": "a"} if n % 2 else {})).status_code for n in range(LISTS // 12)]

    found = await asyncio.gather(*(some() for _ in range(SIDE_BY_SIDE)))
    assert {status for statuses in found for status in statuses} == {200}


async def test_e13_webhooks_and_changes_are_applied(firm: Firm) -> None:
    api = firm.api()
    omar = firm.user_id("omar@example.com")
    for role in ("org:admin", "org:member", "org:admin"):
        answer = await api.patch(f"/v1/organizations/northwind/members/{omar}", json={"role": role})
        assert answer.status_code == 200, answer.text
        await firm.settle()
    people = (await api.get("/v1/organizations/northwind/people")).json()["data"]
    roles = {row["member"]["email"]: row["member"]["role"] for row in people if row["kind"] == "member"}
    assert roles == {"dana@example.com": "org:admin", "omar@example.com": "org:admin"}
    assert (await api.get("/v1/deliveries?state=parked")).json()["deliveries"] == []


async def test_e13_a_first_sync_brings_everybody_in(pooled_url: str) -> None:
    firm = make_firm(pooled_url)
    firm.emulator.seed({**SEED, "events": False})
    await firm.services.sync_services.sync.backfill(actor="test")
    counts = firm.services.db.read_sync(
        lambda conn: [conn.scalar(sa.select(sa.func.count()).select_from(it)) for it in (users, memberships)]
    )
    assert counts == [5, 3]
    await firm.close()


async def test_e13_a_schema_is_made_and_checked_through_the_pooler(postgres_url: str) -> None:
    with pgbouncer(postgres_url) as url:
        db = Database(url)
        migrate_schema(db.engine)
        check_schema(db.engine)
        db.close()


async def test_e13_nothing_is_left_on_the_servers_connections(firm: Firm, pooled_url: str) -> None:
    """Another application gets them next: no setting, no prepared statement and no temporary table may be on one."""
    await firm.services.sync_services.sync.check(actor="test")
    seen = set()
    for _ in range(20):
        with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as conn:
            left = conn.execute(
                "SELECT current_setting('idle_in_transaction_session_timeout'), "
                "(SELECT count(*) FROM pg_prepared_statements), "
                "(SELECT count(*) FROM pg_class WHERE relpersistence = 't')"
            ).fetchone()
            seen.add(left)
    assert seen == {("0", 0, 0)}


async def test_e13_notices_go_by_the_direct_address(pooled_url: str, postgres_migrated_url: str) -> None:
    here, there = PubSub(), PubSub()
    dbs = [Database(pooled_url), Database(pooled_url)]
    relays = [
        PostgresRelay(db, live, listen_url=postgres_migrated_url) for db, live in zip(dbs, (here, there), strict=True)
    ]
    for relay in relays:
        relay.start()
        await asyncio.wait_for(relay.is_listening.wait(), 20)
    heard = asyncio.ensure_future(anext(aiter(there.listen("org_1"))))
    await asyncio.sleep(0)
    here.publish(["org_1"])
    assert await asyncio.wait_for(heard, 20) == "org_1"
    for relay in relays:
        await relay.stop()
    for db in dbs:
        db.close()


async def test_e13_doctor_says_what_notices_need(pooled_url: str, postgres_migrated_url: str) -> None:
    def findings(**settings: str) -> dict[str, tuple[bool, str]]:
        found = asyncio.run(run_diagnostics(make_settings({"INSTEP_DATABASE_URL": pooled_url, **settings})))
        return {it.what: (it.is_good, it.text) for it in found}

    found = await asyncio.to_thread(findings)
    assert found["Database"][0]
    assert "INSTEP_DATABASE_LISTEN_URL is not set" in found["Notices"][1]
    found = await asyncio.to_thread(findings, INSTEP_DATABASE_LISTEN_URL=postgres_migrated_url)
    assert found["INSTEP_DATABASE_LISTEN_URL"] == (True, "direct")
    assert "Notices" not in found
    found = await asyncio.to_thread(findings, INSTEP_DATABASE_LISTEN_URL=pooled_url)
    assert not found["INSTEP_DATABASE_LISTEN_URL"][0]


async def test_e13_a_direct_database_is_not_taken_for_a_pooled_one(postgres_migrated_url: str) -> None:
    def findings() -> set[str]:
        return {
            it.what
            for it in asyncio.run(run_diagnostics(make_settings({"INSTEP_DATABASE_URL": postgres_migrated_url})))
        }

    assert "Notices" not in await asyncio.to_thread(findings)
