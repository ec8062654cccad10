"""Authorization: organizations that each principal may see, by each of their names."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.auth import repository
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, Principal
from instep.core.db import Conn, Database
from tests.auth.world import change_user, put_membership, put_organization, put_user

PERSON = Principal(kind="person", name="One", user_id="usr_1", clerk_user_id="user_1")
STRANGER = Principal(kind="person", name="Unknown", clerk_user_id="user_9")
ADMIN = Principal(kind="person", name="Two", user_id="usr_2", clerk_user_id="user_2", is_instance_admin=True)


def seed(conn: Conn, /) -> None:
    """Person 1 is an admin of firm 1, a member of firm 2, and was in firms 3 to 5; firms 6 and 7 are over."""
    for n in (1, 2):
        put_user(conn, n)
    for n in range(1, 6):
        put_organization(conn, n)
    put_organization(conn, 6, deleted_at=1)
    put_organization(conn, 7, gone_at=1)
    put_membership(conn, 1, 1, role="org:admin")
    put_membership(conn, 1, 2)
    put_membership(conn, 1, 3, status="deactivated")
    put_membership(conn, 1, 4, status="removed")
    put_membership(conn, 1, 5, gone_at=1)
    put_membership(conn, 1, 6, role="org:admin")
    put_membership(conn, 1, 7, role="org:admin")


def access(db: Database, principal: Principal, ref: str) -> tuple[str, str | None, bool] | None:
    found = db.read_sync(repository.find_access, principal, ref)
    return (found.organization_id, found.role, found.can_manage) if found else None


@pytest.mark.parametrize(
    ("principal", "organization", "expected"),
    [
        (PERSON, 1, ("orn_1", "org:admin", True)),
        (PERSON, 2, ("orn_2", "org:member", False)),
        (PERSON, 3, None),
        (PERSON, 4, None),
        (PERSON, 5, None),
        (PERSON, 6, None),
        (PERSON, 7, None),
        (PERSON, 8, None),
        (STRANGER, 1, None),
        (ADMIN, 1, ("orn_1", None, True)),
        (ADMIN, 5, ("orn_5", None, True)),
        (ADMIN, 6, None),
        (ADMIN, 7, None),
        (ADMIN, 8, None),
        (BREAK_GLASS_PRINCIPAL, 1, ("orn_1", None, True)),
        (BREAK_GLASS_PRINCIPAL, 7, None),
    ],
)
@pytest.mark.parametrize("name", ["orn_{}", "org_{}", "firm-{}"])
def test_the_table_of_access(
    db: Database, principal: Principal, organization: int, expected: tuple[str, str | None, bool] | None, name: str
) -> None:
    db.write_sync(seed)
    assert access(db, principal, name.format(organization)) == expected


def test_an_instance_admin_has_their_own_role_where_they_belong(db: Database) -> None:
    db.write_sync(seed)
    db.write_sync(put_membership, 2, 1, role="org:member")
    assert access(db, ADMIN, "orn_1") == ("orn_1", "org:member", True)


def test_the_role_is_that_of_the_newest_membership(db: Database) -> None:
    db.write_sync(seed)
    db.write_sync(put_membership, 1, 1, id="mem_again", clerk_id="orgmem_again", role="org:member", joined_at=9)
    assert access(db, PERSON, "orn_1") == ("orn_1", "org:member", False)
    assert len(db.read_sync(repository.list_accesses, PERSON)) == 2


@pytest.mark.parametrize("changes", [{"is_active": False}, {"is_banned": True}, {"deleted_at": 1}, {"gone_at": 1}])
def test_a_user_denied_meanwhile_sees_nothing(db: Database, changes: dict[str, Any]) -> None:
    db.write_sync(seed)
    db.write_sync(change_user, 1, **changes)
    assert access(db, PERSON, "orn_1") is None
    assert db.read_sync(repository.list_accesses, PERSON) == []


def test_a_slug_that_looks_like_an_id_does_not_hide_its_organization(db: Database) -> None:
    db.write_sync(seed)
    db.write_sync(put_organization, 8, slug="orn_1", joined_at=0)
    db.write_sync(put_organization, 9, slug="org_1", joined_at=0)
    assert access(db, ADMIN, "orn_1") == ("orn_1", None, True)
    assert access(db, ADMIN, "org_1") == ("orn_1", None, True)


def test_of_two_organizations_with_one_slug_each_user_finds_their_own(db: Database) -> None:
    db.write_sync(seed)
    db.write_sync(put_organization, 8, slug="firm-1", joined_at=0)
    assert access(db, PERSON, "firm-1") == ("orn_1", "org:admin", True)
    assert access(db, ADMIN, "firm-1") == ("orn_8", None, True)


@pytest.mark.parametrize("ref", ["", "\x00", "orn_1\x00", "\ud800", "x" * 10_000, "' OR 1=1 --", "%"])
def test_unusual_references_find_nothing(db: Database, ref: str) -> None:
    db.write_sync(seed)
    assert access(db, ADMIN, ref) is None


def test_a_user_sees_their_organizations_by_name(db: Database) -> None:
    db.write_sync(seed)
    db.write_sync(put_organization, 8, name="alpha")
    db.write_sync(put_membership, 1, 8)
    seen = [(a.organization_name, a.role, a.can_manage) for a in db.read_sync(repository.list_accesses, PERSON)]
    assert seen == [("alpha", "org:member", False), ("Firm 1", "org:admin", True), ("Firm 2", "org:member", False)]
    assert db.read_sync(repository.list_accesses, STRANGER) == []


@pytest.mark.parametrize("principal", [ADMIN, BREAK_GLASS_PRINCIPAL])
def test_instance_admins_see_all_live_organizations_up_to_a_limit(db: Database, principal: Principal) -> None:
    db.write_sync(seed)
    names = [a.organization_name for a in db.read_sync(repository.list_accesses, principal)]
    assert names == ["Firm 1", "Firm 2", "Firm 3", "Firm 4", "Firm 5"]
    assert len(db.read_sync(repository.list_accesses, principal, limit=2)) == 2


def test_metadata_is_read_as_it_was_written(db: Database) -> None:
    db.write_sync(put_user, 1, public_metadata={"role": "admin"})
    who = db.read_sync(repository.find_principal, "user_1", admins=frozenset())
    assert isinstance(who, Principal)
    assert who.is_instance_admin


def test_stale_sessions_are_deleted(db: Database) -> None:
    for at in (1, 2, 3):
        db.write_sync(repository.insert_session, token_hash=str(at), claims=None, at=at)
    assert db.write_sync(repository.delete_stale_sessions, before=3) == 2
    assert db.read_sync(repository.find_session, token_hashes=["3"]) is not None


@pytest.mark.parametrize("principal", [PERSON, ADMIN, STRANGER, BREAK_GLASS_PRINCIPAL])
def test_access_is_found_without_scanning_the_members(sqlite_migrated_url: str, principal: Principal) -> None:
    """SQLite without statistics would: a page of a large organization then takes a second."""
    db, plans = Database(sqlite_migrated_url), list[str]()

    def explain(conn: Conn, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found = conn.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(step for *_, step in found)

    sa.event.listen(db.engine, "before_cursor_execute", explain)
    db.read_sync(repository.find_access, principal, "org_1")
    db.read_sync(repository.list_accesses, principal)
    db.close()
    walked = [step for step in plans if "instep_memberships" in step and "user_id" not in step]
    assert plans
    assert not walked


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["Firm 1", "Firm 2"]),
        ("IRM 2", ["Firm 2"]),
        ("firm-1", ["Firm 1"]),
        ("firm 3", []),
        ("%", []),
        ("_", []),
    ],
)
def test_own_organizations_are_found_by_words(db: Database, query: str, expected: list[str]) -> None:
    db.write_sync(seed)
    assert [it.organization_name for it in db.read_sync(repository.list_accesses, PERSON, query=query)] == expected


def test_an_instance_admin_finds_organizations_beyond_the_limit_of_a_list(db: Database) -> None:
    """Beyond the longest list, also in letters that not every database makes small."""

    def many(conn: Conn, /) -> None:
        for n in range(1, 520):
            put_organization(conn, n)
        put_organization(conn, 999, name="Zürich Ölfirma")

    db.write_sync(many)
    assert len(db.read_sync(repository.list_accesses, BREAK_GLASS_PRINCIPAL)) == 500
    found = [
        it.organization_name for it in db.read_sync(repository.list_accesses, BREAK_GLASS_PRINCIPAL, query="zürich Öl")
    ]
    assert found == ["Zürich Ölfirma"]
