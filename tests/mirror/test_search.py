"""Search by index finds what a plain scan finds, and the index follows all writes."""

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instep.core.db import Conn, Database
from instep.domain.events import EntityState, Observation
from instep.migrations.search import ensure_search_indexes
from instep.mirror import search
from instep.mirror.apply import apply_observations
from instep.mirror.bulk_insert import insert_new_rows, prepare_rows
from instep.mirror.search import is_search_match, parse_search_query
from instep.mirror.tables import memberships, users
from tests.support.people import membership, organization, user

NAMES = ["Ada", "ada-lou", "Zoë", "Łukasz", "100%", "a_b", "Ада Лавлейс", "O'Neil", 'Q"t', "Ma*ya", "김", "AND OR NOT"]
QUERIES = [
    "ADA",
    "da-",
    "zoe",
    "łuk",
    "%",
    "_",
    "0%",
    "лав",
    "'",
    '"',
    "*ya",
    "김",
    "not",
    "a",
    "ad",
    "user",
    "ada son1",
]


def found(conn: Conn, table: sa.Table, query: str, organization_id: str | None = None) -> list[str]:
    """Whom the index and the rows give, without any walk; our ids of the people."""
    wanted, dialect = parse_search_query(query), conn.dialect.name
    given = search.build_search_params(conn, table, wanted, organization_id)
    column = users.c.id if table is users else memberships.c.user_id
    has_piece = organization_id is not None
    where = [
        *search.build_index_conditions(dialect, table, len(wanted), has_piece=has_piece),
        *search.build_match_conditions(dialect, table, len(wanted)),
    ]
    if organization_id is not None:
        where.append(memberships.c.organization_id == organization_id)
    return sorted(conn.execute(sa.select(column).where(*where), given).scalars())


def meant(conn: Conn, query: str) -> list[str]:
    """Whom the words mean, by their names."""
    u = users.c
    rows = conn.execute(sa.select(u.id, u.first_name, u.last_name, u.email, u.username))
    return sorted(id for id, *parts in rows if is_search_match(query, parts))


def agree(conn: Conn, firm: str | None = None) -> bool:
    """Return whether the index finds exactly the matching names, for every query."""
    return all(found(conn, users, query) == meant(conn, query) for query in QUERIES) and (
        firm is None or all(found(conn, memberships, query, firm) == meant(conn, query) for query in QUERIES)
    )


def firm_of(conn: Conn) -> str:
    return str(conn.execute(sa.select(memberships.c.organization_id).limit(1)).scalar_one())


def people(names: Sequence[str], *, version: int = 1) -> list[EntityState]:
    """A firm and its members."""
    states: list[EntityState] = [organization(1)]
    for n, name in enumerate(names, 1):
        states += [user(n, first_name=name, last_name=None, version=version), membership(n, of=n, in_=1)]
    return states


@pytest.fixture
def empty(db: Database) -> Database:
    """A database whose search index can be had on this machine."""
    if not db.write_sync(ensure_search_indexes):
        pytest.skip("this PostgreSQL has no pg_trgm: the search without its index is tested elsewhere")
    return db


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(before=st.lists(st.sampled_from(NAMES), min_size=1, max_size=8), data=st.data())
def test_the_index_follows_every_change_of_a_name(empty: Database, before: list[str], data: st.DataObject) -> None:
    after = data.draw(st.lists(st.sampled_from(NAMES), min_size=len(before), max_size=len(before)))

    def story(conn: Conn) -> None:
        for table in (memberships, users):
            conn.execute(sa.delete(table))
        apply_observations(conn, people(before), now=1)
        assert agree(conn, firm_of(conn))
        apply_observations(conn, people(after, version=2), now=2)
        assert agree(conn, firm_of(conn))

    empty.write_sync(story)


