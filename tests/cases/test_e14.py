"""E14: a wrong or odd setting is one line that names it and says what to do, and first steps say where they are."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from instep import __version__
from instep.app.config import make_settings
from instep.app.doctor import DiagnosticResult, run_diagnostics
from instep.core.db import create_engine
from instep.core.db_url import parse_database_url
from instep.core.errors import InstepError
from instep.core.schema_migrations import migrate_schema
from tests.support.commands import invoke
from tests.support.postgres import Postgres

COMMAND = [sys.executable, "-c", "from instep.app.cli import main; main()"]
PATIENCE = 60


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    output: str
    errors: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in a folder of its own, with these settings alone, and end it as `main` does."""
    for name in [it for it in os.environ if it.startswith(("INSTEP_", "CLERK_")) or it in ("PORT", "DATABASE_URL")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **settings: str) -> Ended:
        with monkeypatch.context() as context:
            for name, value in settings.items():
                context.setenv(name, value)
            done = invoke(*arguments)
        if isinstance(done.exception, InstepError):
            return Ended(1, done.stdout, f"{done.stderr}instep: {done.exception}\n")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ended(done.exit_code, done.stdout, done.stderr)

    return run


def examined(url: str, **settings: str) -> dict[str, DiagnosticResult]:
    return {it.what: it for it in asyncio.run(run_diagnostics(make_settings({"INSTEP_DATABASE_URL": url, **settings})))}


@pytest.mark.parametrize(
    "driver",
    ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg", "postgresql+pg8000", "postgresql+psycopg"],
)
def test_e14_every_driver_name_of_postgresql_is_accepted(driver: str, postgres_url: str) -> None:
    engine = create_engine(postgres_url.replace("postgresql+psycopg", driver))
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT 1")) == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("ssl=require", {"sslmode": "require"}),
        ("sslmode=verify-full&channel_binding=require", {"sslmode": "verify-full", "channel_binding": "require"}),
        ("pgbouncer=true&connection_limit=1&pool_timeout=10&schema=public", {}),
        ("prepared_statement_cache_size=0&ssl=false", {"sslmode": "disable"}),
    ],
)
def test_e14_options_that_platforms_write_are_understood(query: str, kept: dict[str, str]) -> None:
    assert dict(parse_database_url(f"postgresql://user:secret@host/name?{query}").query) == kept


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    [
        ("INSTEP_DATABASE_URL", "mysql://user:hunter2@host/name", "postgresql://"),
        ("INSTEP_DATABASE_URL", "postgresql://user:hunter2@host/name?nosuch=1", "nosuch"),
        ("INSTEP_DATABASE_URL", "postgresql://user:hunter2@host/name?schema=people", "search_path"),
        ("DATABASE_URL", "mysql://user:hunter2@host/name", "postgresql://"),
        ("INSTEP_DATA_DIR", "/dev/null/hunter2", "can't create"),
        ("INSTEP_PORT", "hunter2", "integer"),
        ("PORT", "hunter2", "integer"),
        ("INSTEP_DATABASE_OWNS", "email", "can't belong"),
    ],
)
def test_e14_a_wrong_setting_is_one_line_that_names_it(setting: str, value: str, word: str, run: Run) -> None:
    for command in (["serve"], ["migrate"], ["users"], ["sync", "check"]):
        done = run(*command, **{setting: value})
        assert done.code == 1, done.errors
        (line,) = done.errors.splitlines()
        assert line.startswith(f"instep: {setting}: ")
        assert word in line
        assert value.startswith("/dev") or "hunter2" not in line


def test_e14_an_empty_setting_is_not_set(run: Run) -> None:
    names = ("INSTEP_PORT", "INSTEP_DATABASE_URL", "DATABASE_URL", "INSTEP_PUBLIC_URL", "INSTEP_PACE", "INSTEP_WORKER")
    settings = make_settings(dict.fromkeys(names, " "))
    assert (settings.port, settings.database_setting, settings.instep_worker) == (8000, "INSTEP_DATA_DIR", True)
    done = run("migrate", **dict.fromkeys(names, ""))
    assert (done.code, done.errors) == (0, "")


