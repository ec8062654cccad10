"""Local decisions about a membership, and the effect of Clerk's events on it."""

from collections.abc import Sequence
from itertools import permutations

import sqlalchemy as sa

from instep.core.db import Conn, Database
from instep.domain.events import EntityState, Observation, Tombstone
from instep.domain.models import ClerkId, ClerkMembership
from instep.mirror import membership_status
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.repository import count_members
from instep.mirror.tables import memberships, users
from instep.mirror.unit_of_work import open_unit_of_work
from tests.support.people import membership, organization, user

NOW = 5_000


def apply_states(db: Database, *states: EntityState, at_once: bool = True) -> None:
    """Take and write these states, in one transaction or one after the other."""

    def run(conn: Conn, states: Sequence[EntityState]) -> None:
        work = open_unit_of_work(conn, states)
        for it in states:
            work.reconcile(it)
        apply_unit_of_work(conn, work, now=NOW)

    for batch in [states] if at_once else [[it] for it in states]:
        db.write_sync(run, batch)


def rows(db: Database) -> list[dict[str, object]]:
    query = sa.select(memberships).order_by(memberships.c.id)
    return db.read_sync(lambda conn: [dict(row._mapping) for row in conn.execute(query)])


def statuses_by_clerk_id(db: Database) -> dict[object, object]:
    """The status under each of Clerk's ids."""
    return {row["clerk_id"]: row["status"] for row in rows(db)}


def joined(n: int, *, at: int, version: int | None = None) -> Observation:
    """Membership `n` of the one person, made at `at`."""
    seen = membership(n, version=version or at)
    assert isinstance(seen.entity, ClerkMembership)
    entity = ClerkMembership(
        clerk_id=ClerkId(f"orgmem_{n}"),
        organization=seen.entity.organization,
        user=seen.entity.user,
        role="org:member",
        joined_at=at,
    )
    return Observation(seen.key, seen.version, entity, seen.digest)


def deactivated(db: Database, how: membership_status.DeactivationScope) -> str:
    """The one member of the one organization, deactivated; our id of the row."""
    apply_states(db, organization(1), user(1), joined(1, at=100))
    id = str(rows(db)[0]["id"])
    db.write_sync(membership_status.deactivate_membership, id, scope=how, now=NOW)
    return id


def test_a_member_removed_in_clerk_by_deactivation_stays_listed(db: Database) -> None:
    deactivated(db, "membership")
    apply_states(db, Tombstone(membership(1).key, membership(1).entity))
    assert statuses_by_clerk_id(db) == {"orgmem_1": "deactivated"}
    apply_states(db, joined(1, at=100, version=999))
    assert statuses_by_clerk_id(db) == {"orgmem_1": "deactivated"}, (
        "late states of the removed membership change nothing"
    )


def test_a_member_deactivated_here_only_and_removed_in_clerk_is_removed(db: Database) -> None:
    deactivated(db, "database")
    apply_states(db, Tombstone(membership(1).key, membership(1).entity))
    assert statuses_by_clerk_id(db) == {"orgmem_1": "removed"}


def test_a_kept_member_deleted_in_clerk_is_removed(db: Database) -> None:
    deactivated(db, "membership")
    apply_states(db, Tombstone(user(1).key))
    assert statuses_by_clerk_id(db) == {"orgmem_1": "removed"}


def test_a_kept_member_keeps_its_row_under_the_new_id_and_stays_deactivated(db: Database) -> None:
    id = deactivated(db, "membership")
    apply_states(db, Tombstone(membership(1).key, membership(1).entity))
    apply_states(db, joined(2, at=200))
    assert statuses_by_clerk_id(db) == {"orgmem_1": "removed", "orgmem_2": "deactivated"}
    (row,) = [row for row in rows(db) if row["id"] == id]
    assert (row["clerk_id"], row["gone_at"], row["joined_at"]) == ("orgmem_2", None, 100)
    db.write_sync(membership_status.reactivate_membership, id, now=NOW)
    apply_states(db, joined(1, at=100, version=999))
    assert statuses_by_clerk_id(db) == {"orgmem_1": "removed", "orgmem_2": "active"}
    assert db.read_sync(count_members, str(row["organization_id"])) == {
        ("active", "org:member"): 1,
        ("removed", "org:member"): 1,
    }


def test_the_current_membership_is_the_row_in_any_order(migrated_url: str) -> None:
    """Removed by deactivation, back, removed, and back again: every order, in one transaction and one by one."""
    db = Database(migrated_url)
    told: list[EntityState] = [
        Tombstone(membership(1).key, membership(1).entity),
        joined(2, at=200),
        Tombstone(membership(2).key, joined(2, at=200).entity),
        joined(3, at=300),
    ]
    for order in permutations(told):
        for at_once in (True, False):
            db.write_sync(_delete_all_rows)
            id = deactivated(db, "membership")
            apply_states(db, *order, at_once=at_once)
            (row,) = [row for row in rows(db) if row["id"] == id]
            living = {row["clerk_id"] for row in rows(db) if row["status"] != "removed"}
            assert (row["clerk_id"], row["status"], row["gone_at"]) == ("orgmem_3", "deactivated", None), order
            assert living == {"orgmem_3"}, order
    db.close()


def _delete_all_rows(conn: Conn) -> None:
    conn.execute(sa.delete(memberships))
    conn.execute(sa.delete(users))


def test_a_relink_and_a_late_deletion_of_the_old_id_are_one_member(db: Database) -> None:
    deactivated(db, "membership")
    apply_states(db, joined(2, at=200))
    apply_states(db, Tombstone(membership(1).key, membership(1).entity))
    assert statuses_by_clerk_id(db) == {"orgmem_1": "removed", "orgmem_2": "deactivated"}


def test_local_memberships_are_removed_and_restored(db: Database) -> None:
    apply_states(db, organization(1), user(1), joined(1, at=100))
    id = str(rows(db)[0]["id"])
    db.write_sync(lambda conn: conn.execute(sa.update(memberships).values(clerk_id=None)))
    db.write_sync(membership_status.remove_membership, id, now=NOW)
    assert rows(db)[0]["status"] == "removed"
    db.write_sync(membership_status.set_membership_role, id, "org:admin", now=NOW)
    db.write_sync(membership_status.restore_membership, id, now=NOW)
    assert (rows(db)[0]["status"], rows(db)[0]["role"], rows(db)[0]["gone_at"]) == ("active", "org:admin", None)
