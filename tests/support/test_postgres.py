"""The throw-away PostgreSQL starts from any binaries, listens to nobody else, and never outlives its user."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.support import postgres
from tests.support.postgres import NoPostgres, Postgres, find_binaries, packaged


def test_it_listens_on_a_socket_in_its_own_folder_and_on_no_port(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url("postgres").replace("+psycopg", "")) as conn:
        assert setting(conn, "listen_addresses") == ""
        assert setting(conn, "unix_socket_directories") == str(postgres.folder)
        assert setting(conn, "server_encoding") == "UTF8"
        assert setting(conn, "lc_collate") in ("C", None)


def test_the_package_from_pypi_serves_where_no_other_is_installed() -> None:
    server = Postgres(binaries=packaged()[0])
    try:
        with server.database() as url, psycopg.connect(url.replace("+psycopg", "")) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


def test_it_starts_from_a_folder_that_only_this_user_may_enter(tmp_path: Path) -> None:
    package = packaged()[0].parent.parent
    closed = tmp_path / "closed"
    for part in (packaged()[0].parent, package.with_name(package.name + ".libs")):
        if part.exists():
            shutil.copytree(part, closed / part.relative_to(package.parent))
    closed.chmod(0o700)
    server = Postgres(binaries=closed / packaged()[0].relative_to(package.parent))
    try:
        with server.database() as url, psycopg.connect(url.replace("+psycopg", "")) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


def test_fsync_is_off_for_tests_and_on_where_a_bench_asks_for_it(postgres: Postgres) -> None:
    durable = Postgres(durable=True)
    try:
        with psycopg.connect(postgres.url("postgres").replace("+psycopg", "")) as conn:
            assert setting(conn, "fsync") == "off"
        with psycopg.connect(durable.url("postgres").replace("+psycopg", "")) as conn:
            assert [setting(conn, name) for name in ("fsync", "synchronous_commit")] == ["on", "on"]
    finally:
        durable.stop()


def test_stopping_leaves_no_process_and_no_folder() -> None:
    server = Postgres()
    pid = postmaster(server.folder)
    server.stop()
    assert not alive(pid)
    assert not server.folder.exists()


def test_a_killed_test_process_takes_its_server_and_its_folder_along() -> None:
    code = "from tests.support.postgres import Postgres; print(Postgres().folder, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root()
    ) as user:
        assert user.stdout
        folder = Path(user.stdout.readline().strip())
        pid = postmaster(folder)
        user.send_signal(signal.SIGKILL)
    wait_until_gone(pid, folder)


def test_binaries_that_cannot_start_a_server_are_refused_with_their_own_words(tmp_path: Path) -> None:
    programs(tmp_path / "paper" / "bin", "initdb", "postgres")
    (tmp_path / "paper" / "share").mkdir()
    with pytest.raises(NoPostgres, match="made of paper"):
        Postgres(binaries=tmp_path / "paper" / "bin")


def test_a_wrapper_of_initdb_without_its_postgres_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, "initdb")
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binaries() == packaged()[0]


def test_pg_bin_decides_alone_and_a_wrong_one_is_not_papered_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    with pytest.raises(NoPostgres):
        find_binaries()


def programs(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\necho 'made of paper' >&2\nexit 1\n")
        (folder / name).chmod(0o755)


def setting(conn: psycopg.Connection, name: str) -> str | None:
    row = conn.execute("SELECT current_setting(%s, true)", [name]).fetchone()
    value: str | None = row[0] if row else None
    return value


def postmaster(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int, folder: Path) -> None:
    deadline = time.monotonic() + 30
    while alive(pid) or folder.exists():
        assert time.monotonic() < deadline, f"PostgreSQL {pid} in {folder} outlived the process that started it"
        time.sleep(0.02)


def root() -> Path:
    return Path(__file__).parents[2]
