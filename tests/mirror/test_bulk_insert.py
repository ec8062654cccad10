"""A bulk insert beside other writers on PostgreSQL: concurrent deletions and lock order."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.db import Conn, Database
from instep.domain.events import Observation, Tombstone
from instep.domain.models import ADMIN_ROLE, ClerkId, EntityKey
from instep.domain.roles import UNKNOWN_ROLES
from instep.mirror.apply import apply_observations
from instep.mirror.bulk_insert import insert_new_rows, prepare_rows
from instep.mirror.repository import TABLES_BY_KIND, find_known_states
from instep.mirror.tables import memberships, organizations, users
from instep.mirror.user_repository import lock_organizations_of_admin
from tests.support.locks import is_waited_for
from tests.support.people import membership, organization, user


@pytest.fixture
def db(postgres_migrated_url: str) -> Iterator[Database]:
    """Three people in two organizations, none of them a member."""
    db = Database(postgres_migrated_url)
    everyone = [organization(1), organization(2), *(user(n) for n in (1, 2, 3))]
    db.write_sync(insert, everyone)
    yield db
    db.close()


Write = Callable[[Conn, list[Observation]], Any]


def insert(conn: Conn, states: list[Observation]) -> list[Observation]:
    return insert_new_rows(conn, prepare_rows(states, now=5))


def apply_all(conn: Conn, states: list[Observation]) -> None:
    apply_observations(conn, states, now=5)


def load(db: Database, states: list[Observation]) -> list[str]:
    """Clerk's ids of what a bulk load leaves."""
    return [it.key.id for it in db.write_sync(insert, states)]


@contextmanager
def beside(do: Callable[[], Any], other: Conn) -> Iterator[list[Any]]:
    """`do` on a thread of its own until it waits for `other`, whose transaction is committed in the end."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(do()))
    thread.start()
    try:
        assert is_waited_for(other, lambda: not thread.is_alive())
        yield answers
        other.commit()
    finally:
        other.rollback()
        thread.join()


def delete_entity(conn: Conn, key: EntityKey) -> None:
    apply_observations(conn, [Tombstone(key)], now=3)


@pytest.mark.parametrize(
    "parent", [EntityKey("user", ClerkId("user_2")), EntityKey("organization", ClerkId("org_1"))], ids=str
)
def test_a_parent_deleted_meanwhile_gets_no_new_member(db: Database, parent: EntityKey) -> None:
    states = [membership(n, of=n) for n in (1, 2, 3)]
    with db.engine.connect() as other:
        delete_entity(other, parent)
        with beside(lambda: load(db, states), other) as left:
            pass
    wanted = ["orgmem_2"] if parent.kind == "user" else ["orgmem_1", "orgmem_2", "orgmem_3"]
    assert left == [wanted]
    rows = db.read_sync(lambda conn: conn.execute(sa.select(memberships.c.clerk_id, memberships.c.status)).all())
    assert {id for id, _ in rows} == {it.key.id for it in states} - set(wanted)


def test_users_are_locked_in_the_common_order(db: Database) -> None:
    """A waiting writer has locked no row that the one before it still has to lock: no deadlock."""
    states = [membership(n, of=n) for n in (3, 2, 1)]
    with db.engine.connect() as other:
        find_known_states(other, [EntityKey("user", ClerkId("user_1"))])
        with beside(lambda: load(db, states), other) as left:
            rest = sa.select(users.c.id).where(users.c.clerk_id.in_(["user_2", "user_3"]))
            assert len(other.execute(rest.with_for_update(nowait=True)).all()) == 2
    assert left == [[]]


@pytest.mark.parametrize("write", [insert, apply_all], ids=["in bulk", "by the law"])
@pytest.mark.parametrize("new", [user, organization])
def test_new_rows_are_inserted_in_the_common_order(
    db: Database, new: Callable[[int], Observation], write: Write
) -> None:
    with db.engine.connect() as other:
        insert(other, [new(8)])
        with beside(lambda: db.write_sync(write, [new(9), new(8)]), other):
            other.execute(sa.text("SET LOCAL lock_timeout = 100"))  # there is nothing to wait for
            insert(other, [new(9)])
    table = TABLES_BY_KIND[new(8).key.kind]
    rows = db.read_sync(lambda conn: conn.execute(sa.select(table.c.clerk_id)).scalars().all())
    assert len(rows) == len(set(rows))
    assert {it.key.id for it in (new(8), new(9))} < set(rows)


def test_organizations_of_an_admin_are_locked_in_the_common_order(postgres_migrated_url: str) -> None:
    """Of their ids with us the order is the other one."""
    db = Database(postgres_migrated_url)
    db.write_sync(insert, [organization(2), organization(1), user(), membership(1, in_=1), membership(2, in_=2)])
    db.write_sync(lambda conn: conn.execute(sa.update(memberships).values(role=ADMIN_ROLE)))
    [person] = db.read_sync(lambda conn: conn.execute(sa.select(users.c.id)).scalars().all())
    with db.engine.connect() as other:
        find_known_states(other, [organization(1).key])
        with beside(lambda: db.write_sync(lock_organizations_of_admin, person, UNKNOWN_ROLES), other):
            second = sa.select(organizations.c.id).where(organizations.c.clerk_id == "org_2")
            assert other.execute(second.with_for_update(nowait=True)).first() is not None
    db.close()
