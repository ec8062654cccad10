"""Parse and normalize database URLs."""

from collections.abc import Mapping
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_FOREIGN_DRIVER_OPTIONS = {
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "pool_size",
    "socket_timeout",
    "sslaccept",
    "statement_cache_size",
    "statement_cache_mode",
    "prepared_statement_cache_size",
    "prepare_threshold",
}
"""URL options of other drivers and poolers, ignored here."""

_SSL_MODES = {"true": "require", "1": "require", "false": "disable", "0": "disable"}


def parse_database_url(url: str) -> sa.URL:
    """Parse a database URL for the driver that instep uses, whatever driver it names.

    Raises ValueError. The message never repeats the URL, which contains a password.
    """
    try:
        parsed = make_url(url)
        backend = parsed.drivername.partition("+")[0]
    except (ArgumentError, ValueError):
        backend = ""
    if backend == "sqlite":
        return parsed.set(drivername="sqlite")
    if backend not in ("postgresql", "postgres"):
        raise ValueError("not a database URL: use sqlite:///file or postgresql://user:password@host/name")
    return parsed.set(drivername="postgresql+psycopg", query=_translate_postgres_query(parsed.query))


def _translate_postgres_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Translate options of other drivers and platforms; raise ValueError for unknown ones."""
    options = dict(query)
    if "ssl" in options:  # asyncpg's name
        value = str(options.pop("ssl")).lower()
        options.setdefault("sslmode", _SSL_MODES.get(value, value))
    schema = options.pop("schema", "public")
    if schema != "public":
        raise ValueError(f"PostgreSQL has no option schema={schema}; use options=-csearch_path%3D{schema}")
    kept = {name: value for name, value in options.items() if name not in _FOREIGN_DRIVER_OPTIONS}
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    if unknown := sorted(kept.keys() - known):
        raise ValueError(f"PostgreSQL has no option {', '.join(unknown)}; remove it from the database URL")
    return kept


def make_libpq_url(url: str | sa.URL) -> str:
    """Return the URL of a PostgreSQL database for libpq, to connect outside the pool. Raises ValueError."""
    parsed = parse_database_url(url) if isinstance(url, str) else url
    return parsed.set(drivername="postgresql").render_as_string(hide_password=False)
