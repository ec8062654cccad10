"""Fixtures: a database with instep's schema in it, on SQLite and on PostgreSQL, for the price of a copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from instep.core.db import Database, create_engine
from instep.core.schema_migrations import migrate_schema
from tests.support.postgres import Postgres


def _migrate(url: str) -> None:
    engine = create_engine(url)
    migrate_schema(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema, to be copied."""
    path = tmp_path_factory.mktemp("template") / "instep.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> Iterator[str]:
    """A PostgreSQL database with the schema, to be copied."""
    with postgres.database() as url:
        _migrate(url)
        yield make_url(url).database or ""


@pytest.fixture
def sqlite_migrated_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of this test's own."""
    shutil.copy(sqlite_template, tmp_path / "instep.db")
    return f"sqlite:///{tmp_path / 'instep.db'}"


@pytest.fixture
def postgres_migrated_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database of this test's own."""
    with postgres.database(template=postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """A migrated database; a test that takes it runs once on SQLite and once on PostgreSQL."""
    name = "sqlite_migrated_url" if request.param == "sqlite" else "postgres_migrated_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def db(migrated_url: str) -> Iterator[Database]:
    """A Db on a migrated database of this test's own."""
    db = Database(migrated_url)
    yield db
    db.close()
