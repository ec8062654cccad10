"""Search of users and members by trigram index."""

# ruff: noqa: S608 (the statements are made of names of ours alone)

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from instep.core.db import Conn
from instep.mirror.search_text import list_trigrams, select_index_term
from instep.mirror.tables import memberships, users

SMALL_RESULT_SIZE = 4_000


"""So many that may be meant are read and sorted as fast as the list is walked to find a page of them."""


SCAN_STEPS = ((2_000, 8), (4_500, 0))


"""How many rows of a list are walked in its order before the index is asked, and how many must be found by then for
another walk: what one in 250 has fills a page on the way, and sorting everyone who has it would take longer."""


RARE_TERM_SCAN_STEPS = ((300, 2), (1_700, 8), (4_500, 0))


"""The same for what few are likely to have."""


LARGE_ORGANIZATION_SIZE = 100_000


"""Members of an organization from which on its piece is not looked for: among so many it narrows less than it costs."""


MAX_UNINDEXED_ROWS = 60_000


"""How many rows of a bulk load wait at most to be indexed, on SQLite; so many are read one by one by each search."""


INDEXED_TEXT_SQL = {
    ("postgresql", users.name): "{row}search_text || ''",
    ("postgresql", memberships.name): "{row}search_text || '  ' || right({row}organization_id, 3)",
    ("sqlite", users.name): "{row}search_text",
    ("sqlite", memberships.name): "{row}search_text || '  ' || substr({row}organization_id, -3)",
}
_TRIGRAM_SCHEMA_SQL = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"


_TRIGRAM_SCHEMA_SQL += " WHERE e.extname = 'pg_trgm'"


_ORGANIZATION_SUFFIX_LENGTH = 3  # one trigram: each more costs another walk of a long list
_MAX_INDEX_TERMS = 4  # the longest needles; each more costs a walk of its own and narrows little
_IS_INDEXED, _IS_MAPPED = "instep_search", "instep_is_mapped"
_MMAP_BYTES = 256 * 2**20  # bytes a connection: more gains little, and is counted as memory of the process
T = TypeVar("T")
SearchPosition = Sequence[Any]


"""Where somebody stands in a list: by what it is sorted, and the id."""


class SearchRange(NamedTuple):
    """A part of a list: what comes behind `after`, up to `until` with it; all of it, or what the index gives of it."""

    after: SearchPosition | None
    until: SearchPosition | None = None
    is_indexed: bool = False

    @property
    def shape(self) -> dict[str, bool]:
        """What a statement for such parts depends on."""
        bounds = {"has_start": self.after is not None, "has_end": self.until is not None}
        return {**bounds, "is_indexed": self.is_indexed}


def get_search_index_name(table: str, dialect: str) -> str:
    """The name of a table's search index."""
    return f"ix_{table}_search" if dialect == "postgresql" else f"{table}_search"


def get_unindexed_fact_name(table: str) -> str:
    """The fact that says up to which row a table is indexed, while a bulk load holds its index (SQLite)."""
    return f"search_held_{table}"


def has_search_index(conn: Conn) -> bool:
    """Whether the database has the trigram indexes; without them searching gets slow among many."""
    if not conn.info.get(_IS_INDEXED):  # kept with the connection
        names = [get_search_index_name(table.name, conn.dialect.name) for table in (users, memberships)]
        catalog = "pg_class WHERE relname" if conn.dialect.name == "postgresql" else "sqlite_master WHERE name"
        query = sa.text(f"SELECT count(*) FROM {catalog} IN (:first, :second)")
        found = conn.execute(query, {"first": names[0], "second": names[1]}).scalar_one()
        conn.info[_IS_INDEXED] = found == len(names)
    return bool(conn.info[_IS_INDEXED])


def can_use_index(conn: Conn) -> bool:
    """Whether the index can be asked; from here on the connection reads from where the system keeps the file (SQLite).

    Whom an index gives are all over the file: to copy a page of it for each of them takes half of a search.
    """
    if conn.dialect.name == "sqlite" and not conn.info.get(_IS_MAPPED):
        conn.exec_driver_sql(f"PRAGMA mmap_size={_MMAP_BYTES}")
        conn.info[_IS_MAPPED] = True
    return has_search_index(conn)


def create_postgresql_index(conn: Conn, table: str) -> None:
    """Make a table's index where pg_trgm is; nothing where it is not (see migrations.search)."""
    schema = conn.exec_driver_sql(_TRIGRAM_SCHEMA_SQL).scalar()
    if schema is None:
        return
    # What was written since the index was last put in order is read by every search: a megabyte, not four.
    text = INDEXED_TEXT_SQL["postgresql", table].format(row="")
    how = f"gin (({text}) {schema}.gin_trgm_ops) WITH (gin_pending_list_limit = 1024)"
    conn.exec_driver_sql(
        f"CREATE INDEX IF NOT EXISTS {get_search_index_name(table, 'postgresql')} ON {table} USING {how}"
    )


def build_search_params(
    conn: Conn, table: sa.Table, needles: Sequence[str], organization_id: str | None = None
) -> dict[str, Any]:
    """The parameters of `holds` and `narrowed`; `organization_id` only where its piece is looked for too."""
    ordered = sorted(needles, key=len, reverse=True)
    given: dict[str, Any] = {f"needle_{i}": needle for i, needle in enumerate(ordered)}
    parts = [select_index_term(needle) for needle in ordered[:_MAX_INDEX_TERMS]]
    piece = organization_id[-_ORGANIZATION_SUFFIX_LENGTH:] if organization_id else ""
    if conn.dialect.name == "postgresql":
        return given | {f"part_{i}": part for i, part in enumerate(parts)} | {"piece": piece}
    found = [trigram for it in (piece, *parts) for trigram in list_trigrams(it)]
    return given | {"matching": " AND ".join('"{}"'.format(it.replace('"', '""')) for it in dict.fromkeys(found))}


