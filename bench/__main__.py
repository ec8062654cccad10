"""Measures everything once and prints a table. BENCH_SECONDS: about how long in all; BENCH_MEMBERS: the big list;
BENCH_WORKS: which of inbox, search and list."""

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bench import floors, works
from bench.clerk import INVITATIONS
from bench.databases import Databases
from bench.load import Result
from bench.processes import free_port, running
from tests.support.postgres import HOW, NoPostgres, Postgres

SECONDS = float(os.environ.get("BENCH_SECONDS", "150"))
MEMBERS = int(os.environ.get("BENCH_MEMBERS", "1000000"))
WORKS = os.environ.get("BENCH_WORKS", "inbox,search,list").split(",")
FEW = 1_000
EXISTING = 20_000
ROUNDS = 3
LOADING = 60  # of those seconds, filling the databases takes about so many, whatever is asked


@dataclass(frozen=True)
class Target:
    """What is to be reached: at least, or below."""

    bound: float
    is_least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<'} {self.bound:,g}"

    def verdict(self, value: float) -> str:
        return "reached" if (value >= self.bound) == self.is_least else "SHORT"


def at_least(bound: float) -> Target:
    return Target(bound, is_least=True)


def below(bound: float) -> Target:
    return Target(bound, is_least=False)


@dataclass
class Table:
    """The figures so far; each is printed as soon as it is known."""

    values: dict[str, float] = field(default_factory=dict)

    def head(self, title: str) -> None:
        print(f"\n{title}\n{'-' * len(title)}", flush=True)

    def add(self, name: str, value: float, unit: str, target: Target | None = None) -> None:
        self.values[name] = value
        shown = f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
        said = f"{target!s:>12}  {target.verdict(value)}" if target else ""
        print(f"  {name:58} {shown:>10} {unit:14}{said}", flush=True)

    def ratio(self, name: str, over: str, under: str, target: Target | None = None) -> None:
        self.add(name, self.values[over] / self.values[under], "x", target)


def main() -> None:
    """All works, on both databases where PostgreSQL can be had."""
    with tempfile.TemporaryDirectory(prefix="instep-bench-") as name:
        folder = Path(name)
        try:
            postgres = Postgres(durable=True)
        except NoPostgres as error:
            sys.exit(f"No PostgreSQL ({error}). {HOW}")
        try:
            _measure(Databases(folder, postgres), folder, Table())
        finally:
            postgres.stop()


def _measure(databases: Databases, folder: Path, table: Table) -> None:
    unit = max(SECONDS - LOADING, 20) / 60
    table.head("Floor: only the needed work, in a loop")
    table.add("verify and parse, one thread", floors.verify_and_parse(2 * unit), "deliveries/s")
    kinds = ("SQLite", "PostgreSQL")
    for kind in kinds if "inbox" in WORKS else ():
        _inbox(databases, folder, table, kind, unit)
    for kind in kinds if "search" in WORKS else ():
        _searches(databases, folder, table, kind, unit)
    if "list" not in WORKS:
        return
    port = free_port()
    ready = f"http://127.0.0.1:{port}/"
    with running([sys.executable, "-m", "bench.clerk", str(port)], env=_FINDABLE, folder=folder, ready=ready):
        for kind in ("SQLite", "PostgreSQL"):
            _lists(databases, folder, table, kind, unit, port)


_FINDABLE = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def _inbox(databases: Databases, folder: Path, table: Table, kind: str, unit: float) -> None:
    table.head(f"Deliveries on {kind}, {EXISTING:,} people, {works.CONNECTIONS} connections")
    with databases.new(kind, EXISTING) as database:
        table.add(f"{kind}: floor, grouped inserts", floors.grouped_inserts(database, 2 * unit), "deliveries/s")
        database.execute("DELETE FROM instep_deliveries")
        done = works.ingest(database, folder, seconds=8 * unit, existing=EXISTING)
        least = at_least(2_000) if kind == "SQLite" else None
        table.add(f"{kind}: acknowledged", done.result.per_second, "deliveries/s", least)
        table.add(f"{kind}: acknowledged, p50", done.result.quantile(0.5), "ms")
        table.add(f"{kind}: acknowledged, p99", done.result.quantile(0.99), "ms")
        table.add(f"{kind}: applied", done.applied, "deliveries/s")
        table.add(f"{kind}: CPU of the server, a delivery", done.server_cpu, "us")
        if database.server_pid:
            table.add(f"{kind}: CPU of the database, a delivery", done.database_cpu, "us")
        drained = works.drain(database, folder, deliveries=int(12_000 * unit), existing=EXISTING)
        table.add(f"{kind}: drained", drained, "deliveries/s", at_least(4_000))
        table.add(f"{kind}: memory, idle after start", done.memory_idle, "MB", below(150))
        table.add(f"{kind}: memory, after the deliveries", done.memory_after, "MB")
        table.ratio(f"{kind}: acknowledged / floor", f"{kind}: acknowledged", f"{kind}: floor, grouped inserts")
        table.ratio(f"{kind}: acknowledged / verify and parse", f"{kind}: acknowledged", "verify and parse, one thread")


def _lists(databases: Databases, folder: Path, table: Table, kind: str, unit: float, clerk_port: int) -> None:
    table.head(f"The list on {kind}, pages of 25")
    with (
        databases.new(kind, FEW) as few,
        databases.new(kind, MEMBERS) as many,
        works.serving(few, folder, clerk_port) as server_of_few,
        works.serving(many, folder, clerk_port) as server_of_many,
    ):
        servers = {FEW: server_of_few, MEMBERS: server_of_many}
        for is_active_only in (True, False):
            what = "members" if is_active_only else f"with {INVITATIONS} invitations"
            found = {size: Result() for size in servers}
            for _ in range(ROUNDS):  # in turn, so that what else the machine does falls on both
                for size, server in servers.items():
                    seconds = 3 * unit / ROUNDS
                    found[size] += works.listing(server, members=size, seconds=seconds, is_active_only=is_active_only)
            for size, result in found.items():
                table.add(f"{kind}: {size:,}, {what}, p50", result.quantile(0.5), "ms")
                table.add(f"{kind}: {size:,}, {what}, p99", result.quantile(0.99), "ms")
    at_many, at_few = f"{kind}: {MEMBERS:,}, members, p50", f"{kind}: {FEW:,}, members, p50"
    table.ratio(f"{kind}: p50 at {MEMBERS:,} / at {FEW:,}", at_many, at_few, below(1.5))


def _searches(databases: Databases, folder: Path, table: Table, kind: str, unit: float) -> None:
    """Words of all kinds; then each kind by itself, as it was among the others."""
    table.head(f"Search on {kind}, {MEMBERS:,} people in one organization, {works.SEARCHERS} connections")
    with databases.new(kind, MEMBERS) as many, works.serving(many, folder) as server:
        for what in ("members", "users"):
            found = works.searching(server, members=MEMBERS, seconds=6 * unit, what=what)
            everything = found.pop("all")
            table.add(f"{kind}: {what}, searches", everything.per_second, "searches/s")
            table.add(f"{kind}: {what}, p50", everything.quantile(0.5), "ms")
            table.add(f"{kind}: {what}, p99", everything.quantile(0.99), "ms", below(50))
            for words, result in sorted(found.items()):
                table.add(f"{kind}: {what}, {words}, p50", result.quantile(0.5), "ms")
                table.add(f"{kind}: {what}, {words}, p99", result.quantile(0.99), "ms")


if __name__ == "__main__":
    main()
