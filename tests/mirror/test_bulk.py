"""A bulk load beside other writers on PostgreSQL: who is called dead meanwhile, and who waits for whom."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from instep.identity.events import Gone, Seen
from instep.identity.model import ADMIN, ClerkId, Key
from instep.identity.roles import UNREAD
from instep.kit.db import Conn, Db
from instep.mirror.apply import take_in
from instep.mirror.bulk import insert_new, make_ready
from instep.mirror.people import lock_organizations_of
from instep.mirror.store import TABLES, find_known
from instep.mirror.tables import memberships, organizations, users
from tests.support.locks import is_waited_for
from tests.support.people import membership, organization, user


@pytest.fixture
def db(postgres_migrated_url: str) -> Iterator[Db]:
    """Three people in two organizations, none of them a member."""
    db = Db(postgres_migrated_url)
    everyone = [organization(1), organization(2), *(user(n) for n in (1, 2, 3))]
    db.writing(insert, everyone)
    yield db
    db.close()


Write = Callable[[Conn, list[Seen]], Any]


def insert(conn: Conn, news: list[Seen]) -> list[Seen]:
    return insert_new(conn, make_ready(news, now=5))


def take_in_all(conn: Conn, news: list[Seen]) -> None:
    take_in(conn, news, now=5)


def load(db: Db, news: list[Seen]) -> list[str]:
    """Clerk's ids of what a bulk load leaves."""
    return [it.key.id for it in db.writing(insert, news)]


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


def call_dead(conn: Conn, key: Key) -> None:
    take_in(conn, [Gone(key)], now=3)


@pytest.mark.parametrize("parent", [Key("user", ClerkId("user_2")), Key("organization", ClerkId("org_1"))], ids=str)
def test_whoever_is_called_dead_meanwhile_gets_no_new_member(db: Db, parent: Key) -> None:
    news = [membership(n, of=n) for n in (1, 2, 3)]
    with db.engine.connect() as other:
        call_dead(other, parent)
        with beside(lambda: load(db, news), other) as left:
            pass
    wanted = ["orgmem_2"] if parent.kind == "user" else ["orgmem_1", "orgmem_2", "orgmem_3"]
    assert left == [wanted]
    rows = db.reading(lambda conn: conn.execute(sa.select(memberships.c.clerk_id, memberships.c.status)).all())
    assert {id for id, _ in rows} == {it.key.id for it in news} - set(wanted)


def test_it_locks_people_in_the_order_in_which_everybody_does(db: Db) -> None:
    """Whoever waits holds nobody whom the one before them has still to lock: no circle."""
    news = [membership(n, of=n) for n in (3, 2, 1)]
    with db.engine.connect() as other:
        find_known(other, [Key("user", ClerkId("user_1"))])
        with beside(lambda: load(db, news), other) as left:
            rest = sa.select(users.c.id).where(users.c.clerk_id.in_(["user_2", "user_3"]))
            assert len(other.execute(rest.with_for_update(nowait=True)).all()) == 2
    assert left == [[]]


@pytest.mark.parametrize("write", [insert, take_in_all], ids=["in bulk", "by the law"])
@pytest.mark.parametrize("new", [user, organization])
def test_what_is_new_is_inserted_in_that_order_too(db: Db, new: Callable[[int], Seen], write: Write) -> None:
    with db.engine.connect() as other:
        insert(other, [new(8)])
        with beside(lambda: db.writing(write, [new(9), new(8)]), other):
            other.execute(sa.text("SET LOCAL lock_timeout = 100"))  # there is nothing to wait for
            insert(other, [new(9)])
    table = TABLES[new(8).key.kind]
    rows = db.reading(lambda conn: conn.execute(sa.select(table.c.clerk_id)).scalars().all())
    assert len(rows) == len(set(rows))
    assert {it.key.id for it in (new(8), new(9))} < set(rows)


def test_an_admins_organizations_are_locked_in_that_order_too(postgres_migrated_url: str) -> None:
    """Of their ids with us the order is the other one."""
    db = Db(postgres_migrated_url)
    db.writing(insert, [organization(2), organization(1), user(), membership(1, in_=1), membership(2, in_=2)])
    db.writing(lambda conn: conn.execute(sa.update(memberships).values(role=ADMIN)))
    [person] = db.reading(lambda conn: conn.execute(sa.select(users.c.id)).scalars().all())
    with db.engine.connect() as other:
        find_known(other, [organization(1).key])
        with beside(lambda: db.writing(lock_organizations_of, person, UNREAD), other):
            second = sa.select(organizations.c.id).where(organizations.c.clerk_id == "org_2")
            assert other.execute(second.with_for_update(nowait=True)).first() is not None
    db.close()