def test_rows_with_deferred_indexing_are_found(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(conn: Conn, names: Sequence[str], start: int) -> None:
        states: list[Any] = [organization(1)]
        for n, name in enumerate(names, start):
            states += [user(n, first_name=name, last_name=None), membership(n, of=n, in_=1)]
        insert_new_rows(conn, prepare_rows([it for it in states if isinstance(it, Observation)], now=1))
        assert agree(conn, firm_of(conn))

    def waiting(conn: Conn) -> int:
        facts = sa.text("SELECT count(*) FROM instep_facts WHERE name LIKE 'search_held_%'")
        return int(conn.execute(facts).scalar_one())

    def rename(conn: Conn) -> None:
        apply_observations(conn, people(["Renamed ada"], version=2), now=2)
        assert agree(conn, firm_of(conn))

    empty.write_sync(load, NAMES[:6], 1)
    assert empty.read_sync(waiting) == (2 if empty.is_sqlite else 0)
    empty.write_sync(rename)
    monkeypatch.setattr(search, "MAX_UNINDEXED_ROWS", 7)
    empty.write_sync(load, NAMES[6:], 100)
    assert empty.read_sync(waiting) == 0
    empty.write_sync(rename)
    empty.write_sync(search.index_deferred_rows)
    assert empty.read_sync(agree)


def test_matches_in_other_organizations_are_not_found(empty: Database) -> None:
    def story(conn: Conn) -> None:
        apply_observations(
            conn, [organization(2), user(50, first_name="Ada", last_name=None), membership(50, of=50, in_=2)], now=1
        )
        other = firm_of(conn)
        apply_observations(conn, people(["Bo"]), now=1)
        query = sa.select(memberships.c.organization_id).where(memberships.c.organization_id != other)
        assert len(found(conn, memberships, "ada", other)) == 1
        assert found(conn, memberships, "ada", str(conn.execute(query).scalar_one())) == []

    empty.write_sync(story)


def test_a_connection_finds_rows_inserted_after_its_first_search(empty: Database) -> None:
    """On SQLite a connection that searches reads the file where the system keeps it, also what was added since."""
    with empty.engine.connect() as conn:
        for n in range(1, 4):
            empty.write_sync(
                apply_observations, [user(i, first_name="Ada", last_name=None) for i in range(n * 400)], now=n
            )
            assert search.can_use_index(conn)
            assert len(found(conn, users, "ada")) == n * 400
            conn.rollback()


def test_symbols_of_addresses_do_not_match_letters(empty: Database) -> None:
    """pg_trgm does not tell capitals from small letters: whom the index gives is read, and then left out."""

    def narrowed(conn: Conn, query: str) -> int:
        wanted = parse_search_query(query)
        where = search.build_index_conditions(conn.dialect.name, users, len(wanted))
        return len(
            conn.execute(sa.select(users.c.id).where(*where), search.build_search_params(conn, users, wanted)).all()
        )

    def story(conn: Conn) -> None:
        apply_observations(conn, [user(1, first_name="Bo", last_name=None, email="nive.an@example.com")], now=1)
        assert [narrowed(conn, it) for it in ("ve.", "an@exa", "nive")] == [1, 1, 1]
        assert [narrowed(conn, it) for it in ("ved", "vea", "ana", "and", "anm", "van")] == [0] * 6

    empty.write_sync(story)


def test_a_list_is_scanned_only_for_frequent_terms(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite counts them; PostgreSQL can't, and takes letters and a single word for what many have."""

    def walks(conn: Conn, query: str) -> Sequence[tuple[int, int]]:
        wanted = parse_search_query(query)
        return search.plan_scan_steps(conn, users, wanted, search.build_search_params(conn, users, wanted))

    def story(conn: Conn) -> None:
        apply_observations(conn, people(["Ada", "Adam", "Adalie", "Bo"]), now=1)
        monkeypatch.setattr(search, "SMALL_RESULT_SIZE", 3)
        few = () if empty.is_sqlite else search.RARE_TERM_SCAN_STEPS
        assert [walks(conn, it) for it in ("ada", "a", "adam", "ada 1", "a.b")] == [
            search.SCAN_STEPS,
            search.SCAN_STEPS,
            () if empty.is_sqlite else search.SCAN_STEPS,
            few,
            few,
        ]

    empty.write_sync(story)


def test_creating_the_index_again_changes_nothing(empty: Database) -> None:
    def story(conn: Conn) -> None:
        apply_observations(conn, people(NAMES), now=1)
        assert ensure_search_indexes(conn)
        assert agree(conn, firm_of(conn))

    empty.write_sync(story)


def test_a_filled_database_gets_its_index_later(empty: Database) -> None:
    def drop(conn: Conn) -> None:
        for table in (users.name, memberships.name):
            index = search.get_search_index_name(table, conn.dialect.name)
            if empty.is_sqlite:
                for event in ("insert", "update", "delete"):
                    conn.exec_driver_sql(f"DROP TRIGGER {index}_{event}")
            conn.exec_driver_sql(f"DROP {'TABLE' if empty.is_sqlite else 'INDEX'} {index}")
        conn.info.clear()
        apply_observations(conn, people(NAMES), now=1)
        assert not search.has_search_index(conn)
        assert ensure_search_indexes(conn)
        assert search.has_search_index(conn)
        assert agree(conn, firm_of(conn))

    empty.write_sync(drop)
