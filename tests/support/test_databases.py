"""A test's database is empty and its own, on SQLite and on PostgreSQL."""

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

from tests.support.postgres import Postgres


@pytest.mark.parametrize("turn", ["first", "second"])
def test_each_test_finds_an_empty_database_though_the_one_before_left_a_table(database_url: str, turn: str) -> None:
    engine = create_engine(database_url)
    try:
        with engine.begin() as conn:
            assert inspect(conn).get_table_names() == []
            conn.execute(text("CREATE TABLE left_behind (turn TEXT)"))
        assert inspect(engine).get_table_names() == ["left_behind"]
    finally:
        engine.dispose()


def test_the_url_names_the_database_that_the_test_id_promises(
    database_url: str, request: pytest.FixtureRequest
) -> None:
    assert make_url(database_url).get_backend_name() in request.node.name


def test_a_database_is_dropped_after_its_test_even_with_a_connection_open(postgres: Postgres) -> None:
    with postgres.database() as url:
        engine = create_engine(url)
        conn = engine.connect()
        name = conn.execute(text("SELECT current_database()")).scalar_one()
    try:
        assert name not in databases(postgres)
    finally:
        conn.invalidate()
        conn.close()
        engine.dispose()


def test_a_database_can_be_copied_from_one_that_a_test_has_prepared(postgres: Postgres) -> None:
    with postgres.database() as prepared:
        run(prepared, "CREATE TABLE prepared (id INTEGER)")
        with postgres.database(template=make_url(prepared).database or "") as copy:
            assert run(copy, "SELECT count(*) FROM prepared") == 0


def databases(postgres: Postgres) -> list[str]:
    engine = create_engine(postgres.url("postgres"))
    with engine.connect() as conn:
        names = list(conn.execute(text("SELECT datname FROM pg_database")).scalars())
    engine.dispose()
    return names


def run(url: str, statement: str) -> object:
    engine = create_engine(url)
    with engine.begin() as conn:
        result = conn.execute(text(statement))
        value = result.scalar() if result.returns_rows else None
    engine.dispose()
    return value
