"""Only winning states are written."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from instep.core.db import Conn, Database
from instep.domain.events import EntityState, Tombstone
from instep.domain.models import EntityKey
from instep.domain.reconcile import NeedsRefetch
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.repository import count_members, find_organization
from instep.mirror.tables import memberships, organizations, users
from instep.mirror.unit_of_work import open_unit_of_work
from tests.support.people import membership, organization, user


def apply_states(db: Database, *states: EntityState) -> list[Any]:
    """Take and write these states in one transaction; gives the decisions."""

    def run(conn: Conn, states: Sequence[EntityState]) -> list[Any]:
        work = open_unit_of_work(conn, states)
        decisions = [work.reconcile(it) for it in states]
        apply_unit_of_work(conn, work, now=5_000)
        return decisions

    return db.write_sync(run, states)


def rows(db: Database, table: sa.Table) -> list[dict[str, Any]]:
    return db.read_sync(
        lambda conn: [dict(row._mapping) for row in conn.execute(sa.select(table).order_by(table.c.id))]
    )


def one(db: Database, table: sa.Table) -> dict[str, Any]:
    (row,) = rows(db, table)
    return row


def test_a_new_user_is_stored_with_all_fields(db: Database) -> None:
    apply_states(db, user(1, version=7, username="maya"))
    row = one(db, users)
    assert (row["clerk_id"], row["email"], row["username"], row["version"]) == (
        "user_1",
        "person1@example.com",
        "maya",
        7,
    )
    assert row["is_active"]
    assert row["sort_name"] == "first1 last1"


def test_the_newest_version_wins_in_any_order(db: Database) -> None:
    apply_states(db, user(1, version=3, first_name="New"))
    apply_states(db, user(1, version=2, first_name="Old"))
    assert one(db, users)["first_name"] == "New"


def test_two_states_of_a_user_in_one_transaction_leave_the_newest(db: Database) -> None:
    apply_states(db, user(1, version=2, first_name="Old"), user(1, version=9, first_name="New"), user(1, version=5))
    assert one(db, users)["first_name"] == "New"


def test_a_membership_waits_for_its_user(db: Database) -> None:
    (_, decision) = apply_states(db, organization(1), membership(1))
    assert decision == NeedsRefetch(EntityKey("user", membership(1).entity.user))  # type: ignore[union-attr]
    assert rows(db, memberships) == []


def test_a_membership_is_created_with_its_parents_in_one_transaction(db: Database) -> None:
    apply_states(db, organization(1), user(1), membership(1, role="org:admin"))
    row = one(db, memberships)
    assert (row["role"], row["status"], row["sort_name"]) == ("org:admin", "active", "first1 last1")
    found = db.read_sync(find_organization, "firm-1")
    assert found is not None
    assert db.read_sync(count_members, found.id) == {("active", "org:admin"): 1}


def test_a_deleted_user_stays_marked_and_has_no_membership(db: Database) -> None:
    apply_states(db, organization(1), user(1), membership(1))
    apply_states(db, Tombstone(EntityKey("user", user(1).key.id)))
    assert one(db, users)["deleted_at"] == 5_000
    assert not one(db, users)["is_active"]
    assert one(db, memberships)["status"] == "removed"


def test_a_late_update_does_not_revive_a_deleted_user(db: Database) -> None:
    apply_states(db, Tombstone(user(1).key))
    apply_states(db, user(1, version=10**15))
    assert one(db, users)["gone_at"] == 5_000


def test_a_membership_of_a_deleted_user_is_removed_from_the_start(db: Database) -> None:
    apply_states(db, organization(1), user(1))
    apply_states(db, Tombstone(user(1).key))
    apply_states(db, membership(1))
    assert one(db, memberships)["status"] == "removed"


def test_a_deletion_ends_the_membership_with_that_id_and_not_the_rejoin(db: Database) -> None:
    apply_states(db, organization(1), user(1), membership(1))
    apply_states(db, membership(2))
    apply_states(db, Tombstone(membership(1).key, membership(1).entity))
    assert [(row["clerk_id"], row["status"]) for row in rows(db, memberships)] == [
        ("orgmem_1", "removed"),
        ("orgmem_2", "active"),
    ]


def test_an_early_deletion_is_stored(db: Database) -> None:
    apply_states(db, organization(1), user(1), Tombstone(membership(1).key, membership(1).entity))
    apply_states(db, membership(1, version=99))
    assert one(db, memberships)["status"] == "removed"


def test_a_deleted_organization_has_no_members(db: Database) -> None:
    apply_states(db, organization(1), user(1), membership(1))
    apply_states(db, Tombstone(organization(1).key))
    assert one(db, organizations)["deleted_at"] == 5_000
    assert one(db, memberships)["status"] == "removed"
    assert db.read_sync(find_organization, "firm-1") is None


def test_a_new_name_is_copied_to_memberships(db: Database) -> None:
    apply_states(db, organization(1), user(1), membership(1))
    apply_states(db, user(1, version=2, first_name="Zoe", last_name=None))
    assert one(db, memberships)["sort_name"] == "zoe"
    assert "zoe" in one(db, memberships)["search_text"]


def test_a_local_user_is_linked_by_a_verified_address(db: Database) -> None:
    def insert(conn: Conn) -> None:
        blank = {"sort_name": "", "search_text": "", "joined_at": 1, "changed_at": 1}
        conn.execute(sa.insert(users).values(id="usr_local", email="Person1@Example.com", **blank))

    db.write_sync(insert)
    apply_states(db, user(1))
    row = one(db, users)
    assert (row["id"], row["clerk_id"]) == ("usr_local", "user_1")


def test_an_unverified_address_does_not_link(db: Database) -> None:
    def insert(conn: Conn) -> None:
        blank = {"sort_name": "", "search_text": "", "joined_at": 1, "changed_at": 1}
        conn.execute(sa.insert(users).values(id="usr_local", email="person1@example.com", **blank))

    db.write_sync(insert)
    apply_states(db, user(1, is_email_verified=False))
    assert len(rows(db, users)) == 2


def test_a_moved_address_does_not_fail(db: Database) -> None:
    apply_states(db, user(1, email="shared@example.com"))
    apply_states(db, user(2, email="shared@example.com", version=2))
    assert [row["email"] for row in rows(db, users)] == ["shared@example.com"] * 2
