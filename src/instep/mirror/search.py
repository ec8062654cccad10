"""Search: normalized text, queries, and the trigram index."""

# ruff: noqa: S608 (the statements contain only our own names)

import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from instep.core.db import Conn
from instep.mirror.tables import memberships, users

SMALL_RESULT_SIZE = 4_000


"""Number of matches that are read and sorted as fast as the list is scanned for one page."""


SCAN_STEPS = ((2_000, 8), (4_500, 0))


"""Rows to scan in list order before using the index, and matches required to continue scanning.

A term that one in 250 rows has fills a page during the scan, while sorting all its matches would take longer.
"""


RARE_TERM_SCAN_STEPS = ((300, 2), (1_700, 8), (4_500, 0))


"""The same for terms that few rows are likely to have."""


LARGE_ORGANIZATION_SIZE = 100_000


"""Number of members from which an organization's id is not looked up in the index.

With so many members it excludes fewer rows than it costs.
"""


MAX_UNINDEXED_ROWS = 60_000


"""Maximum number of rows of a backfill that wait to be indexed (SQLite); every search reads them one by one."""


INDEXED_TEXT_SQL = {
    ("postgresql", users.name): "{row}search_text || ''",
    ("postgresql", memberships.name): "{row}search_text || '  ' || right({row}organization_id, 3)",
    ("sqlite", users.name): "{row}search_text",
    ("sqlite", memberships.name): "{row}search_text || '  ' || substr({row}organization_id, -3)",
}
_TRIGRAM_SCHEMA_SQL = (
    "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
    " WHERE e.extname = 'pg_trgm'"
)
_ORGANIZATION_SUFFIX_LENGTH = 3  # one trigram: each further one costs another scan of a long list
_MAX_INDEX_TERMS = 4  # the longest terms; each further one costs a scan and excludes few rows
_IS_INDEXED, _IS_MAPPED = "instep_search", "instep_is_mapped"
_MMAP_BYTES = 256 * 2**20  # bytes per connection: more gains little, and counts as memory of the process
T = TypeVar("T")
SearchPosition = Sequence[Any]


"""The position of a row in a list: its sort key and its id."""


class SearchRange(NamedTuple):
    """A range of a list: rows after `after`, up to and including `until`.

    `is_indexed`: only the rows that the index returns.
    """

    after: SearchPosition | None
    until: SearchPosition | None = None
    is_indexed: bool = False

    @property
    def shape(self) -> dict[str, bool]:
        """Return the properties that determine the statement for such a range."""
        bounds = {"has_start": self.after is not None, "has_end": self.until is not None}
        return {**bounds, "is_indexed": self.is_indexed}


def get_search_index_name(table: str, dialect: str) -> str:
    """Return the name of a table's search index."""
    return f"ix_{table}_search" if dialect == "postgresql" else f"{table}_search"


def get_unindexed_fact_name(table: str) -> str:
    """Return the fact with the last indexed row of a table while indexing is deferred (SQLite)."""
    return f"search_held_{table}"


def has_search_index(conn: Conn) -> bool:
    """Return whether the trigram indexes exist. Without them search falls back to a scan."""
    if not conn.info.get(_IS_INDEXED):  # cached with the connection
        names = [get_search_index_name(table.name, conn.dialect.name) for table in (users, memberships)]
        catalog = "pg_class WHERE relname" if conn.dialect.name == "postgresql" else "sqlite_master WHERE name"
        query = sa.text(f"SELECT count(*) FROM {catalog} IN (:first, :second)")
        found = conn.execute(query, {"first": names[0], "second": names[1]}).scalar_one()
        conn.info[_IS_INDEXED] = found == len(names)
    return bool(conn.info[_IS_INDEXED])


def can_use_index(conn: Conn) -> bool:
    """Return whether the index can be used; from now on the connection maps the database file to memory (SQLite).

    Index matches are spread over the whole file: copying a page for each of them takes half of a search.
    """
    if conn.dialect.name == "sqlite" and not conn.info.get(_IS_MAPPED):
        conn.exec_driver_sql(f"PRAGMA mmap_size={_MMAP_BYTES}")
        conn.info[_IS_MAPPED] = True
    return has_search_index(conn)


def create_postgresql_index(conn: Conn, table: str) -> None:
    """Create a table's search index if pg_trgm is installed (see migrations.search)."""
    schema = conn.exec_driver_sql(_TRIGRAM_SCHEMA_SQL).scalar()
    if schema is None:
        return
    # Every search reads the pending list of the index: limit it to one megabyte instead of four.
    text = INDEXED_TEXT_SQL["postgresql", table].format(row="")
    method = f"gin (({text}) {schema}.gin_trgm_ops) WITH (gin_pending_list_limit = 1024)"
    conn.exec_driver_sql(
        f"CREATE INDEX IF NOT EXISTS {get_search_index_name(table, 'postgresql')} ON {table} USING {method}"
    )


