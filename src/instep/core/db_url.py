"""Parse and normalize database URLs."""

from collections.abc import Mapping
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_FOREIGN_DRIVER_OPTIONS = {"pgbouncer", "connection_limit", "pool_timeout", "pool_size", "socket_timeout", "sslaccept"}


_FOREIGN_DRIVER_OPTIONS |= {
    "statement_cache_size",
    "statement_cache_mode",
    "prepared_statement_cache_size",
    "prepare_threshold",
}


"""Options in addresses that speak to other drivers or poolers, and change nothing for ours."""


_SSL_MODES = {"true": "require", "1": "require", "false": "disable", "0": "disable"}


def parse_database_url(url: str) -> sa.URL:
    """Read a database's address as the driver that instep uses takes it, whatever driver it names.

    Raises ValueError with what is wrong; the message never repeats the address: there is a password in it.
    """
    try:
        parsed = make_url(url)
        backend = parsed.drivername.partition("+")[0]
    except (ArgumentError, ValueError):
        backend = ""
    if backend == "sqlite":
        return parsed.set(drivername="sqlite")
    if backend not in ("postgresql", "postgres"):
        raise ValueError("not the address of a database: sqlite:///file, or postgresql://user:password@host/name")
    return parsed.set(drivername="postgresql+psycopg", query=_translate_postgres_query(parsed.query))


def _translate_postgres_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the options that other drivers and platforms write; raise ValueError for unknown ones."""
    given = dict(query)
    if "ssl" in given:  # asyncpg's name
        value = str(given.pop("ssl")).lower()
        given.setdefault(
            "sslmode", {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value, value)
        )
    schema = given.pop("schema", "public")
    if schema != "public":
        raise ValueError(f"schema={schema} is no option of PostgreSQL's; write options=-csearch_path%3D{schema}")
    kept = {name: value for name, value in given.items() if name not in _FOREIGN_DRIVER_OPTIONS}
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    if unknown := sorted(kept.keys() - known):
        raise ValueError(f"PostgreSQL knows no option {', '.join(unknown)}; remove it from the end of the address")
    return kept


def make_libpq_url(url: str | sa.URL) -> str:
    """Return the address of a PostgreSQL as libpq takes it, for a connection outside the pool. Raises ValueError."""
    parsed = parse_database_url(url) if isinstance(url, str) else url
    return parsed.set(drivername="postgresql").render_as_string(hide_password=False)
