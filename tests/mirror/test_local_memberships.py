"""A user who signs up with a local grant in the metadata becomes a member once."""

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


def insert_local_organization(conn: Conn, /, **changes: Any) -> None:
    row = {"id": "ogn_local", "name": "Local", "joined_at": 1, "changed_at": 1}
    conn.execute(sa.insert(organizations).values(**(row | changes)))


def apply_states(conn: Conn, /, *states: Observation) -> list[LocalMembership]:
    return apply_observations(conn, states, now=7).local_memberships


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
def test_a_grant_is_complete_or_ignored(metadata: Any, place: LocalOrganizationGrant | None) -> None:
    raw = msgspec.Raw(msgspec.json.encode(metadata))
    assert parse_local_organization_grant(ClerkUser(clerk_id=ClerkId("user_1"), public_metadata=raw)) == place


def test_a_user_becomes_a_member_once(db: Database) -> None:
    db.write_sync(insert_local_organization)
    (joined,) = db.write_sync(apply_states, with_metadata(LOCAL), user(2))
    assert (joined.organization_id, joined.role) == ("ogn_local", "org:admin")
    assert db.write_sync(apply_states, with_metadata(LOCAL, version=2)) == []
    assert members(db) == [("user_1", "org:admin", "active")]


def test_several_new_members_are_listed_by_name(db: Database) -> None:
    db.write_sync(insert_local_organization)
    assert len(db.write_sync(apply_states, *(with_metadata(LOCAL, n) for n in (1, 2, 3)))) == 3
    names = db.read_sync(lambda conn: set(conn.execute(sa.select(memberships.c.sort_name)).scalars()))
    assert names == {"first1 last1", "first2 last2", "first3 last3"}


def test_a_removed_member_stays_removed(db: Database) -> None:
    db.write_sync(insert_local_organization)
    db.write_sync(apply_states, with_metadata(LOCAL))
    db.write_sync(lambda conn: conn.execute(sa.update(memberships).values(status="removed", gone_at=5)))
    assert db.write_sync(apply_states, with_metadata(LOCAL, version=2)) == []
    assert members(db) == [("user_1", "org:admin", "removed")]


def test_an_organization_of_clerk_or_a_deleted_one_gets_no_member(db: Database) -> None:
    def find(conn: Conn) -> str:
        return str(conn.execute(sa.select(organizations.c.id)).scalar_one())

    db.write_sync(apply_states, organization(1))
    assert db.write_sync(apply_states, with_metadata(LOCAL | {"organization": db.read_sync(find)})) == []
    db.write_sync(insert_local_organization, deleted_at=3)
    assert (
        db.write_sync(apply_states, with_metadata(LOCAL, 2), with_metadata(LOCAL | {"organization": "ogn_none"}, 3))
        == []
    )
    assert members(db) == []


def test_an_inactive_user_gets_no_membership(db: Database) -> None:
    db.write_sync(insert_local_organization)
    db.write_sync(apply_states, user(1))
    db.write_sync(lambda conn: conn.execute(sa.update(users).values(is_active=False)))
    assert db.write_sync(apply_states, with_metadata(LOCAL, version=2)) == []
