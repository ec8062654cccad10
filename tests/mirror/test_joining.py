"""Whoever signs up with a place in their metadata belongs there, once, and only where the place is a local one."""

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from instep.identity.events import Seen
from instep.identity.model import ClerkId, User
from instep.kit.db import Conn, Db
from instep.mirror.apply import take_in
from instep.mirror.joining import Place, place_of
from instep.mirror.ledger import Joined
from instep.mirror.tables import memberships, organizations, users
from tests.support.people import organization, user

LOCAL = {"organization": "ogn_local", "role": "org:admin"}


def with_metadata(metadata: Any, n: int = 1, version: int = 1) -> Seen:
    return user(n, version=version, public_metadata=msgspec.Raw(msgspec.json.encode(metadata)))


def put_local(conn: Conn, /, **changes: Any) -> None:
    row = {"id": "ogn_local", "name": "Local", "joined_at": 1, "changed_at": 1}
    conn.execute(sa.insert(organizations).values(**(row | changes)))


def take(conn: Conn, /, *news: Seen) -> list[Joined]:
    return take_in(conn, news, now=7).joined


def members(db: Db) -> list[tuple[str, str, str]]:
    query = sa.select(users.c.clerk_id, memberships.c.role, memberships.c.status).join(users)
    return db.reading(lambda conn: [tuple(row) for row in conn.execute(query.order_by(users.c.clerk_id))])


@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        (LOCAL, Place("ogn_local", "org:admin")),
        ({"organization": "ogn_local", "role": "sales"}, Place("ogn_local", "org:sales")),
        ({"organization": "ogn_local"}, None),
        ({"organization": 7, "role": "x"}, None),
        ({"organization": "ogn_local", "role": ""}, None),
        ({"role": "admin"}, None),
        (['"organization"'], None),
        ({}, None),
    ],
)
def test_a_place_is_named_whole_or_not_at_all(metadata: Any, place: Place | None) -> None:
    raw = msgspec.Raw(msgspec.json.encode(metadata))
    assert place_of(User(clerk_id=ClerkId("user_1"), public_metadata=raw)) == place


def test_they_become_a_member_once(db: Db) -> None:
    db.writing(put_local)
    (joined,) = db.writing(take, with_metadata(LOCAL), user(2))
    assert (joined.organization_id, joined.role) == ("ogn_local", "org:admin")
    assert db.writing(take, with_metadata(LOCAL, version=2)) == []
    assert members(db) == [("user_1", "org:admin", "active")]


def test_several_at_once_are_found_in_the_list_by_name(db: Db) -> None:
    db.writing(put_local)
    assert len(db.writing(take, *(with_metadata(LOCAL, n) for n in (1, 2, 3)))) == 3
    names = db.reading(lambda conn: set(conn.execute(sa.select(memberships.c.sort_name)).scalars()))
    assert names == {"first1 last1", "first2 last2", "first3 last3"}


def test_who_was_removed_stays_removed(db: Db) -> None:
    db.writing(put_local)
    db.writing(take, with_metadata(LOCAL))
    db.writing(lambda conn: conn.execute(sa.update(memberships).values(status="removed", gone_at=5)))
    assert db.writing(take, with_metadata(LOCAL, version=2)) == []
    assert members(db) == [("user_1", "org:admin", "removed")]


def test_an_organization_that_clerk_keeps_or_that_is_no_more_takes_nobody_in(db: Db) -> None:
    def find(conn: Conn) -> str:
        return str(conn.execute(sa.select(organizations.c.id)).scalar_one())

    db.writing(take, organization(1))
    assert db.writing(take, with_metadata(LOCAL | {"organization": db.reading(find)})) == []
    db.writing(put_local, deleted_at=3)
    assert db.writing(take, with_metadata(LOCAL, 2), with_metadata(LOCAL | {"organization": "ogn_none"}, 3)) == []
    assert members(db) == []


def test_someone_who_is_not_active_is_not_taken_in(db: Db) -> None:
    db.writing(put_local)
    db.writing(take, user(1))
    db.writing(lambda conn: conn.execute(sa.update(users).values(is_active=False)))
    assert db.writing(take, with_metadata(LOCAL, version=2)) == []
