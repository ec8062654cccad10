"""Whoever signs up with a place in their metadata belongs there, once, and only where the place is a local one."""

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from instep.core.db import Conn, Database
from instep.domain.events import Observation
from instep.domain.models import ClerkId, ClerkUser
from instep.mirror.apply import LocalOrganizationGrant, apply_observations, parse_local_organization_grant
from instep.mirror.tables import memberships, organizations, users
from instep.mirror.unit_of_work import LocalMembership
from tests.support.people import organization, user

LOCAL = {"organization": "ogn_local", "role": "org:admin"}


def with_metadata(metadata: Any, n: int = 1, version: int = 1) -> Observation:
    return user(n, version=version, public_metadata=msgspec.Raw(msgspec.json.encode(metadata)))


def put_local(conn: Conn, /, **changes: Any) -> None:
    row = {"id": "ogn_local", "name": "Local", "joined_at": 1, "changed_at": 1}
    conn.execute(sa.insert(organizations).values(**(row | changes)))


def take(conn: Conn, /, *news: Observation) -> list[LocalMembership]:
    return apply_observations(conn, news, now=7).local_memberships


def members(db: Database) -> list[tuple[str, str, str]]:
    query = sa.select(users.c.clerk_id, memberships.c.role, memberships.c.status).join(users)
    return db.read_sync(lambda conn: [tuple(row) for row in conn.execute(query.order_by(users.c.clerk_id))])


@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        (LOCAL, LocalOrganizationGrant("ogn_local", "org:admin")),
        ({"organization": "ogn_local", "role": "sales"}, LocalOrganizationGrant("ogn_local", "org:sales")),
        ({"organization": "ogn_local"}, None),
        ({"organization": 7, "role": "x"}, None),
        ({"organization": "ogn_local", "role": ""}, None),
        ({"role": "admin"}, None),
        (['"organization"'], None),
        ({}, None),
    ],
)
def test_a_place_is_named_whole_or_not_at_all(metadata: Any, place: LocalOrganizationGrant | None) -> None:
    raw = msgspec.Raw(msgspec.json.encode(metadata))
    assert parse_local_organization_grant(ClerkUser(clerk_id=ClerkId("user_1"), public_metadata=raw)) == place


def test_they_become_a_member_once(db: Database) -> None:
    db.write_sync(put_local)
    (joined,) = db.write_sync(take, with_metadata(LOCAL), user(2))
    assert (joined.organization_id, joined.role) == ("ogn_local", "org:admin")
    assert db.write_sync(take, with_metadata(LOCAL, version=2)) == []
    assert members(db) == [("user_1", "org:admin", "active")]


def test_several_at_once_are_found_in_the_list_by_name(db: Database) -> None:
    db.write_sync(put_local)
    assert len(db.write_sync(take, *(with_metadata(LOCAL, n) for n in (1, 2, 3)))) == 3
    names = db.read_sync(lambda conn: set(conn.execute(sa.select(memberships.c.sort_name)).scalars()))
    assert names == {"first1 last1", "first2 last2", "first3 last3"}


def test_who_was_removed_stays_removed(db: Database) -> None:
    db.write_sync(put_local)
    db.write_sync(take, with_metadata(LOCAL))
    db.write_sync(lambda conn: conn.execute(sa.update(memberships).values(status="removed", gone_at=5)))
    assert db.write_sync(take, with_metadata(LOCAL, version=2)) == []
    assert members(db) == [("user_1", "org:admin", "removed")]


def test_an_organization_that_clerk_keeps_or_that_is_no_more_takes_nobody_in(db: Database) -> None:
    def find(conn: Conn) -> str:
        return str(conn.execute(sa.select(organizations.c.id)).scalar_one())

    db.write_sync(take, organization(1))
    assert db.write_sync(take, with_metadata(LOCAL | {"organization": db.read_sync(find)})) == []
    db.write_sync(put_local, deleted_at=3)
    assert db.write_sync(take, with_metadata(LOCAL, 2), with_metadata(LOCAL | {"organization": "ogn_none"}, 3)) == []
    assert members(db) == []


def test_someone_who_is_not_active_is_not_taken_in(db: Database) -> None:
    db.write_sync(put_local)
    db.write_sync(take, user(1))
    db.write_sync(lambda conn: conn.execute(sa.update(users).values(is_active=False)))
    assert db.write_sync(take, with_metadata(LOCAL, version=2)) == []
