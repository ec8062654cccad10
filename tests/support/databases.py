"""Fixtures: a fresh, empty database for each test, on SQLite, on PostgreSQL, or on both in turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.need import need
from tests.support.postgres import HOW, NoPostgres, Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL of this test process (of each xdist worker: starting one takes 0.4 s)."""
    try:
        server = Postgres()
    except NoPostgres as error:
        need(f"a PostgreSQL ({error})", HOW)
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, empty PostgreSQL database of this test's own, as a SQLAlchemy URL."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file of this test's own, not there yet, as a SQLAlchemy URL."""
    return f"sqlite:///{tmp_path / 'instep.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, empty database; a test that takes it runs once on SQLite and once on PostgreSQL."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(fixture)
    return url
