"""A disk that is full, a file that may only be read, a file that is gone: said at once, and nothing acknowledged."""

import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from instep.core.db import Database
from instep.core.schema_migrations import migrate_schema
from tests.support.deliveries import body
from tests.support.svix import signed
from tests.support.town import SEED
from tests.support.world import DOOR, Firm

pytestmark = pytest.mark.anyio

PEOPLE = "/v1/organizations/northwind/people"


@pytest.fixture
async def shop(sqlite_firm: Firm) -> Firm:
    """A firm on SQLite with people in it."""
    sqlite_firm.emulator.seed(SEED)
    await sqlite_firm.settle()
    return sqlite_firm


def file_of(firm: Firm) -> Path:
    path = firm.services.db.engine.url.database
    assert path
    return Path(path)


def on_each_connection(db: Database, pragma: str) -> None:
    """Set a limit of SQLite's own on every connection that is opened from now on."""

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA {pragma}").fetchone()

    db.engine.dispose()
    sa.event.listen(db.engine, "connect", limit)


async def deliver(firm: Firm, id: str, *, size: int = 10) -> httpx2.Response:
    data = {"id": "user_new", "updated_at": 2, "email_addresses": [], "public_metadata": {"note": "x" * size}}
    event = body("user.updated", data, instance=None)
    return await firm.api(None).post(DOOR, content=event, headers=signed(event, at=firm.clock(), id=id))


async def require_outage(firm: Firm, *, reads: int) -> None:
    """Nothing is ready or acknowledged; reading answers `reads`; nobody is told where the file lies."""
    answers = {path: await firm.api(None).get(path) for path in ("/health/ready", "/health/live", "/metrics")}
    answers["delivery"] = await deliver(firm, "msg_outage", size=100_000)
    answers["list"] = await firm.api().get(PEOPLE)
    statuses = {path: answer.status_code for path, answer in answers.items()}
    expected = {"/health/ready": 503, "/health/live": 200, "/metrics": 200, "delivery": 503, "list": reads}
    assert statuses == expected
    for answer in answers.values():
        assert str(file_of(firm).parent) not in answer.text
        assert answer.status_code != 503 or int(answer.headers["retry-after"]) >= 1


async def test_e6_a_full_database_is_not_ready_acknowledges_nothing_and_can_be_read(shop: Firm) -> None:
    db = shop.services.db
    on_each_connection(db, f"max_page_count={db.read_sync(page_count)}")
    await require_outage(shop, reads=200)


async def test_e6_a_full_disk_is_not_ready(shop: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short row still finds room in the log that is there already: the room that is left is looked at, too."""
    assert (await shop.api(None).get("/health/ready")).status_code == 200
    full = shutil.disk_usage(file_of(shop).parent)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert (await shop.api(None).get("/health/ready")).status_code == 503


def page_count(conn: sa.Connection) -> int:
    return int(conn.exec_driver_sql("PRAGMA page_count").scalar_one())


async def test_e6_a_file_that_may_only_be_read_can_be_read_and_is_not_ready(shop: Firm) -> None:
    on_each_connection(shop.services.db, "query_only=ON")
    await require_outage(shop, reads=200)


async def test_e6_a_file_that_was_removed_acknowledges_nothing_and_is_not_made_anew(shop: Firm) -> None:
    file_of(shop).unlink()
    await require_outage(shop, reads=503)
    assert not file_of(shop).exists()


async def test_e6_a_write_ahead_log_that_was_removed_acknowledges_nothing(shop: Firm) -> None:
    file_of(shop).with_name(f"{file_of(shop).name}-wal").unlink()
    assert (await deliver(shop, "msg_1")).status_code == 503
    assert (await deliver(shop, "msg_1")).status_code == 202  # on files that are all in place


async def test_e6_a_file_that_was_replaced_is_opened_anew(shop: Firm, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    migrate_schema(other.engine)
    other.close()
    for beside in ("-wal", "-shm"):
        file_of(shop).with_name(f"{file_of(shop).name}{beside}").unlink()
    (tmp_path / "other.db").replace(file_of(shop))
    assert (await deliver(shop, "msg_1")).status_code == 503
    assert (await deliver(shop, "msg_1")).status_code == 202
    assert [it["id"] for it in (await shop.api().get("/v1/deliveries")).json()["deliveries"]] == ["msg_1"]


async def test_e6_postgresql_that_only_reads_is_not_ready(postgres_migrated_url: str, clerk_key: str) -> None:
    from tests.support.world import make_firm

    firm = make_firm(postgres_migrated_url, private_key=clerk_key)
    firm.emulator.seed(SEED)
    await firm.settle()

    def stand_by(connection: Any, _record: Any) -> None:
        connection.execute("SET default_transaction_read_only = on")
        connection.commit()

    firm.services.db.engine.dispose()
    sa.event.listen(firm.services.db.engine, "connect", stand_by)
    try:
        assert (await firm.api(None).get("/health/ready")).status_code == 503
        assert (await deliver(firm, "msg_1")).status_code == 503
        assert (await firm.api().get(PEOPLE)).status_code == 200
    finally:
        await firm.close()
