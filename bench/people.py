"""Members by the million, by SQL: one statement a table, the same on SQLite and PostgreSQL."""

import sqlalchemy as sa

from bench.deliveries import FIRST_AT
from instep.kit.db import Db

# Names are spread over the ids, so that a page by name is no walk in the order of insertion.
SPREAD = 7919
DIGITS = 1_000_000_000

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"


def _padded(number: str, width: int = 9) -> str:
    zeros = "0" * (width - 9)
    return f"'{zeros}' || substr(CAST({DIGITS} + {number} AS TEXT), 2)"


def load(db: Db, members: int) -> None:
    """One organization with `members` members, and 999 with none. The database is new and nobody else uses it."""
    db.writing(_load, members)
    if not db.is_sqlite:  # SQLite stays without statistics, as it is where nobody makes any
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")
            conn.exec_driver_sql("CHECKPOINT")


def _load(conn: sa.Connection, members: int) -> None:
    is_postgres = conn.dialect.name == "postgresql"
    resting = _rest(conn) if is_postgres else _drop_triggers(conn)
    name = _padded(f"((i * {SPREAD}) % {members})")

    def run(statement: str) -> None:
        conn.execute(sa.text(statement))

    run(
        _insert("instep_users", members) + f" SELECT 'usr_' || {_padded('i')}, 'user_' || {_padded('i', 27)},"
        f" 'person' || {name} || '@example.com', true,"
        f" 'First' || {name}, 'Last' || {name}, 'person' || {name}, 'https://img.example.com/' || i, '{{}}',"
        f" 'first' || {name} || ' last' || {name},"
        f" 'first' || {name} || ' last' || {name} || ' person' || {name} || '@example.com person' || {name},"
        f" {FIRST_AT} + i, {FIRST_AT} + i, {FIRST_AT} + i, 'bench', {FIRST_AT} FROM n"
    )
    run(
        _insert("instep_organizations", 1000)
        + f" SELECT 'ogn_' || {_padded('i')}, 'org_' || {_padded('i', 27)}, 'Firm ' || {_padded('i')},"
        f" 'firm-' || {_padded('i')}, '{{}}', {FIRST_AT}, 0, 'bench', {FIRST_AT} FROM n"
    )
    run(
        _insert("instep_memberships", members)
        + f" SELECT 'mbr_' || {_padded('i')}, 'orgmem_' || {_padded('i', 27)}, 'ogn_' || {_padded('0')},"
        f" 'usr_' || {_padded('i')}, CASE WHEN i % 100 = 0 THEN 'org:admin' ELSE 'org:member' END, 'active',"
        f" 'first' || {name} || ' last' || {name},"
        f" 'first' || {name} || ' last' || {name} || ' person' || {name} || '@example.com person' || {name},"
        f" {FIRST_AT} + i, {FIRST_AT} + i, 'bench', {FIRST_AT} FROM n"
    )
    run(
        "INSERT INTO instep_member_counts SELECT organization_id, status, role, count(*) FROM instep_memberships"
        " GROUP BY 1, 2, 3"
    )
    for statement in resting:
        run(statement)


_COLUMNS = {
    "instep_users": "id, clerk_id, email, is_email_verified, first_name, last_name, username, image_url,"
    " public_metadata, sort_name, search_text, joined_at, last_active_at, version, digest, changed_at",
    "instep_organizations": "id, clerk_id, name, slug, public_metadata, joined_at, version, digest, changed_at",
    "instep_memberships": "id, clerk_id, organization_id, user_id, role, status, sort_name, search_text, joined_at,"
    " version, digest, changed_at",
}


def _insert(table: str, count: int) -> str:
    return f"INSERT INTO {table} ({_COLUMNS[table]}) {_NUMBERS.format(count=count)}"


def _rest(conn: sa.Connection) -> list[str]:
    """Switch PostgreSQL's triggers and foreign keys off, for speed; gives what switches them on."""
    conn.exec_driver_sql("ALTER TABLE instep_memberships DISABLE TRIGGER ALL")
    return ["ALTER TABLE instep_memberships ENABLE TRIGGER ALL"]


def _drop_triggers(conn: sa.Connection) -> list[str]:
    found = conn.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'instep_memberships'"
    ).all()
    for name, _ in found:
        conn.exec_driver_sql(f"DROP TRIGGER {name}")
    return [str(sql) for _, sql in found]
