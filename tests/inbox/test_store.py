"""The inbox's rows: counted by indexes of few rows, and found by what they are about, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.identity.events import Delivery
from instep.inbox import store
from instep.inbox.store import Filter
from instep.kit.db import Conn, Db


def put(db: Db, count: int = 6) -> None:
    batch = [
        Delivery(
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
    db.writing(store.put, batch)


def found(db: Db, **wanted: Any) -> list[str]:
    return [it.id for it in db.reading(store.list_deliveries, Filter(**wanted))]


def test_filters_narrow_the_list(db: Db) -> None:
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


def test_those_that_are_not_settled_are_counted(db: Db) -> None:
    put(db)
    db.writing(store.settle, {"msg_0": "changed"}, now=2_000)
    db.writing(store.park, ["msg_1", "msg_2"], now=2_000, reason="no")
    db.writing(store.put_off, ["msg_3"], until=9_000, reason="later")
    assert db.reading(store.count_by_state) == {"new": 2, "waiting": 1, "parked": 2}
    assert db.reading(store.count_parked) == 2
    assert found(db, states=("parked",)) == ["msg_2", "msg_1"]
    assert found(db, states=("new", "waiting")) == ["msg_5", "msg_4", "msg_3"]


def test_counting_the_parked_reads_them_alone(sqlite_db: Db) -> None:
    """A page of an admin counts them each time: never by walking the millions that are settled."""

    def explained(conn: Conn) -> str:
        query = "EXPLAIN QUERY PLAN SELECT count(*) FROM instep_deliveries WHERE state = 'parked'"
        return " ".join(str(row) for row in conn.execute(sa.text(query)))

    assert "ix_instep_deliveries_parked" in sqlite_db.reading(explained)


@pytest.fixture
def sqlite_db(sqlite_migrated_url: str) -> Any:
    db = Db(sqlite_migrated_url)
    yield db
    db.close()
