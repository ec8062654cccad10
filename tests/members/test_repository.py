"""Queries of the list: one order, each row once, and only matching members."""

from collections import Counter
from itertools import count
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instep.core.db import Conn, Database
from instep.domain.events import EntityState
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.members.models import ActivityFilter, MemberCursor, MemberFilter, MemberRow
from instep.members.repository import find_joined_addresses, find_members
from instep.migrations.search import ensure_search_indexes
from instep.mirror import search
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.repository import find_organization
from instep.mirror.search import is_search_match
from instep.mirror.tables import memberships, users
from instep.mirror.unit_of_work import open_unit_of_work
from tests.support.people import membership, organization, user

_numbers = count(1)


def furnish(db: Database, people: list[tuple[str, str, str]]) -> str:
    """A firm of its own with these members, each a name, a role and a status; our id of it."""
    firm = next(_numbers)

    def put(conn: Conn) -> str:
        news: list[EntityState] = [organization(firm, max_members=99)]
        for n, (name, role, _) in enumerate(people):
            person = firm * 1_000 + n
            news.append(user(person, first_name=name, last_name=None))
            news.append(membership(person, of=person, in_=firm, role=role))
        ledger = open_unit_of_work(conn, news)
        for it in news:
            ledger.reconcile(it)
        apply_unit_of_work(conn, ledger, now=1)
        for n, (_, _, status) in enumerate(people):
            row = memberships.c.clerk_id == f"orgmem_{firm * 1_000 + n}"
            conn.execute(memberships.update().where(row).values(status=status))
        found = find_organization(conn, f"org_{firm}")
        assert found is not None
        return found.id

    return db.write_sync(put)


def turn(db: Database, id: str, filters: MemberFilter) -> list[list[MemberRow]]:
    """Every page, as a reader turns them."""
    pages: list[list[MemberRow]] = []
    while True:
        rows = db.read_sync(find_members, id, filters).rows
        pages.append(list(rows[: filters.limit]))
        if len(rows) <= filters.limit:
            return pages
        last = pages[-1][-1]
        filters = msgspec.structs.replace(filters, cursor=MemberCursor(None, (last.status, last.sort_name, last.id)))


people = st.lists(
    st.tuples(
        st.sampled_from(["Ada", "ada", "Bo", "Zoë", "Łukasz", "100%", "a_b", "Ада"]),
        st.sampled_from([ADMIN_ROLE, MEMBER_ROLE]),
        st.sampled_from(["active", "active", "deactivated", "removed"]),
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    everyone=people,
    limit=st.integers(1, 5),
    statuses=st.frozensets(st.sampled_from(["active", "deactivated"])),
    roles=st.frozensets(st.sampled_from([ADMIN_ROLE, MEMBER_ROLE, "org:none"])),
    query=st.sampled_from(["", "ADA", "ada example", "zoe", "a", "da", "%", "_", "/", "ада", "nobody"]),
    walks=st.sampled_from([((0, 1),), ((2, 1), (3, 0)), search.SCAN_STEPS]),
)
def test_the_pages_show_each_matching_member_exactly_once(
    db: Database,
    everyone: list[tuple[str, str, str]],
    limit: int,
    statuses: frozenset[str],
    roles: frozenset[str],
    query: str,
    walks: tuple[tuple[int, int], ...],
) -> None:
    id = furnish(db, everyone)
    filters = MemberFilter(limit=limit, statuses=statuses, roles=roles, query=query)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "plan_scan_steps", lambda *_: walks)
        patch.setattr(search, "LARGE_ORGANIZATION_SIZE", 4)
        pages = turn(db, id, filters)
    walked = [row for page in pages for row in page]

    def is_wanted(name: str, role: str, status: str, email: str) -> bool:
        return (
            status in (statuses or {"active", "deactivated"})
            and (not roles or role in roles)
            and is_search_match(query, (name, email))
        )

    wanted = Counter(
        (row.first_name, row.role, row.status)
        for row in db.read_sync(find_members, id, MemberFilter(limit=100)).rows
        if is_wanted(row.first_name or "", row.role, row.status, row.email or "")
    )
    assert Counter((row.first_name, row.role, row.status) for row in walked) == wanted
    assert len({row.id for row in walked}) == len(walked)
    assert all(len(page) == limit for page in pages[:-1])
    assert [row.status for row in walked] == sorted(row.status for row in walked), "active ones before the others"


