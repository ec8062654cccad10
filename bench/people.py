"""Members by the million, by SQL: one statement a table, the same on SQLite and PostgreSQL; and who the i-th is."""

import sqlalchemy as sa

from bench.deliveries import FIRST_AT
from instep.core.db import Database
from instep.mirror import search
from instep.mirror.search import build_search_text
from instep.mirror.tables import memberships, users

# Names of syllables: 2,000 first names and 60,000 last ones, a few of them frequent (the first is everyone's 45th,
# the last everyone's 245th), whatever their place in the alphabet; spread over the ids, so that a page by name is no
# walk in the order of insertion.
SYLLABLES = "".join(one + two for one in "bdfghjklmnprstvz" for two in "aeiou")
FIRSTS, LASTS = 2_000, 60_000
SPREAD, OTHER_SPREAD = 7919, 104_729
DIGITS = 1_000_000_000

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"


def _place(spread: int, count: int) -> str:
    """Squared, so that the low ones are frequent."""
    one = f"((i * {spread} + 12345) % {{members}})"
    return f"({one} * {one} / {{members}} * {count} / {{members}})"


def _syllable(number: str) -> str:
    return f"substr('{SYLLABLES}', CAST(1 + 2 * (({number}) % 80) AS INTEGER), 2)"


_PEOPLE = f"""{_NUMBERS},
k(i, a, b) AS (SELECT i, {_place(SPREAD, FIRSTS)}, {_place(OTHER_SPREAD, LASTS)} FROM n),
p(i, f, l) AS (SELECT i, {_syllable("a * 37 + 40")} || {_syllable("a / 80 * 37 + a")},
  {_syllable("b * 37 + 40")} || {_syllable("b / 80")} || {_syllable("b / 6400 * 7 + b")} || 'n' FROM k)"""
_EMAIL = "f || '.' || l || (i % 97) || '@example.com'"
_TEXT = "'  ' || f || '  ' || l || '  ' || f || 'Q' || l || (i % 97) || 'XexampleQcom  ' || f || i"


def name_of(i: int, members: int) -> tuple[str, str]:
    """First and last name of the i-th of so many people, as the statements make them."""
    places = [(i * spread + 12345) % members for spread in (SPREAD, OTHER_SPREAD)]
    a, b = (it * it // members * n // members for it, n in zip(places, (FIRSTS, LASTS), strict=True))
    cut = [
        SYLLABLES[2 * (n % 80) :][:2] for n in (a * 37 + 40, a // 80 * 37 + a, b * 37 + 40, b // 80, b // 6400 * 7 + b)
    ]
    return "".join(cut[:2]), "".join(cut[2:]) + "n"


def email_of(i: int, members: int) -> str:
    """The address of the i-th of so many people."""
    first, last = name_of(i, members)
    return f"{first}.{last}{i % 97}@example.com"


def _padded(number: str, width: int = 9) -> str:
    zeros = "0" * (width - 9)
    return f"'{zeros}' || substr(CAST({DIGITS} + {number} AS TEXT), 2)"


def load(db: Database, members: int) -> None:
    """One organization with `members` members, and 999 with none. The database is new and nobody else uses it."""
    db.write_sync(_load, members)
    if not db.is_sqlite:  # SQLite stays without statistics, as it is where nobody makes any
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")
            conn.exec_driver_sql("CHECKPOINT")


def _load(conn: sa.Connection, members: int) -> None:
    resting = _rest(conn) if conn.dialect.name == "postgresql" else _drop_triggers(conn)
    search.defer_indexing(conn)

    def run(statement: str) -> None:
        conn.execute(sa.text(statement))

    run(
        _insert("instep_users", _PEOPLE, members) + f" SELECT 'usr_' || {_padded('i')}, 'user_' || {_padded('i', 27)},"
        f" {_EMAIL}, true, f, l, f || i, 'https://img.example.com/' || i, '{{}}', f || ' ' || l, {_TEXT},"
        f" {FIRST_AT} + i, {FIRST_AT} + i, {FIRST_AT} + i, 'bench', {FIRST_AT} FROM p"
    )
    run(
        _insert("instep_organizations", _NUMBERS, 1000)
        + f" SELECT 'ogn_' || {_padded('i')}, 'org_' || {_padded('i', 27)}, 'Firm ' || {_padded('i')},"
        f" 'firm-' || {_padded('i')}, '{{}}', {FIRST_AT}, 0, 'bench', {FIRST_AT} FROM n"
    )
    run(
        _insert("instep_memberships", _PEOPLE, members)
        + f" SELECT 'mbr_' || {_padded('i')}, 'orgmem_' || {_padded('i', 27)}, 'ogn_' || {_padded('0')},"
        f" 'usr_' || {_padded('i')}, CASE WHEN i % 100 = 0 THEN 'org:admin' ELSE 'org:member' END, 'active',"
        f" f || ' ' || l, {_TEXT}, {FIRST_AT} + i, {FIRST_AT} + i, 'bench', {FIRST_AT} FROM p"
    )
    run(
        "INSERT INTO instep_member_counts SELECT organization_id, status, role, count(*) FROM instep_memberships"
        " GROUP BY 1, 2, 3"
    )
    for statement in resting:
        run(statement)
    search.index_deferred_rows(conn)
    _check(conn, members)


def _check(conn: sa.Connection, members: int) -> None:
    """That the statements made whom `name_of` says, and that search will find them."""
    i = members // 3
    row = conn.execute(sa.select(users).order_by(users.c.joined_at).limit(1).offset(i)).one()
    names = (row.first_name, row.last_name)
    if names != name_of(i, members) or row.search_text != build_search_text((*names, row.email, row.username)):
        raise RuntimeError(f"the population is not what it should be: {row}")


_COLUMNS = {
    "instep_users": "id, clerk_id, email, is_email_verified, first_name, last_name, username, image_url,"
    " public_metadata, sort_name, search_text, joined_at, last_active_at, version, digest, changed_at",
    "instep_organizations": "id, clerk_id, name, slug, public_metadata, joined_at, version, digest, changed_at",
    "instep_memberships": "id, clerk_id, organization_id, user_id, role, status, sort_name, search_text, joined_at,"
    " version, digest, changed_at",
}


def _insert(table: str, source: str, count: int) -> str:
    """SQLite and PostgreSQL both take what is named before a SELECT."""
    return f"INSERT INTO {table} ({_COLUMNS[table]}) {source.format(count=count, members=count)}"


def _rest(conn: sa.Connection) -> list[str]:
    """Switch triggers and foreign keys off and take the indexes of search away, for speed; gives what brings all back.

    Meant for PostgreSQL.
    """
    names = [search.get_search_index_name(table.name, "postgresql") for table in (users, memberships)]
    query = sa.text("SELECT indexname, indexdef FROM pg_indexes WHERE indexname = ANY(:names)")
    indexes = conn.execute(query, {"names": names}).all()
    for name, _ in indexes:
        conn.exec_driver_sql(f"DROP INDEX {name}")
    conn.exec_driver_sql("ALTER TABLE instep_memberships DISABLE TRIGGER ALL")
    return ["ALTER TABLE instep_memberships ENABLE TRIGGER ALL", *(str(made) for _, made in indexes)]


def _drop_triggers(conn: sa.Connection) -> list[str]:
    found = conn.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'instep_memberships'"
    ).all()
    for name, _ in found:
        conn.exec_driver_sql(f"DROP TRIGGER {name}")
    return [str(sql) for _, sql in found]
