"""What the database alone decides of a person, and a Clerk id that must stay dead."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.identity.events import Gone, News
from instep.identity.model import ADMIN
from instep.identity.roles import UNREAD
from instep.kit.db import Conn, Db
from instep.mirror import people
from instep.mirror.apply import apply, take_in
from instep.mirror.ledger import open_ledger
from instep.mirror.people import find_person
from instep.mirror.tables import memberships, users
from tests.support.people import membership, organization, user

OURS = "usr_0123456789abcdef0123456789"
MAIL = "person1@example.com"


def write(db: Db, *news: News, now: int = 10) -> None:
    db.writing(take_in, news, now=now)


def rows(db: Db, table: sa.Table = users) -> list[Any]:
    return db.reading(lambda conn: list(conn.execute(sa.select(table).order_by(table.c.joined_at, table.c.id)).all()))


def joined(db: Db) -> str:
    """Person 1 is a member of organization 1; our id of the person."""
    write(db, organization(), user(), membership())
    return str(rows(db)[0].id)


def restored(db: Db) -> str:
    """Person 1 was deleted in Clerk and restored here; our id of them."""
    id = joined(db)
    write(db, Gone(user().key), now=20)
    db.writing(people.restore, id, now=30)
    return id


def living(db: Db) -> list[tuple[str, str | None]]:
    """(our id, Clerk's id) of everyone who may come in."""
    return [(it.id, it.clerk_id) for it in rows(db) if it.is_active and it.deleted_at is None and it.gone_at is None]


def test_who_comes_back_after_clerk_has_deleted_them_has_no_clerk_account(db: Db) -> None:
    id = restored(db)
    found = db.reading(find_person, id)
    assert found is not None
    assert (found.clerk_id, found.is_deleted, found.is_active, found.email) == (
        None,
        False,
        True,
        "person1@example.com",
    )
    assert [it.status for it in rows(db, memberships)] == ["removed"]
    assert db.reading(find_person, "user_1") is None


@pytest.mark.parametrize(
    "late",
    [
        (user(version=9, first_name="Late"),),
        (Gone(user().key),),
        (user(version=9), organization(version=9), membership(2, version=9)),
        (membership(version=9, role=ADMIN),),
        (Gone(membership().key, membership().entity),),
    ],
    ids=["updated", "deleted", "joined", "membership updated", "membership deleted"],
)
def test_late_news_of_the_old_clerk_id_change_nobody_and_make_nobody(db: Db, late: tuple[News, ...]) -> None:
    id = restored(db)
    before = db.reading(find_person, id)
    write(db, *late, now=40)
    assert db.reading(find_person, id) == before
    assert living(db) == [(id, None)]
    assert {it.status for it in rows(db, memberships)} == {"removed"}


def test_who_signs_up_again_with_the_same_address_is_the_same_person(db: Db) -> None:
    id = restored(db)
    write(db, user(7, email="Person1@example.com"), now=40)
    assert living(db) == [(id, "user_7")]
    write(db, user(version=99), now=50)
    assert living(db) == [(id, "user_7")]


def test_restoring_twice_and_deleting_in_between_keeps_every_old_id_dead(db: Db) -> None:
    id = restored(db)
    write(db, user(7, email=MAIL), now=40)
    write(db, Gone(user(7).key), now=50)
    db.writing(people.restore, id, now=60)
    write(db, user(version=99), user(7, version=99), now=70)
    assert living(db) == [(id, None)]


def test_a_person_deleted_here_is_a_member_nowhere_until_they_are_restored(db: Db) -> None:
    id = joined(db)
    write(db, user(2), membership(2, of=2))
    db.writing(people.delete, id, now=20)
    assert [it.status for it in rows(db, memberships)] == ["deactivated", "active"]
    write(db, user(version=5, first_name="New"), membership(version=5, role=ADMIN), now=30)
    found = db.reading(find_person, id)
    assert found is not None
    assert (found.first_name, found.is_deleted, found.is_active) == ("New", True, False)
    db.writing(people.restore, id, now=40)
    assert [(it.role, it.status) for it in rows(db, memberships)] == [(ADMIN, "active"), ("org:member", "active")]
    assert {it[1] for it in living(db)} == {"user_1", "user_2"}


def test_restoring_leaves_those_out_who_were_deactivated_before(db: Db) -> None:
    id = joined(db)
    out = {"status": "deactivated", "deactivated_at": 15, "deactivation": "database"}
    db.writing(lambda conn: conn.execute(sa.update(memberships).values(**out)))
    db.writing(people.delete, id, now=20)
    db.writing(people.restore, id, now=30)
    assert [it.status for it in rows(db, memberships)] == ["deactivated"]


def test_our_id_that_clerk_has_as_external_id_is_the_persons(db: Db) -> None:
    """Whichever comes first: the webhook, or the answer to our own call."""
    write(db, user(external_id=OURS))
    write(db, user(version=2, external_id=OURS))
    assert [(it.id, it.version) for it in rows(db)] == [(OURS, 2)]


def test_our_id_of_someone_without_a_clerk_account_links_them(db: Db) -> None:
    db.writing(people.create_local, OURS, {"email": "old@example.com"}, now=1)
    write(db, user(external_id=OURS))
    assert [(it.id, it.clerk_id, it.email) for it in rows(db)] == [(OURS, "user_1", "person1@example.com")]


def test_our_id_that_somebody_else_has_is_nobodys(db: Db) -> None:
    write(db, user(external_id=OURS), user(2, external_id=OURS), user(3, external_id="usr_short"))
    write(db, user(4, external_id=OURS))
    assert [(it.clerk_id, it.id == OURS) for it in rows(db)] == [
        ("user_1", True),
        ("user_2", False),
        ("user_3", False),
        ("user_4", False),
    ]


def test_of_two_transactions_that_make_the_same_person_the_newer_stays(postgres_migrated_url: str) -> None:
    """The webhook comes in while the answer to our own call is written. (SQLite has one writer.)"""
    db, tries = Db(postgres_migrated_url), 0

    def settle(conn: Conn) -> None:
        nonlocal tries
        tries += 1
        ledger = open_ledger(conn, [user(external_id=OURS)])
        ledger.take(user(external_id=OURS), is_read=True)
        if tries == 1:
            db.writing(take_in, [user(version=2, external_id=OURS, first_name="Newer")], now=2)
        apply(conn, ledger, now=3)

    db.writing(settle)
    assert ([(it.id, it.version, it.first_name) for it in rows(db)], tries) == ([(OURS, 2, "Newer")], 2)
    db.close()


def test_a_local_profile_is_listed_and_found_by_its_new_name(db: Db) -> None:
    db.writing(people.create_local, OURS, {"email": "lou@example.com", "first_name": "Lou"}, now=1)

    def edit(conn: Conn) -> None:
        found = find_person(conn, OURS, is_locking=True)
        assert found is not None
        people.edit_local(conn, found, {"first_name": "", "username": "lulu"}, now=2)

    db.writing(edit)
    (row,) = rows(db)
    assert (row.first_name, row.username, row.sort_name, row.search_text) == (
        None,
        "lulu",
        "lulu",
        "  louXexampleQcom  lulu",
    )


def test_the_only_admin_is_one_beside_whom_no_other_admin_may_come_in(db: Db) -> None:
    write(db, organization(), user(), user(2), membership(role=ADMIN), membership(2, of=2, role=ADMIN))
    first, second = [it.id for it in rows(db)]
    assert db.reading(people.find_sole, first, UNREAD) == {}
    write(db, user(2, version=2, is_banned=True))
    assert list(db.reading(people.find_sole, first, UNREAD).values()) == ["Firm 1"]
    write(db, user(2, version=3, is_banned=False))
    db.writing(people.delete, second, now=5)
    assert list(db.reading(people.find_sole, first, UNREAD).values()) == ["Firm 1"]
