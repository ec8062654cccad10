"""What is written is what won, and only that."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from instep.identity.events import Gone, News
from instep.identity.model import Key
from instep.identity.rules import AskAgain
from instep.kit.db import Conn, Db
from instep.mirror.apply import apply
from instep.mirror.ledger import open_ledger
from instep.mirror.store import find_organization, member_totals
from instep.mirror.tables import memberships, organizations, users
from tests.support.people import membership, organization, user


def take(db: Db, *news: News) -> list[Any]:
    """Take and write these news in one transaction; gives the verdicts."""

    def run(conn: Conn, news: Sequence[News]) -> list[Any]:
        ledger = open_ledger(conn, news)
        verdicts = [ledger.take(it) for it in news]
        apply(conn, ledger, now=5_000)
        return verdicts

    return db.writing(run, news)


def rows(db: Db, table: sa.Table) -> list[dict[str, Any]]:
    return db.reading(lambda conn: [dict(row._mapping) for row in conn.execute(sa.select(table).order_by(table.c.id))])


def one(db: Db, table: sa.Table) -> dict[str, Any]:
    (row,) = rows(db, table)
    return row


def test_a_new_person_is_there_with_everything_clerk_said(db: Db) -> None:
    take(db, user(1, version=7, username="maya"))
    row = one(db, users)
    assert (row["clerk_id"], row["email"], row["username"], row["version"]) == (
        "user_1",
        "person1@example.com",
        "maya",
        7,
    )
    assert row["is_active"]
    assert row["sort_name"] == "first1 last1"


def test_the_newest_version_stays_whatever_the_order(db: Db) -> None:
    take(db, user(1, version=3, first_name="New"))
    take(db, user(1, version=2, first_name="Old"))
    assert one(db, users)["first_name"] == "New"


def test_two_news_of_one_person_in_one_transaction_leave_the_newest(db: Db) -> None:
    take(db, user(1, version=2, first_name="Old"), user(1, version=9, first_name="New"), user(1, version=5))
    assert one(db, users)["first_name"] == "New"


def test_a_membership_waits_for_its_person(db: Db) -> None:
    (_, verdict) = take(db, organization(1), membership(1))
    assert verdict == AskAgain(Key("user", membership(1).entity.user))  # type: ignore[union-attr]
    assert rows(db, memberships) == []


def test_a_membership_is_made_with_its_parents_in_one_transaction(db: Db) -> None:
    take(db, organization(1), user(1), membership(1, role="org:admin"))
    row = one(db, memberships)
    assert (row["role"], row["status"], row["sort_name"]) == ("org:admin", "active", "first1 last1")
    found = db.reading(find_organization, "firm-1")
    assert found is not None
    assert db.reading(member_totals, found.id) == {("active", "org:admin"): 1}


def test_a_deleted_person_stays_marked_and_belongs_nowhere(db: Db) -> None:
    take(db, organization(1), user(1), membership(1))
    take(db, Gone(Key("user", user(1).key.id)))
    assert one(db, users)["deleted_at"] == 5_000
    assert not one(db, users)["is_active"]
    assert one(db, memberships)["status"] == "removed"


def test_a_late_update_does_not_bring_the_dead_back(db: Db) -> None:
    take(db, Gone(user(1).key))
    take(db, user(1, version=10**15))
    assert one(db, users)["gone_at"] == 5_000


def test_a_membership_that_comes_after_its_persons_death_is_removed_from_the_start(db: Db) -> None:
    take(db, organization(1), user(1))
    take(db, Gone(user(1).key))
    take(db, membership(1))
    assert one(db, memberships)["status"] == "removed"


def test_a_deletion_kills_the_membership_with_that_id_and_not_the_rejoin(db: Db) -> None:
    take(db, organization(1), user(1), membership(1))
    take(db, membership(2))
    take(db, Gone(membership(1).key, membership(1).entity))
    assert [(row["clerk_id"], row["status"]) for row in rows(db, memberships)] == [
        ("orgmem_1", "removed"),
        ("orgmem_2", "active"),
    ]


def test_a_deletion_that_comes_first_keeps_its_place(db: Db) -> None:
    take(db, organization(1), user(1), Gone(membership(1).key, membership(1).entity))
    take(db, membership(1, version=99))
    assert one(db, memberships)["status"] == "removed"


def test_a_deleted_organization_empties(db: Db) -> None:
    take(db, organization(1), user(1), membership(1))
    take(db, Gone(organization(1).key))
    assert one(db, organizations)["deleted_at"] == 5_000
    assert one(db, memberships)["status"] == "removed"
    assert db.reading(find_organization, "firm-1") is None


def test_a_new_name_reaches_the_lists_of_the_persons_organizations(db: Db) -> None:
    take(db, organization(1), user(1), membership(1))
    take(db, user(1, version=2, first_name="Zoe", last_name=None))
    assert one(db, memberships)["sort_name"] == "zoe"
    assert "zoe" in one(db, memberships)["search_text"]


def test_someone_we_knew_before_clerk_did_is_linked_by_the_verified_address(db: Db) -> None:
    def insert(conn: Conn) -> None:
        blank = {"sort_name": "", "search_text": "", "joined_at": 1, "changed_at": 1}
        conn.execute(sa.insert(users).values(id="usr_local", email="Person1@Example.com", **blank))

    db.writing(insert)
    take(db, user(1))
    row = one(db, users)
    assert (row["id"], row["clerk_id"]) == ("usr_local", "user_1")


def test_an_unverified_address_links_nobody(db: Db) -> None:
    def insert(conn: Conn) -> None:
        blank = {"sort_name": "", "search_text": "", "joined_at": 1, "changed_at": 1}
        conn.execute(sa.insert(users).values(id="usr_local", email="person1@example.com", **blank))

    db.writing(insert)
    take(db, user(1, is_email_verified=False))
    assert len(rows(db, users)) == 2


def test_an_address_that_moved_does_not_fail(db: Db) -> None:
    take(db, user(1, email="shared@example.com"))
    take(db, user(2, email="shared@example.com", version=2))
    assert [row["email"] for row in rows(db, users)] == ["shared@example.com"] * 2
