"""Local decisions about a user, and a Clerk id that must stay deleted."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.db import Conn, Database
from instep.domain.events import EntityState, Tombstone
from instep.domain.models import ADMIN_ROLE
from instep.domain.roles import UNKNOWN_ROLES
from instep.mirror import user_repository
from instep.mirror.apply import apply_observations, apply_unit_of_work
from instep.mirror.tables import memberships, users
from instep.mirror.unit_of_work import open_unit_of_work
from instep.mirror.user_repository import find_user
from tests.support.people import membership, organization, user

OURS = "usr_0123456789abcdef0123456789"
MAIL = "person1@example.com"


def write(db: Database, *states: EntityState, now: int = 10) -> None:
    db.write_sync(apply_observations, states, now=now)


def rows(db: Database, table: sa.Table = users) -> list[Any]:
    return db.read_sync(lambda conn: list(conn.execute(sa.select(table).order_by(table.c.joined_at, table.c.id)).all()))


def joined(db: Database) -> str:
    """Person 1 is a member of organization 1; our id of the person."""
    write(db, organization(), user(), membership())
    return str(rows(db)[0].id)


def restored(db: Database) -> str:
    """Person 1 was deleted in Clerk and restored here; our id of them."""
    id = joined(db)
    write(db, Tombstone(user().key), now=20)
    db.write_sync(user_repository.restore_user, id, now=30)
    return id


def living(db: Database) -> list[tuple[str, str | None]]:
    """(our id, Clerk's id) of everyone who may come in."""
    return [(it.id, it.clerk_id) for it in rows(db) if it.is_active and it.deleted_at is None and it.gone_at is None]


def test_a_restored_user_deleted_in_clerk_has_no_clerk_account(db: Database) -> None:
    id = restored(db)
    found = db.read_sync(find_user, id)
    assert found is not None
    assert (found.clerk_id, found.is_deleted, found.is_active, found.email) == (
        None,
        False,
        True,
        "person1@example.com",
    )
    assert [it.status for it in rows(db, memberships)] == ["removed"]
    assert db.read_sync(find_user, "user_1") is None


@pytest.mark.parametrize(
    "late",
    [
        (user(version=9, first_name="Late"),),
        (Tombstone(user().key),),
        (user(version=9), organization(version=9), membership(2, version=9)),
        (membership(version=9, role=ADMIN_ROLE),),
        (Tombstone(membership().key, membership().entity),),
    ],
    ids=["updated", "deleted", "joined", "membership updated", "membership deleted"],
)
def test_late_events_about_the_old_clerk_id_have_no_effect(db: Database, late: tuple[EntityState, ...]) -> None:
    id = restored(db)
    before = db.read_sync(find_user, id)
    write(db, *late, now=40)
    assert db.read_sync(find_user, id) == before
    assert living(db) == [(id, None)]
    assert {it.status for it in rows(db, memberships)} == {"removed"}


def test_signing_up_again_with_the_same_address_links_the_same_user(db: Database) -> None:
    id = restored(db)
    write(db, user(7, email="Person1@example.com"), now=40)
    assert living(db) == [(id, "user_7")]
    write(db, user(version=99), now=50)
    assert living(db) == [(id, "user_7")]


def test_every_old_clerk_id_stays_deleted_after_restoring_twice(db: Database) -> None:
    id = restored(db)
    write(db, user(7, email=MAIL), now=40)
    write(db, Tombstone(user(7).key), now=50)
    db.write_sync(user_repository.restore_user, id, now=60)
    write(db, user(version=99), user(7, version=99), now=70)
    assert living(db) == [(id, None)]


def test_a_user_deleted_here_has_no_membership_until_restored(db: Database) -> None:
    id = joined(db)
    write(db, user(2), membership(2, of=2))
    db.write_sync(user_repository.soft_delete_user, id, now=20)
    assert [it.status for it in rows(db, memberships)] == ["deactivated", "active"]
    write(db, user(version=5, first_name="New"), membership(version=5, role=ADMIN_ROLE), now=30)
    found = db.read_sync(find_user, id)
    assert found is not None
    assert (found.first_name, found.is_deleted, found.is_active) == ("New", True, False)
    db.write_sync(user_repository.restore_user, id, now=40)
    assert [(it.role, it.status) for it in rows(db, memberships)] == [(ADMIN_ROLE, "active"), ("org:member", "active")]
    assert {it[1] for it in living(db)} == {"user_1", "user_2"}


def test_restoring_leaves_earlier_deactivations(db: Database) -> None:
    id = joined(db)
    out = {"status": "deactivated", "deactivated_at": 15, "deactivation": "database"}
    db.write_sync(lambda conn: conn.execute(sa.update(memberships).values(**out)))
    db.write_sync(user_repository.soft_delete_user, id, now=20)
    db.write_sync(user_repository.restore_user, id, now=30)
    assert [it.status for it in rows(db, memberships)] == ["deactivated"]


def test_a_user_gets_our_id_from_its_external_id(db: Database) -> None:
    """Whichever comes first: the webhook, or the answer to our own call."""
    write(db, user(external_id=OURS))
    write(db, user(version=2, external_id=OURS))
    assert [(it.id, it.version) for it in rows(db)] == [(OURS, 2)]


def test_the_external_id_links_a_local_user(db: Database) -> None:
    db.write_sync(user_repository.create_local_user, OURS, {"email": "old@example.com"}, now=1)
    write(db, user(external_id=OURS))
    assert [(it.id, it.clerk_id, it.email) for it in rows(db)] == [(OURS, "user_1", "person1@example.com")]


def test_an_external_id_in_use_is_ignored(db: Database) -> None:
    write(db, user(external_id=OURS), user(2, external_id=OURS), user(3, external_id="usr_short"))
    write(db, user(4, external_id=OURS))
    assert [(it.clerk_id, it.id == OURS) for it in rows(db)] == [
        ("user_1", True),
        ("user_2", False),
        ("user_3", False),
        ("user_4", False),
    ]


def test_the_newer_of_two_concurrent_inserts_of_a_user_wins(postgres_migrated_url: str) -> None:
    """The webhook comes in while the answer to our own call is written. (SQLite has one writer.)"""
    db, tries = Database(postgres_migrated_url), 0

    def settle(conn: Conn) -> None:
        nonlocal tries
        tries += 1
        work = open_unit_of_work(conn, [user(external_id=OURS)])
        work.reconcile(user(external_id=OURS), is_read=True)
        if tries == 1:
            db.write_sync(apply_observations, [user(version=2, external_id=OURS, first_name="Newer")], now=2)
        apply_unit_of_work(conn, work, now=3)

    db.write_sync(settle)
    assert ([(it.id, it.version, it.first_name) for it in rows(db)], tries) == ([(OURS, 2, "Newer")], 2)
    db.close()


def test_a_local_user_is_listed_and_found_by_its_new_name(db: Database) -> None:
    db.write_sync(user_repository.create_local_user, OURS, {"email": "lou@example.com", "first_name": "Lou"}, now=1)

    def edit(conn: Conn) -> None:
        found = find_user(conn, OURS, is_locking=True)
        assert found is not None
        user_repository.update_local_user(conn, found, {"first_name": "", "username": "lulu"}, now=2)

    db.write_sync(edit)
    (row,) = rows(db)
    assert (row.first_name, row.username, row.sort_name, row.search_text) == (
        None,
        "lulu",
        "lulu",
        "  louXexampleQcom  lulu",
    )


def test_a_sole_admin_has_no_other_admin_with_access(db: Database) -> None:
    write(db, organization(), user(), user(2), membership(role=ADMIN_ROLE), membership(2, of=2, role=ADMIN_ROLE))
    first, second = [it.id for it in rows(db)]
    assert db.read_sync(user_repository.find_sole_admin_organizations, first, UNKNOWN_ROLES) == {}
    write(db, user(2, version=2, is_banned=True))
    assert list(db.read_sync(user_repository.find_sole_admin_organizations, first, UNKNOWN_ROLES).values()) == [
        "Firm 1"
    ]
    write(db, user(2, version=3, is_banned=False))
    db.write_sync(user_repository.soft_delete_user, second, now=5)
    assert list(db.read_sync(user_repository.find_sole_admin_organizations, first, UNKNOWN_ROLES).values()) == [
        "Firm 1"
    ]
