"""instep beside the receivers that a user would write by Clerk's guides, in one run: `make bench-peers`.

The peers live in a folder beside this repository; where it is not, this says so and ends well. More options go to
their `run.py` as they are, such as `--works ingest --rounds 1`: make bench-peers PEERS_ARGS='...'.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.processes import program
from tests.support.postgres import HOW, NoPostgres, find_binaries

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(os.environ.get("PEERS") or ROOT.parent / "shared" / "peers")
URL = "http://127.0.0.1:18819"
KEY = "an-admin-key-for-benches"
OURS = 'INSTEP_DATABASE_URL="$DATABASE_URL" INSTEP_PORT="$PORT"'
LIST = "/v1/organizations/{org}/people?status=active&limit=25&cursor={cursor}"


def main() -> int:
    """Set the peers up where they are not yet, then run them and us."""
    if not (PEERS / "run.py").exists():
        print(f"There are no peers at {PEERS}: nothing to measure beside.")
        return 0
    try:
        binaries = find_binaries()
    except NoPostgres as error:
        print(f"No PostgreSQL ({error}). {HOW}")
        return 1
    home = Path(os.environ.get("PEERS_HOME") or Path(tempfile.gettempdir()) / "instep-peers")
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    paths = os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path)
    env = {**os.environ, "PG_BIN": str(binaries), "PEERS_HOME": str(home), "PYTHONPATH": paths}
    run = str(PEERS / "run.py")
    if not (home / "venv" / "bin" / "python").exists() or not (home / "node_guide" / "node_modules").exists():
        subprocess.run([sys.executable, run, "--setup"], env=env, check=True)
    return subprocess.run([home / "venv" / "bin" / "python", run, *ours(), *sys.argv[1:]], env=env).returncode


def ours() -> list[str]:
    """How `run.py` starts, fills and asks us."""
    instep = f"cd / && env {OURS} INSTEP_RATE_LIMIT=off INSTEP_ADMIN_KEY={KEY} {shlex.quote(program('instep'))}"
    backfill = f"cd / && exec env {OURS} {shlex.quote(sys.executable)} -m instep.sync.cli apply --first --only user"
    options = {
        "ours": f"{instep} migrate && {instep.replace('env ', 'exec env ', 1)} serve",
        "ours-url": URL,
        "ours-migrate": f"{instep} migrate",
        "ours-backfill": backfill,
        "ours-load-sql": str(ROOT / "bench" / "people_for_peers.sql"),
        "ours-webhook-path": "/webhooks/clerk",
        "ours-list-path": LIST,
        "ours-list-headers": f"Authorization: Bearer {KEY}",
        "ours-item-mark": '"orgmem_',
        "ours-ready-path": "/health/ready",
        "ours-users-sql": "select count(*) from instep_users",
        "ours-settled-sql": "select count(*) from instep_deliveries where state in ('new', 'waiting')",
        "works": "ingest,list",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


if __name__ == "__main__":
    sys.exit(main())