def build_search_params(
    conn: Conn, table: sa.Table, terms: Sequence[str], organization_id: str | None = None
) -> dict[str, Any]:
    """Return the parameters of `build_match_conditions` and `build_index_conditions`.

    `organization_id` only if its suffix is looked up too.
    """
    ordered = sorted(terms, key=len, reverse=True)
    params: dict[str, Any] = {f"needle_{i}": term for i, term in enumerate(ordered)}
    parts = [select_index_term(term) for term in ordered[:_MAX_INDEX_TERMS]]
    piece = organization_id[-_ORGANIZATION_SUFFIX_LENGTH:] if organization_id else ""
    if conn.dialect.name == "postgresql":
        return params | {f"part_{i}": part for i, part in enumerate(parts)} | {"piece": piece}
    found = [trigram for part in (piece, *parts) for trigram in list_trigrams(part)]
    return params | {
        "matching": " AND ".join('"{}"'.format(trigram.replace('"', '""')) for trigram in dict.fromkeys(found))
    }


def build_match_conditions(dialect: str, table: sa.Table, count: int) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a row contains each of `count` terms."""
    find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
    return [find(table.c.search_text, sa.bindparam(f"needle_{i}", type_=sa.Text)) > 0 for i in range(count)]


def build_index_conditions(
    dialect: str, table: sa.Table, count: int, *, has_piece: bool = False
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a row may match, by the index, which must exist.

    `has_piece`: and that it belongs to the organization.
    """
    row = f"{table.name}."
    if dialect == "postgresql":
        text: sa.ColumnElement[str] = sa.literal_column(
            f"({INDEXED_TEXT_SQL[dialect, table.name].format(row=row)})", sa.Text
        )
        names = [f"part_{i}" for i in range(min(count, _MAX_INDEX_TERMS))] + ["piece"] * has_piece
        return [text.like("%" + sa.bindparam(name, type_=sa.Text) + "%") for name in names]
    index = get_search_index_name(table.name, dialect)
    indexed_until = (
        f"(SELECT CAST(value AS INTEGER) FROM instep_facts WHERE name = '{get_unindexed_fact_name(table.name)}')"
    )
    matching = f"SELECT rowid FROM {index} WHERE {index} MATCH :matching"
    newest = f"SELECT rowid FROM {table.name} WHERE rowid > {indexed_until}"
    is_match = sa.text(f"{row}rowid IN ({matching} UNION ALL {newest})")
    return [is_match.bindparams(sa.bindparam("matching", type_=sa.Text))]  # type: ignore[list-item]


class SearchableList(NamedTuple, Generic[T]):
    """Access to a list that can be searched.

    `read_rows` returns up to so many matching rows of a range; `skip_rows` returns the position that many rows after
    another, matching or not, None at the end of the list.
    """

    table: sa.Table
    read_rows: Callable[[SearchRange, int], list[T]]
    skip_rows: Callable[[SearchPosition | None, int], SearchPosition | None]


def find_matching_rows(
    conn: Conn,
    searched: SearchableList[T],
    terms: Sequence[str],
    params: Mapping[str, Any],
    part: SearchRange,
    limit: int,
) -> list[T]:
    """Return the first `limit` rows of a range of a list that contain the terms, in list order.

    The list is scanned while that is cheap; then the index is used for the rest. `params`: see `build_search_params`.
    """
    if not can_use_index(conn):
        return searched.read_rows(part, limit)
    found: list[T] = []
    for rows, min_found in plan_scan_steps(conn, searched.table, terms, params):
        end = searched.skip_rows(part.after, rows)
        found += searched.read_rows(part._replace(until=end), limit - len(found))
        if end is None or len(found) >= limit:
            return found
        part = part._replace(after=end)
        if len(found) < min_found:
            break
    return found + searched.read_rows(part._replace(is_indexed=True), limit - len(found))


def plan_scan_steps(
    conn: Conn, table: sa.Table, terms: Sequence[str], params: Mapping[str, Any]
) -> Sequence[tuple[int, int]]:
    """Return the steps to scan for these terms.

    SQLite counts index matches up to `SMALL_RESULT_SIZE` in a fraction of a millisecond. PostgreSQL can't without
    reading them; there one or two letters, or a single word of a-z, may be frequent, and all else is treated as rare.
    """
    if conn.dialect.name == "sqlite":
        count = conn.execute(
            _build_count_query(get_search_index_name(table.name, "sqlite")), {"matching": params["matching"]}
        )
        return () if count.scalar_one() < SMALL_RESULT_SIZE else SCAN_STEPS
    is_short = all(term.startswith(" ") for term in terms)
    is_name = len(terms) == 1 and terms[0].isalpha() and terms[0].islower()
    return SCAN_STEPS if is_short or is_name else RARE_TERM_SCAN_STEPS


@lru_cache
def _build_count_query(index: str) -> sa.TextClause:
    return sa.text(
        f"SELECT count(*) FROM (SELECT 1 FROM {index} WHERE {index} MATCH :matching LIMIT {SMALL_RESULT_SIZE})"
    )


def defer_indexing(conn: Conn) -> None:
    """Index new rows later and in bulk, which is ten times as fast (SQLite; else nothing)."""
    if conn.dialect.name != "sqlite" or not has_search_index(conn):
        return
    for table in (users.name, memberships.name):
        newest = f"SELECT '{get_unindexed_fact_name(table)}', coalesce(max(rowid), 0) FROM {table} WHERE true"
        conn.exec_driver_sql(f"INSERT INTO instep_facts (name, value) {newest} ON CONFLICT DO NOTHING")