STEPS = [((0, 1),), ((4, 1), (6, 3), (12, 0)), ((4, 2), (30, 0)), ((60, 0),), search.SCAN_STEPS]
FREQUENT = {
    "maya": "at the beginning, together far down the list; in the middle of others, before and after",
    "may": "as above, and more",
    "ay": "the middle of a word alone is no word's beginning",
    "aya": "in the middle, all over the list",
    "maya cohen": "several words, one of them at the beginning of the list's name",
    "cohen maya": "in the other order",
    "cohen exam": "in the middle of the list's name, and what everyone has",
    "b maya": "one letter at the beginning of a word, and a frequent name",
    "amaya": "few, before the frequent ones",
    "zz": "nobody",
}


@pytest.fixture(scope="module")
def many() -> list[tuple[str, str, str]]:
    """Eighty members; half of them Maya, and so together in the list."""
    names = ["Maya", "Bo", "Amaya", "Zoë Maya", "Cy", "Maya", "Maya", "Dimaya"]
    return [
        (f"{names[n % 8]} {('Cohen', 'Levi', 'Bar')[n % 3]}", MEMBER_ROLE, "deactivated" if n % 7 == 0 else "active")
        for n in range(80)
    ]


@pytest.mark.parametrize("walks", STEPS)
def test_a_frequent_name_far_down_the_list_is_found_in_its_order(
    db: Database, monkeypatch: pytest.MonkeyPatch, many: list[tuple[str, str, str]], walks: tuple[tuple[int, int], ...]
) -> None:
    """Page after page by the cursor, in a big organization and in a small one, wherever a walk ends."""
    id = furnish(db, many)
    everyone = db.read_sync(find_members, id, MemberFilter(limit=500)).rows
    monkeypatch.setattr(search, "plan_scan_steps", lambda *_: walks)
    for query in FREQUENT:
        wanted = [row for row in everyone if is_search_match(query, (row.first_name, row.email))]
        for big, limit in ((1, 3), (1_000, 25)):
            monkeypatch.setattr(search, "LARGE_ORGANIZATION_SIZE", big)
            pages = turn(db, id, MemberFilter(limit=limit, query=query))
            assert [row for page in pages for row in page] == wanted, query
            assert all(len(page) == limit for page in pages[:-1])


def test_the_counts_are_of_the_whole_organization_and_no_other(db: Database) -> None:
    id = furnish(
        db, [("Ada", ADMIN_ROLE, "active"), ("Bo", MEMBER_ROLE, "deactivated"), ("Cy", MEMBER_ROLE, "removed")]
    )
    furnish(db, [("Dee", ADMIN_ROLE, "active")])
    found = db.read_sync(find_members, id, MemberFilter(limit=1, query="nobody"))
    assert found.rows == []
    assert found.counts == {("active", ADMIN_ROLE): 1, ("deactivated", MEMBER_ROLE): 1, ("removed", MEMBER_ROLE): 1}
    assert found.seats == 99


def test_a_missing_organization_has_no_members(db: Database) -> None:
    found = db.read_sync(find_members, "ogn_none", MemberFilter())
    assert (found.rows, found.counts, found.seats) == ([], {}, None)


@pytest.mark.parametrize(
    "cursor",
    [
        MemberCursor(None, ("active", "", "")),
        MemberCursor(None, ("zzz", "x", "y")),
        MemberCursor(None, ("", "", "")),
        MemberCursor((5, "orginv_1"), None),
    ],
)
def test_a_forged_cursor_is_harmless(db: Database, cursor: MemberCursor) -> None:
    id = furnish(db, [("Ada", ADMIN_ROLE, "active")])
    assert len(db.read_sync(find_members, id, MemberFilter(cursor=cursor)).rows) in (0, 1)


