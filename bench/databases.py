"""The databases that are measured: migrated, filled, and asked how far the inbox is."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from bench import people
from bench.processes import cpu_seconds, program
from instep.core.db import Database as core_Database
from tests.support.postgres import Postgres

UNSETTLED = "SELECT count(*) FROM instep_deliveries WHERE due_at IS NOT NULL"


@dataclass
class Databases:
    """New databases on SQLite and on one PostgreSQL with fsync on."""

    folder: Path
    postgres: Postgres
    _made: int = field(default=0)

    @contextmanager
    def new(self, kind: str, members: int) -> Iterator["Database"]:
        """A migrated database with an organization of so many members."""
        self._made += 1
        if kind == "PostgreSQL":
            with self.postgres.database() as url, _filled(url, members, self._postgres_pid()) as database:
                yield database
        else:
            path = self.folder / f"{self._made}.db"
            with _filled(f"sqlite:///{path}", members, None) as database:
                yield database
            for left in self.folder.glob(f"{path.name}*"):
                left.unlink()

    def _postgres_pid(self) -> int:
        return int((self.postgres.folder / "data" / "postmaster.pid").read_text().split()[0])


@dataclass
class Database:
    """One of them. `server_pid` is PostgreSQL's, None on SQLite."""

    url: str
    db: core_Database
    server_pid: int | None

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.server_pid) if self.server_pid else 0.0

    def scalar(self, sql: str) -> int:
        with self.db.engine.connect() as conn:
            return int(conn.execute(sa.text(sql)).scalar_one() or 0)

    def execute(self, sql: str) -> None:
        with self.db.engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
            conn.execute(sa.text(sql))

    def wait_until_settled(self, patience: float = 60) -> None:
        """Until nothing in the inbox waits to be worked."""
        deadline = time.monotonic() + patience
        while self.scalar(UNSETTLED):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the inbox is not worked after {patience} s")
            time.sleep(0.02)


@contextmanager
def _filled(url: str, members: int, server_pid: int | None) -> Iterator[Database]:
    env = {**os.environ, "INSTEP_DATABASE_URL": url}
    subprocess.run([program("instep"), "migrate"], env=env, cwd="/", check=True, stdout=subprocess.DEVNULL)
    db = core_Database(url)
    try:
        people.load(db, members)
        yield Database(url, db, server_pid)
    finally:
        db.close()