def index_deferred_rows(conn: Conn, *, pending: int = 0) -> None:
    """Index deferred rows in the tables where more than `pending` rows wait."""
    if conn.dialect.name != "sqlite" or not has_search_index(conn):
        return
    for table in (users.name, memberships.name):
        fact = {"name": get_unindexed_fact_name(table)}
        newest = f"(SELECT max(rowid) FROM {table})"
        query = f"SELECT CAST(value AS INTEGER), {newest} FROM instep_facts WHERE name = :name"
        row = conn.execute(sa.text(query), fact).first()
        if row is None or (row[1] or 0) - row[0] <= pending:
            continue
        text, index = INDEXED_TEXT_SQL["sqlite", table].format(row=""), get_search_index_name(table, "sqlite")
        rows = f"SELECT rowid, {text} FROM {table} WHERE rowid > :indexed_until"
        conn.execute(sa.text(f"INSERT INTO {index} (rowid, text) {rows}"), {"indexed_until": row[0]})
        conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :name"), fact)


TRIGRAM_LENGTH = 3  # characters; shorter terms match only the beginnings of words
_MAX_INDEX_TERM_LENGTH = 10  # characters
_WORD_PREFIX = "  "
# Symbols that every address has get codes that no name has; PostgreSQL's trigrams ignore case.
_COMMON_SYMBOLS = {"@": "X", ".": "Q", "-": "J"}
_DIGITS = "ABCDEFGHIKLMNOPRSTUV"
# Lead characters and the number of digits that follow. No digit is a lead, so that no code begins within another.
_LEAD_CHARACTERS = (("Z", 3), ("Y", 4), ("W", 5))


class _CharacterCodes(dict[int, str]):
    def __missing__(self, point: int) -> str:
        lead, width = next(lead for lead in _LEAD_CHARACTERS if point < len(_DIGITS) ** lead[1])
        digits = ""
        for _ in range(width):
            point, digit = divmod(point, len(_DIGITS))
            digits = _DIGITS[digit] + digits
        return lead + digits


_PLAIN_CHARACTERS = string.ascii_lowercase + string.digits + " "
_PLAIN_BYTES = (_PLAIN_CHARACTERS + "".join(_COMMON_SYMBOLS)).encode()
_COMMON_SYMBOL_BYTES = bytes.maketrans("".join(_COMMON_SYMBOLS).encode(), "".join(_COMMON_SYMBOLS.values()).encode())
_CHARACTER_CODES = _CharacterCodes(
    {ord(plain): plain for plain in _PLAIN_CHARACTERS} | {ord(symbol): code for symbol, code in _COMMON_SYMBOLS.items()}
)


def fold_text(text: str) -> str:
    """Normalize case, accents and equivalent characters: `Zoë` becomes `zoe`."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if unicodedata.category(character) not in ("Mn", "Cf"))


def build_search_text(parts: Iterable[str | None]) -> str:
    """Return the text by which names and addresses are found, with each word once."""
    words = dict.fromkeys(fold_text(" ".join([part for part in parts if part])).split())
    return _encode(_WORD_PREFIX + _WORD_PREFIX.join(words)) if words else ""


def _encode(text: str) -> str:
    """Encode the text in searchable characters. Most texts are plain, and translating bytes is faster."""
    raw = text.encode() if text.isascii() else b"?"
    return (
        raw.translate(_COMMON_SYMBOL_BYTES).decode()
        if not raw.translate(None, _PLAIN_BYTES)
        else text.translate(_CHARACTER_CODES)
    )


def parse_search_query(query: str) -> tuple[str, ...]:
    """Return the terms that a search text must all contain to match the query.

    A word matches any part of a name or an address. One or two of a-z, 0-9, @, dot and hyphen match a beginning of one.
    """
    encoded = dict.fromkeys(word.translate(_CHARACTER_CODES) for word in fold_text(query).split())
    return tuple(
        word if len(word) >= TRIGRAM_LENGTH else _WORD_PREFIX[len(word) - TRIGRAM_LENGTH :] + word for word in encoded
    )


def is_search_match(query: str, parts: Iterable[str | None]) -> bool:
    """Return whether these names and addresses match the query."""
    text = build_search_text(parts)
    return all(term in text for term in parse_search_query(query))


def select_index_term(term: str) -> str:
    """Return the part of a term to look up in the index: the beginning of the part before the @.

    Each trigram that all rows have (of `@example.com`) costs a scan of a long list, and excludes nothing.
    """
    before, _, _ = term.partition(_COMMON_SYMBOLS["@"])
    return (before if len(before) >= TRIGRAM_LENGTH else term)[:_MAX_INDEX_TERM_LENGTH]


def list_trigrams(term: str) -> list[str]:
    """Return the trigrams of a term, without duplicates."""
    return list(dict.fromkeys(term[start : start + TRIGRAM_LENGTH] for start in range(len(term) - TRIGRAM_LENGTH + 1)))
