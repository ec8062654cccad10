"""How fast everything is synced: the first sync, an equal check, a check with 1 % drift, applying it.

`make bench-sync`: SYNC_USERS users (1,000,000 unless told otherwise) and 1.2 times as many memberships, with the pace
off, beside the floors of the same run: reading and parsing the same pages and doing nothing, and COPY (or executemany)
of the same users into a bare table. Clerk is a page server that makes its pages up as they are asked for: the CPU that
it takes of the same two cores stands beside ours. SYNC_CLERK=emulator takes Clerk's emulator instead, for the floor of
the pages, the first sync and the equal check. Before all that, bench.pace: the share of the allowed requests used at
Clerk's live limit. Arguments: sqlite, postgresql (both unless told otherwise).
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import cpu_seconds, free_port, program, running
from tests.support.postgres import HOW, NoPostgres, Postgres

USERS = int(os.environ.get("SYNC_USERS", "1000000"))
MEMBERSHIPS = USERS * 6 // 5
IS_EMULATOR = os.environ.get("SYNC_CLERK") == "emulator"
KEY = "sk_test_bench"
FULL = 1_000_000
PEAK = 300
WORKS = {
    "first sync": ["apply"],
    "equal check": ["check"],
    "check, 1 % drift": ["check"],
    "plan and apply it": ["apply"],
}
EXPECTED = {"check, 1 % drift": 2}
SECONDS = {
    ("SQLite", "first sync"): 45,
    ("PostgreSQL", "first sync"): 60,
    ("SQLite", "equal check"): 40,
    ("PostgreSQL", "equal check"): 40,
}
HEAD = f"  {'':20} {'clock':>8} {'users':>12} {'CPU':>8} {'database':>8} {'Clerk':>8} {'peak':>7}   to reach"


@dataclass
class Others:
    """The processes beside ours: PostgreSQL (None on SQLite) and the one that stands for Clerk."""

    database: int | None
    clerk: int

    def cpu(self) -> tuple[float, float]:
        return cpu_seconds(self.database) if self.database else 0.0, cpu_seconds(self.clerk)


@dataclass
class Measured:
    """A command by the clock, its own CPU, the CPU of PostgreSQL and of Clerk meanwhile, and its peak memory."""

    wall: float
    cpu: float
    database: float
    clerk: float
    peak: float
    code: int

    def line(self, name: str, count: int) -> str:
        database = f"{self.database:6.1f} s" if self.database else " " * 8
        rate = f"{count / self.wall:10,.0f}/s"
        cpu = f"{self.cpu:6.1f} s {database} {self.clerk:6.1f} s"
        return f"  {name:20} {self.wall:6.1f} s {rate} {cpu} {self.peak:4.0f} MB"


def measure(command: list[str], env: dict[str, str], others: Others) -> Measured:
    database, clerk = others.cpu()
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **env}, cwd="/", stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    database_after, clerk_after = others.cpu()
    cpu = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss / 1024
    return Measured(wall, cpu, database_after - database, clerk_after - clerk, peak, process.returncode)


def verdict(title: str, name: str, found: Measured) -> str:
    """What is to be reached at a million; said whether or not it is."""
    seconds = SECONDS.get((title, name))
    if USERS < FULL or (seconds is None and name not in WORKS):
        return ""
    said = []
    if seconds is not None:
        said.append(f"<= {seconds} s {'reached' if found.wall <= seconds else 'SHORT'}")
    said.append(f"< {PEAK} MB {'reached' if found.peak < PEAK else 'SHORT'}")
    return "   " + ", ".join(said)


@contextmanager
def clerk(folder: Path) -> Iterator[tuple[str, int]]:
    """What stands for Clerk, on a port of its own; gives its address and its process."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "bench.sync_clerk", str(port), str(USERS)]
    ready = f"{url}/v1/users/count"
    if IS_EMULATOR:
        wish = f"{USERS},1000,{MEMBERSHIPS}"
        command = [program("clerk-emulator"), "serve", "--port", str(port), "--secret-key", KEY, "--generate", wish]
        ready = f"{url}/"
    env = {"PYTHONPATH": str(Path.cwd())}
    with running(command, env=env, folder=folder, ready=ready, patience=600) as pid:
        yield url, pid


def run_works(title: str, database: str, server_pid: int | None, folder: Path) -> None:
    """One database from empty to mended."""
    with clerk(folder) as (url, clerk_pid):
        print(f"{title}: {USERS:,} users, {MEMBERSHIPS:,} memberships\n{HEAD}", flush=True)
        others = Others(server_pid, clerk_pid)
        env = {"INSTEP_DATABASE_URL": database, "CLERK_API_URL": url, "CLERK_SECRET_KEY": KEY, "INSTEP_PACE": "off"}
        subprocess.run([program("instep"), "migrate"], env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)
        where = {**env, "PYTHONPATH": str(Path.cwd()), "SYNC_USERS": str(USERS)}
        for name in ("pages", "rows"):
            found = measure([sys.executable, "-m", "bench.sync_floors", name], where, others)
            print(found.line(f"floor: {name}", USERS) + (f"  exit {found.code}!" if found.code else ""), flush=True)
        for name, command in list(WORKS.items())[: 2 if IS_EMULATOR else None]:
            if "drift" in name:
                urllib.request.urlopen(urllib.request.Request(f"{url}/drift", method="POST")).close()
            found = measure([program("instep"), "sync", *command], env, others)
            expected = EXPECTED.get(name, 0)
            wrong = "" if found.code == expected else f"  exit {found.code}, not {expected}!"
            print(found.line(name, USERS) + verdict(title, name, found) + wrong, flush=True)
    print()


def main() -> None:
    """Both databases."""
    wanted = sys.argv[1:] or ["sqlite", "postgresql"]
    subprocess.run([sys.executable, "-m", "bench.pace", *wanted], check=True)
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
