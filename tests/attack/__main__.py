"""Attack an installation on SQLite and one on PostgreSQL, print the counts, and fail on any wrong answer."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from instep.core.db import create_engine
from instep.core.schema_migrations import migrate_schema
from tests.attack import bodies, forgery, health, matrix, rest, tokens, webhooks
from tests.attack.target import Report, Target, target
from tests.support.postgres import NoPostgres, Postgres

Attack = Callable[[Target], Awaitable[Report]]
ATTACKS: dict[str, Attack] = {
    "tokens": tokens.run,
    "forgery": forgery.run,
    "matrix": matrix.run,
    "webhooks": webhooks.run,
    "rest": rest.run,
    "bodies": bodies.run,
}
SHOWN = 20  # wrong answers of an attack that are printed


def main() -> int:
    """Run the attacks that are named, or all, on the databases that are named, or both. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make attack")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--databases", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    wish = parser.parse_args()
    is_right = True
    for name in wish.databases:
        with database(name) as (folder, url):
            is_right &= asyncio.run(attack(name, folder, url, wish.only))
    return 0 if is_right else 1


async def attack(name: str, folder: Path, url: str, only: list[str]) -> bool:
    """Attack one installation; print what each attack found. Return whether nothing was wrong."""
    reports = []
    async with target(folder, url) as found, health.watched(found.url) as watched:
        for each in only:
            started = time.monotonic()
            report = await ATTACKS[each](found)
            report.counts["seconds"] = round(time.monotonic() - started)
            reports.append(show(name, report))
    reports.append(show(name, watched))
    return all(not report.wrong for report in reports)


def show(database_name: str, report: Report) -> Report:
    """Print one report: its counts, then what was wrong."""
    counts = ", ".join(f"{number:,} {kind}" for kind, number in sorted(report.counts.items()))
    print(f"{database_name}: {report.name}: {counts}; {len(report.wrong)} wrong", flush=True)
    for line in report.wrong[:SHOWN]:
        print(f"  WRONG {line}", flush=True)
    if len(report.wrong) > SHOWN:
        print(f"  and {len(report.wrong) - SHOWN} more", flush=True)
    return report


@contextmanager
def database(name: str) -> Iterator[tuple[Path, str]]:
    """Give a folder and the URL of a migrated database; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="instep-attack-") as folder:
        if name == "sqlite":
            url = f"sqlite:///{folder}/instep.db"
            migrate_schema(create_engine(url))
            yield Path(folder), url
            return
        try:
            server = Postgres()
        except NoPostgres as error:
            raise SystemExit(f"no PostgreSQL to attack: {error}") from None
        try:
            with server.database() as url:
                migrate_schema(create_engine(url))
                yield Path(folder), url
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
