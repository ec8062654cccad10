"""The inbox's rows: counted by indexes of few rows, and found by what they are about, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.db import Conn, Database
from instep.domain.events import VerifiedDelivery
from instep.webhooks import repository
from instep.webhooks.filters import DeliveryFilter


def put(db: Database, count: int = 6) -> None:
    batch = [
        VerifiedDelivery(
            id=f"msg_{n}",
            type="user.updated" if n % 2 else "organizationMembership.created",
            instance_id=None,
            body=b"{}",
            received_at=1_000 + n,
            user=f"user_{n % 3}",
            organization=None if n % 2 else "org_1",
        )
        for n in range(count)
    ]
    db.write_sync(repository.insert_deliveries, batch)


def found(db: Database, **wanted: Any) -> list[str]:
    return [it.id for it in db.read_sync(repository.list_deliveries, DeliveryFilter(**wanted))]


def test_filters_narrow_the_list(db: Database) -> None:
    put(db)
    assert found(db) == [f"msg_{n}" for n in (5, 4, 3, 2, 1, 0)]
    assert found(db, users=["user_1"]) == ["msg_4", "msg_1"]
    assert found(db, users=[]) == []
    assert found(db, organization="org_1") == ["msg_4", "msg_2", "msg_0"]
    assert found(db, type="user") == found(db, type="user.updated") == ["msg_5", "msg_3", "msg_1"]
    assert found(db, type="organization") == [], "a family is whole"
    assert found(db, since=1_004) == ["msg_5", "msg_4"]
    assert found(db, until=1_001) == ["msg_0"]
    assert found(db, id="msg_3") == ["msg_3"]


def test_those_that_are_not_settled_are_counted(db: Database) -> None:
    put(db)
    db.write_sync(repository.mark_processed, {"msg_0": "changed"}, now=2_000)
    db.write_sync(repository.mark_failed, ["msg_1", "msg_2"], now=2_000, reason="no")
    db.write_sync(repository.reschedule_deliveries, ["msg_3"], until=9_000, reason="later")
    assert db.read_sync(repository.count_by_state) == {"new": 2, "waiting": 1, "parked": 2}
    assert db.read_sync(repository.count_failed) == 2
    assert found(db, states=("parked",)) == ["msg_2", "msg_1"]
    assert found(db, states=("new", "waiting")) == ["msg_5", "msg_4", "msg_3"]


def test_counting_the_parked_reads_them_alone(sqlite_db: Database) -> None:
    """A page of an admin counts them each time: never by walking the millions that are settled."""

    def explained(conn: Conn) -> str:
        query = "EXPLAIN QUERY PLAN SELECT count(*) FROM instep_deliveries WHERE state = 'parked'"
        return " ".join(str(row) for row in conn.execute(sa.text(query)))

    assert "ix_instep_deliveries_parked" in sqlite_db.read_sync(explained)


@pytest.fixture
def sqlite_db(sqlite_migrated_url: str) -> Any:
    db = Database(sqlite_migrated_url)
    yield db
    db.close()
