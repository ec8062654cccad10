"""How much of what Clerk allows a backfill uses, when the limit is enforced; and what a permit costs a single call.

`python -m bench.pace [sqlite] [postgresql]`: the emulator with Clerk's live limit (1,000 calls in 10 seconds), one
process and then two that call as fast as they may for PACE_SECONDS (40), with an edit now and then.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import free_port, program, running
from instep.app.config import load_settings
from instep.app.database import make_clerk_rate_limiter
from instep.clerk.client import ClerkClient
from instep.domain.errors import ClerkUnavailableError
from tests.support.postgres import HOW, NoPostgres, Postgres

KEY = "sk_test_bench"
ALLOWED = 100  # calls a second
SECONDS = int(os.environ.get("PACE_SECONDS", "40"))
FULL_AFTER = 12
LANES = 6


def main() -> None:
    """Both databases."""
    wanted = sys.argv[1:] or ["sqlite", "postgresql"]
    with tempfile.TemporaryDirectory(prefix="instep-bench-pace-") as temporary:
        folder = Path(temporary)
        if "sqlite" in wanted:
            measure("SQLite", f"sqlite:///{folder / 'pace.db'}", folder)
        if "postgresql" in wanted:
            try:
                postgres = Postgres()
            except NoPostgres as error:
                print(f"No PostgreSQL ({error}). {HOW}")
                return
            with postgres.database() as url:
                measure("PostgreSQL", url, folder)
            postgres.stop()


def measure(title: str, database: str, folder: Path) -> None:
    """Print a line for one process, one for two, and one for single calls."""
    for processes in (1, 2):
        with limited_clerk(folder) as url:
            env = {"INSTEP_DATABASE_URL": database, "CLERK_API_URL": url, "CLERK_SECRET_KEY": KEY}
            env |= {"INSTEP_PACE": "1000", "PYTHONPATH": str(Path.cwd())}
            if processes == 1:
                subprocess.run(
                    [program("instep"), "migrate"], env={**os.environ, **env}, check=True, capture_output=True
                )
            command = [sys.executable, "-m", "bench.pace", "--client"]
            run = [
                subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE) for _ in range(processes)
            ]
            told = [json.loads(it.communicate()[0]) for it in run]
        ended = sorted(at for it in told for at in it["ended"])
        since, until = ended[0] + FULL_AFTER, ended[0] + SECONDS
        share = sum(since <= at < until for at in ended) / (until - since) / ALLOWED
        edits = statistics.median(it for client in told for it in client["edits"])
        print(
            f"{title}, {processes} at once: share of the allowed requests used at Clerk's live limit {share:.1%}; "
            f"turned away {sum(it['limited'] for it in told)}; "
            f"{sum(it['asked'] for it in told) / len(ended):.2f} questions to the shared row a call; "
            f"an edit meanwhile {edits * 1000:.1f} ms; "
            f"a single call {told[0]['paced'] * 1000:.2f} ms, without the pace {told[0]['free'] * 1000:.2f} ms",
            flush=True,
        )


@contextmanager
def limited_clerk(folder: Path) -> Iterator[str]:
    """The emulator, with Clerk's live limit."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [program("clerk-emulator"), "serve", "--port", str(port), "--secret-key", KEY]
    with running(command, env={}, folder=folder, ready=f"{url}/_emulator/settings"):
        body = json.dumps({"rate_limits": "production"}).encode()
        headers = {"content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{url}/_emulator/settings", body, headers)).close()
        yield url


async def client() -> dict[str, Any]:
    """One process: single calls with and without the pace, then a backfill for as long as it lasts."""
    settings = load_settings()
    pacer = make_clerk_rate_limiter(settings)
    assert pacer is not None
    clerk = ClerkClient(KEY, api_url=settings.clerk_api_url, rate_limiter=pacer, timeout=30)
    free = ClerkClient(KEY, api_url=settings.clerk_api_url)
    found: dict[str, Any] = {"limited": 0, "ended": [], "edits": []}
    for name, it in (("free", free), ("paced", clerk)):
        found[name] = statistics.median([await timed(it) for _ in range(40)][10:])
    await asyncio.sleep(10.5)  # what was called without a permit counts no more
    pacer.request_count, walk, until = 0, clerk.make_scanner(), time.monotonic() + SECONDS

    async def lane() -> None:
        while time.monotonic() < until:
            try:
                await walk.count("user")
                found["ended"].append(time.time())
            except ClerkUnavailableError as silence:
                found["limited"] += silence.status == 429

    async def edit() -> None:
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            found["edits"].append(await timed(clerk))
            found["ended"].append(time.time())

    await asyncio.gather(edit(), *(lane() for _ in range(LANES)))
    await clerk.close()
    await free.close()
    return found | {"asked": pacer.request_count}


async def timed(clerk: ClerkClient) -> float:
    began = time.perf_counter()
    await clerk.count_users()
    took = time.perf_counter() - began
    await asyncio.sleep(0.25)  # beyond what was taken ahead
    return took


if __name__ == "__main__":
    if "--client" in sys.argv:
        print(json.dumps(asyncio.run(client())))
    else:
        main()