def test_e14_platform_names_count_where_ours_are_not_set() -> None:
    settings = make_settings({"PORT": "5000", "DATABASE_URL": "postgres://user@host/name"})
    assert (settings.port, settings.database_url) == (5000, "postgres://user@host/name")
    settings = make_settings(
        {"PORT": "5000", "INSTEP_PORT": "6000", "DATABASE_URL": "postgres://a", "INSTEP_DATABASE_URL": "postgres://b"}
    )
    assert (settings.port, settings.database_url) == (6000, "postgres://b")


def test_e14_a_misspelt_name_is_warned_of_with_the_right_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("INSTEP_PUBLIK_URL=https://people.example.com\n")
    run("migrate")
    done = run("users", INSTEP_DATABSE_URL="sqlite:///x.db")
    assert done.code == 0
    assert "INSTEP_DATABSE_URL is not a setting of instep; did you mean INSTEP_DATABASE_URL?" in done.errors
    assert "did you mean INSTEP_PUBLIC_URL?" in done.errors
    assert "INSTEP_DATABSE_URL" in run("doctor", INSTEP_DATABSE_URL="x").output


@pytest.fixture
def roles(postgres: Postgres, postgres_migrated_url: str) -> Iterator[tuple[str, str]]:
    """A migrated and an empty database, as a role that may only read."""
    with postgres.database() as empty:
        for url in (postgres_migrated_url, empty):
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as conn:
                conn.execute("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
                conn.execute("GRANT USAGE ON SCHEMA public TO reader")
                conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        migrated = make_url(postgres_migrated_url).set(username="reader").render_as_string(hide_password=False)
        yield migrated, make_url(empty).set(username="reader").render_as_string(hide_password=False)


def test_e14_a_role_that_may_only_read_is_named_by_doctor(roles: tuple[str, str]) -> None:
    found = examined(roles[0])["Database"]
    assert not found.is_good
    assert "can be read but not written" in found.text
    assert "permission denied" in found.text


def test_e14_a_role_that_may_create_nothing_is_one_line_of_migrate(roles: tuple[str, str], run: Run) -> None:
    done = run("migrate", INSTEP_DATABASE_URL=roles[1])
    assert done.code == 1
    (line,) = done.errors.splitlines()
    assert line.startswith("instep: The schema can't be changed: permission denied")


def test_e14_an_older_process_goes_on_with_a_newer_schema_of_its_series(database_url: str, run: Run) -> None:
    engine = create_engine(database_url)
    migrate_schema(engine)
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE instep_schema SET version_num = '9999'"))
    for command in (["migrate"], ["users"]):
        assert run(*command, INSTEP_DATABASE_URL=database_url).code == 0
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE instep_facts SET value = '99.0' WHERE name = 'schema_series'"))
    engine.dispose()
    for command in (["migrate"], ["users"], ["serve"]):
        done = run(*command, INSTEP_DATABASE_URL=database_url)
        (line,) = done.errors.splitlines()
        assert line.startswith("instep: The database was migrated by instep 99.0")
        assert ".".join(__version__.split(".")[:2]) in line
    assert "instep 99.0" in examined(database_url)["Database"].text


def test_e14_serve_says_where_it_listens_and_on_which_database(sqlite_migrated_url: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"INSTEP_DATABASE_URL": sqlite_migrated_url, "PORT": str(port), "INSTEP_LOG_JSON": "true"}
    process = subprocess.Popen(
        [*COMMAND, "serve"], cwd=tmp_path, env=os.environ | settings, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = next(line for line in process.stderr if "serving" in line)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert f'"listening":"http://127.0.0.1:{port}"' in line.replace(": ", ":")
    assert f'"database":"{sqlite_migrated_url}"' in line.replace(": ", ":").replace(', "', ',"')
    assert '"worker":"here"' in line.replace(": ", ":")
