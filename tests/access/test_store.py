"""The authorisation table: who may see which organization, by which of its names."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.access import store
from instep.access.principal import BREAK_GLASS, Principal
from instep.kit.db import Conn, Db
from tests.access.world import change_user, put_membership, put_organization, put_user

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


def access(db: Db, principal: Principal, ref: str) -> tuple[str, str | None, bool] | None:
    found = db.reading(store.find_access, principal, ref)
    return (found.organization_id, found.role, found.may_act) if found else None


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
        (BREAK_GLASS, 1, ("orn_1", None, True)),
        (BREAK_GLASS, 7, None),
    ],
)
@pytest.mark.parametrize("name", ["orn_{}", "org_{}", "firm-{}"])
def test_the_table_of_access(
    db: Db, principal: Principal, organization: int, expected: tuple[str, str | None, bool] | None, name: str
) -> None:
    db.writing(seed)
    assert access(db, principal, name.format(organization)) == expected


def test_an_instance_admin_has_their_own_role_where_they_belong(db: Db) -> None:
    db.writing(seed)
    db.writing(put_membership, 2, 1, role="org:member")
    assert access(db, ADMIN, "orn_1") == ("orn_1", "org:member", True)


def test_the_role_is_that_of_the_newest_belonging(db: Db) -> None:
    db.writing(seed)
    db.writing(put_membership, 1, 1, id="mem_again", clerk_id="orgmem_again", role="org:member", joined_at=9)
    assert access(db, PERSON, "orn_1") == ("orn_1", "org:member", False)
    assert len(db.reading(store.list_accesses, PERSON)) == 2


@pytest.mark.parametrize("changes", [{"is_active": False}, {"is_banned": True}, {"deleted_at": 1}, {"gone_at": 1}])
def test_who_is_barred_in_the_meantime_sees_nothing_any_more(db: Db, changes: dict[str, Any]) -> None:
    db.writing(seed)
    db.writing(change_user, 1, **changes)
    assert access(db, PERSON, "orn_1") is None
    assert db.reading(store.list_accesses, PERSON) == []


def test_a_slug_that_looks_like_anothers_id_does_not_hide_it(db: Db) -> None:
    db.writing(seed)
    db.writing(put_organization, 8, slug="orn_1", joined_at=0)
    db.writing(put_organization, 9, slug="org_1", joined_at=0)
    assert access(db, ADMIN, "orn_1") == ("orn_1", None, True)
    assert access(db, ADMIN, "org_1") == ("orn_1", None, True)


def test_of_two_with_one_slug_each_person_finds_their_own(db: Db) -> None:
    db.writing(seed)
    db.writing(put_organization, 8, slug="firm-1", joined_at=0)
    assert access(db, PERSON, "firm-1") == ("orn_1", "org:admin", True)
    assert access(db, ADMIN, "firm-1") == ("orn_8", None, True)


@pytest.mark.parametrize("ref", ["", "\x00", "orn_1\x00", "\ud800", "x" * 10_000, "' OR 1=1 --", "%"])
def test_odd_names_find_nothing_and_fail_nowhere(db: Db, ref: str) -> None:
    db.writing(seed)
    assert access(db, ADMIN, ref) is None


def test_a_person_sees_their_own_organizations_by_name(db: Db) -> None:
    db.writing(seed)
    db.writing(put_organization, 8, name="alpha")
    db.writing(put_membership, 1, 8)
    seen = [(a.organization_name, a.role, a.may_act) for a in db.reading(store.list_accesses, PERSON)]
    assert seen == [("alpha", "org:member", False), ("Firm 1", "org:admin", True), ("Firm 2", "org:member", False)]
    assert db.reading(store.list_accesses, STRANGER) == []


@pytest.mark.parametrize("principal", [ADMIN, BREAK_GLASS])
def test_instance_admins_see_all_that_live_up_to_a_limit(db: Db, principal: Principal) -> None:
    db.writing(seed)
    names = [a.organization_name for a in db.reading(store.list_accesses, principal)]
    assert names == ["Firm 1", "Firm 2", "Firm 3", "Firm 4", "Firm 5"]
    assert len(db.reading(store.list_accesses, principal, limit=2)) == 2


def test_metadata_is_read_as_it_was_written(db: Db) -> None:
    db.writing(put_user, 1, public_metadata={"role": "admin"})
    who = db.reading(store.find_principal, "user_1", admins=frozenset())
    assert isinstance(who, Principal)
    assert who.is_instance_admin


def test_sessions_not_confirmed_for_long_are_forgotten(db: Db) -> None:
    for at in (1, 2, 3):
        db.writing(store.put_session, token_hash=str(at), claims=None, at=at)
    assert db.writing(store.forget_sessions, before=3) == 2
    assert db.reading(store.find_session, token_hashes=["3"]) is not None


@pytest.mark.parametrize("principal", [PERSON, ADMIN, STRANGER, BREAK_GLASS])
def test_no_access_is_found_by_going_through_the_members(sqlite_migrated_url: str, principal: Principal) -> None:
    """SQLite without statistics would: a page of a large organization then takes a second."""
    db, plans = Db(sqlite_migrated_url), list[str]()

    def explain(conn: Conn, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found = conn.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(step for *_, step in found)

    sa.event.listen(db.engine, "before_cursor_execute", explain)
    db.reading(store.find_access, principal, "org_1")
    db.reading(store.list_accesses, principal)
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
def test_organizations_are_found_by_words_and_only_ones_own(db: Db, query: str, expected: list[str]) -> None:
    db.writing(seed)
    assert [it.organization_name for it in db.reading(store.list_accesses, PERSON, query=query)] == expected


def test_an_instance_admin_finds_what_no_list_holds(db: Db) -> None:
    """Beyond the longest list, also in letters that not every database makes small."""

    def many(conn: Conn, /) -> None:
        for n in range(1, 520):
            put_organization(conn, n)
        put_organization(conn, 999, name="Zürich Ölfirma")

    db.writing(many)
    assert len(db.reading(store.list_accesses, BREAK_GLASS)) == 500
    found = [it.organization_name for it in db.reading(store.list_accesses, BREAK_GLASS, query="zürich Öl")]
    assert found == ["Zürich Ölfirma"]