def test_members_are_found_by_address_unless_removed(db: Database) -> None:
    id = furnish(
        db, [("Ada", ADMIN_ROLE, "active"), ("Bo", MEMBER_ROLE, "deactivated"), ("Cy", MEMBER_ROLE, "removed")]
    )
    emails: Any = [row.email for row in db.read_sync(find_members, id, MemberFilter()).rows]
    assert db.read_sync(find_joined_addresses, id, [*emails, "nobody@example.com"]) == set(emails)
    assert len(emails) == 2
    assert db.read_sync(find_joined_addresses, id, []) == set()


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (MemberFilter(source="local"), ["Bo", "Di"]),
        (MemberFilter(source="clerk"), ["Al", "Cy"]),
        (MemberFilter(activity=ActivityFilter(since=50)), ["Al", "Bo"]),
        (MemberFilter(activity=ActivityFilter(until=50)), ["Cy"]),
        (MemberFilter(activity=ActivityFilter(is_never=True)), ["Di"]),
        (MemberFilter(activity=ActivityFilter(since=50), source="clerk"), ["Al"]),
        (MemberFilter(activity=ActivityFilter(since=50), source="clerk", query="bo"), []),
        (MemberFilter(activity=ActivityFilter(since=50), query="example", limit=1), ["Al"]),
    ],
)
@pytest.mark.parametrize("walk", [1, 1_000])
def test_source_and_last_activity_filter_the_list(
    db: Database, monkeypatch: pytest.MonkeyPatch, filters: MemberFilter, names: list[str], walk: int
) -> None:
    """With words too, however far the list is walked before the index is asked."""
    id = furnish(db, [(name, "org:member", "active") for name in ("Al", "Bo", "Cy", "Di")])
    db.write_sync(stand, {"Al": ("user_al", 90), "Bo": (None, 70), "Cy": ("user_cy", 10), "Di": (None, None)})
    monkeypatch.setattr(search, "plan_scan_steps", lambda *_: ((walk, 0),))
    found = db.read_sync(find_members, id, filters).rows[: filters.limit]
    assert [row.first_name for row in found] == names


def stand(conn: Conn, /, people: dict[str, tuple[str | None, int | None]]) -> None:
    """Give people (by first name) their Clerk ids and when they were last active."""
    for name, (clerk_id, at) in people.items():
        row = sa.update(users).where(users.c.first_name == name)
        conn.execute(row.values(clerk_id=clerk_id, last_active_at=at))


def test_without_the_search_index_the_same_members_are_found(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as on a PostgreSQL whose owner has no right to pg_trgm: the role may read and write, and no more."""
    monkeypatch.setattr(search, "plan_scan_steps", lambda *_: ((0, 1),))
    id = furnish(db, [(name, MEMBER_ROLE, "active") for name in ("Ada", "Adam", "Bo")])

    def found(conn: Conn) -> list[str | None]:
        return [row.first_name for row in find_members(conn, id, MemberFilter(query="ADA")).rows]

    def without(conn: Conn) -> None:
        if db.is_sqlite:
            for table in ("users", "memberships"):
                for event in ("insert", "update", "delete"):
                    conn.exec_driver_sql(f"DROP TRIGGER instep_{table}_search_{event}")
                conn.exec_driver_sql(f"DROP TABLE instep_{table}_search")
        else:
            conn.exec_driver_sql("DROP EXTENSION IF EXISTS pg_trgm CASCADE")
            conn.exec_driver_sql("CREATE ROLE poor")
            conn.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO poor")
            conn.exec_driver_sql("SET LOCAL ROLE poor")
        conn.info.clear()
        assert not search.has_search_index(conn)
        assert db.is_sqlite or not ensure_search_indexes(conn)
        assert found(conn) == ["Ada", "Adam"]
        raise Undone

    assert db.read_sync(found) == ["Ada", "Adam"]
    with pytest.raises(Undone):
        db.write_sync(without)


class Undone(Exception):
    """Ends a transaction without a trace."""
