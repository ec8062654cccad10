"""A throw-away PgBouncer in transaction mode before a throw-away PostgreSQL, on a Unix socket only."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from tests.support.need import need

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
HOW = "`apt-get install pgbouncer`"
PORT = 6432
SETTINGS = """
[databases]
{database} = host={server} dbname={database} user=postgres
[pgbouncer]
unix_socket_dir = {folder}
listen_addr =
listen_port = {port}
auth_type = any
pool_mode = transaction
max_client_conn = 200
default_pool_size = 3
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
"""


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """Run a pooler before the database of `url`; give the URL that leads through it.

    Three connections to the server for all clients: each client meets another server process again and again.
    """
    if not Path(PROGRAM).exists():
        need("PgBouncer", HOW)
    direct = make_url(url)
    folder = Path(tempfile.mkdtemp(prefix="instep-bouncer-", dir="/tmp"))  # sockets want short paths
    user = "nobody" if os.geteuid() == 0 else None  # PgBouncer refuses to run as root
    if user:
        shutil.chown(folder, user)
    settings = folder / "pgbouncer.ini"
    values = {"database": direct.database, "server": direct.query["host"], "folder": folder, "port": PORT}
    settings.write_text(SETTINGS.format(**values))
    process = subprocess.Popen([PROGRAM, "--quiet", settings], user=user, cwd="/", stderr=subprocess.DEVNULL)
    pooled = f"postgresql://postgres@/{direct.database}?host={folder}&port={PORT}"
    try:
        _wait_until_ready(process, pooled)
        yield pooled
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