def build_match_conditions(dialect: str, table: sa.Table, count: int) -> list[sa.ColumnElement[bool]]:
    """That a row holds each of `count` needles."""
    find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
    return [find(table.c.search_text, sa.bindparam(f"needle_{i}", type_=sa.Text)) > 0 for i in range(count)]


def build_index_conditions(
    dialect: str, table: sa.Table, count: int, *, has_piece: bool = False
) -> list[sa.ColumnElement[bool]]:
    """That a row may hold them, by the index, which must be there; `has_piece`: and is of the organization."""
    row = f"{table.name}."
    if dialect == "postgresql":
        text: sa.ColumnElement[str] = sa.literal_column(
            f"({INDEXED_TEXT_SQL[dialect, table.name].format(row=row)})", sa.Text
        )
        names = [f"part_{i}" for i in range(min(count, _MAX_INDEX_TERMS))] + ["piece"] * has_piece
        return [text.like("%" + sa.bindparam(name, type_=sa.Text) + "%") for name in names]
    index = get_search_index_name(table.name, dialect)
    held = f"(SELECT CAST(value AS INTEGER) FROM instep_facts WHERE name = '{get_unindexed_fact_name(table.name)}')"
    matching = f"SELECT rowid FROM {index} WHERE {index} MATCH :matching"
    newest = f"SELECT rowid FROM {table.name} WHERE rowid > {held}"
    is_meant = sa.text(f"{row}rowid IN ({matching} UNION ALL {newest})")
    return [is_meant.bindparams(sa.bindparam("matching", type_=sa.Text))]  # type: ignore[list-item]


class SearchableList(NamedTuple, Generic[T]):
    """How a list of a table is walked: `read` gives so many rows of a part of it, of those that are asked for; `go` the
    place so many rows behind another, whoever is asked for, None where the list ends first.
    """

    table: sa.Table
    read: Callable[[SearchRange, int], list[T]]
    go: Callable[[SearchPosition | None, int], SearchPosition | None]


def find_matching_rows(
    conn: Conn, walk: SearchableList[T], needles: Sequence[str], given: Mapping[str, Any], part: SearchRange, limit: int
) -> list[T]:
    """The first `limit` rows of a part of a list that hold the needles, in the list's order.

    It is walked as far as that is cheap, and then the index is asked for the rest. `given`: what `looking_for` gave.
    """
    if not can_use_index(conn):
        return walk.read(part, limit)
    found: list[T] = []
    for rows, least in plan_scan_steps(conn, walk.table, needles, given):
        end = walk.go(part.after, rows)
        found += walk.read(part._replace(until=end), limit - len(found))
        if end is None or len(found) >= limit:
            return found
        part = part._replace(after=end)
        if len(found) < least:
            break
    return found + walk.read(part._replace(is_indexed=True), limit - len(found))


def plan_scan_steps(
    conn: Conn, table: sa.Table, needles: Sequence[str], given: Mapping[str, Any]
) -> Sequence[tuple[int, int]]:
    """How far to walk for these.

    SQLite counts whom the index knows, up to FEW, in a fraction of a millisecond. PostgreSQL can't without reading
    them; there one or two letters, or a single word of a-z, may be what many have; all else is taken for rare.
    """
    if conn.dialect.name == "sqlite":
        known = conn.execute(
            _build_count_query(get_search_index_name(table.name, "sqlite")), {"matching": given["matching"]}
        )
        return () if known.scalar_one() < SMALL_RESULT_SIZE else SCAN_STEPS
    is_short = all(it.startswith(" ") for it in needles)
    is_name = len(needles) == 1 and needles[0].isalpha() and needles[0].islower()
    return SCAN_STEPS if is_short or is_name else RARE_TERM_SCAN_STEPS


@lru_cache
def _build_count_query(index: str) -> sa.TextClause:
    return sa.text(
        f"SELECT count(*) FROM (SELECT 1 FROM {index} WHERE {index} MATCH :matching LIMIT {SMALL_RESULT_SIZE})"
    )


def defer_indexing(conn: Conn) -> None:
    """Rows that are new from here on are indexed later, many at once: ten times as fast (SQLite; else nothing)."""
    if conn.dialect.name != "sqlite" or not has_search_index(conn):
        return
    for table in (users.name, memberships.name):
        newest = f"SELECT '{get_unindexed_fact_name(table)}', coalesce(max(rowid), 0) FROM {table} WHERE true"
        conn.exec_driver_sql(f"INSERT INTO instep_facts (name, value) {newest} ON CONFLICT DO NOTHING")


def index_deferred_rows(conn: Conn, *, pending: int = 0) -> None:
    """Index what was held back in the tables where more than `pending` rows wait."""
    if conn.dialect.name != "sqlite" or not has_search_index(conn):
        return
    for table in (users.name, memberships.name):
        fact = {"name": get_unindexed_fact_name(table)}
        newest = f"(SELECT max(rowid) FROM {table})"
        waiting = f"SELECT CAST(value AS INTEGER), {newest} FROM instep_facts WHERE name = :name"
        row = conn.execute(sa.text(waiting), fact).first()
        if row is None or (row[1] or 0) - row[0] <= pending:
            continue
        text, index = INDEXED_TEXT_SQL["sqlite", table].format(row=""), get_search_index_name(table, "sqlite")
        rows = f"SELECT rowid, {text} FROM {table} WHERE rowid > :held"
        conn.execute(sa.text(f"INSERT INTO {index} (rowid, text) {rows}"), {"held": row[0]})
        conn.execute(sa.text("DELETE FROM instep_facts WHERE name = :name"), fact)
