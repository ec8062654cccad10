"""How fast everything is synced: the first sync, an equal check, a check with 1 % drift, applying it.

`make bench-sync`: SYNC_USERS users (100,000 unless told otherwise) and 1.2 times as many memberships, from a stand-in
for Clerk that makes them up as they are asked for, without limits and latency. Beside the floors of the same run:
reading and parsing the same pages and doing nothing, and COPY (or executemany) of the same users into a bare table.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import cpu_seconds, free_port, program, running
from tests.support.postgres import HOW, NoPostgres, Postgres

USERS = int(os.environ.get("SYNC_USERS", "100000"))
WORKS = {"first sync": ["apply"], "equal check": ["check"], "check, 1 % drift": ["check"], "apply it": ["apply"]}
EXPECTED = {"first sync": 0, "equal check": 0, "check, 1 % drift": 2, "apply it": 0}


class Measured:
    """A command by the clock, its CPU, PostgreSQL's CPU, and its peak memory."""

    def __init__(self, wall: float, cpu: float, server: float, peak: float, code: int) -> None:
        self.wall, self.cpu, self.server, self.peak, self.code = wall, cpu, server, peak, code

    def line(self, name: str, count: int) -> str:
        server = f"{self.server:8.1f} s" if self.server else " " * 10
        rate = f"{count / self.wall:10,.0f}"
        return f"  {name:24} {self.wall:8.1f} s {rate}/s   CPU {self.cpu:7.1f} s {server}   {self.peak:5.0f} MB"


def measure(command: list[str], env: dict[str, str], server_pid: int | None) -> Measured:
    before = cpu_seconds(server_pid) if server_pid else 0.0
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **env}, cwd="/", stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    server = cpu_seconds(server_pid) - before if server_pid else 0.0
    return Measured(wall, usage.ru_utime + usage.ru_stime, server, usage.ru_maxrss / 1024, process.returncode)


@contextmanager
def clerk(folder: Path) -> Iterator[str]:
    """The stand-in, on a port of its own."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "bench.sync_clerk", str(port), str(USERS)]
    with running(command, env={"PYTHONPATH": str(Path.cwd())}, folder=folder, ready=f"{url}/v1/users/count"):
        yield url


def run_works(title: str, database: str, server_pid: int | None, folder: Path) -> None:
    """One database from empty to mended."""
    print(f"{title}: {USERS:,} users, {USERS * 6 // 5:,} memberships", flush=True)
    with clerk(folder) as url:
        env = {"INSTEP_DATABASE_URL": database, "CLERK_API_URL": url, "CLERK_SECRET_KEY": "sk_test_bench"}
        subprocess.run([program("instep"), "migrate"], env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)
        floor = [sys.executable, "-m", "bench.sync_floors"]
        where = {**env, "PYTHONPATH": str(Path.cwd()), "SYNC_USERS": str(USERS)}
        for name in ("pages", "rows"):
            found = measure([*floor, name], where, server_pid)
            print(found.line(f"floor: {name}", USERS) + (f"  exit {found.code}!" if found.code else ""), flush=True)
        for name, command in WORKS.items():
            if "drift" in name:
                urllib.request.urlopen(urllib.request.Request(f"{url}/drift", method="POST")).close()
            found = measure([program("instep"), "sync", *command], env, server_pid)
            wrong = "" if found.code == EXPECTED[name] else f"  exit {found.code}, not {EXPECTED[name]}!"
            print(found.line(name, USERS) + wrong, flush=True)
    print()


def main() -> None:
    """Both databases."""
    wanted = sys.argv[1:] or ["sqlite", "postgresql"]
    with tempfile.TemporaryDirectory(prefix="instep-bench-sync-") as temporary:
        folder = Path(temporary)
        if "sqlite" in wanted:
            run_works("SQLite", f"sqlite:///{folder / 'sync.db'}", None, folder)
        if "postgresql" in wanted:
            try:
                postgres = Postgres(durable=True)
            except NoPostgres as error:
                print(f"No PostgreSQL ({error}). {HOW}")
                return
            pid = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
            try:
                with postgres.database() as url:
                    run_works("PostgreSQL", url, pid, folder)
            finally:
                postgres.stop()


if __name__ == "__main__":
    main()
