"""A database that somebody else keeps locked: nothing can be written, everything can be read."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

SQLITE = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""
TABLES = "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE tablename LIKE 'instep%'"


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Within, another process (SQLite) or another session (PostgreSQL) has every table to write for itself."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        command = [sys.executable, "-c", SQLITE, parsed.database or ""]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "locked\n"
            try:
                yield
            finally:
                other.communicate()
        return
    address = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as other:
        found = other.execute(TABLES).fetchone()
        assert found is not None
        other.execute(f"LOCK TABLE {found[0]} IN EXCLUSIVE MODE")
        yield
        other.rollback()
