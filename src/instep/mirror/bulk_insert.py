"""Bulk insert of new rows during a backfill; existing rows are returned for reconciliation."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import psycopg
import sqlalchemy as sa
from msgspec import Struct

from instep.core.clock import now as clock_now
from instep.core.db import Conn, is_behind_connection_pooler
from instep.core.db_errors import DatabaseRejectedError
from instep.domain.emails import canonicalize_email
from instep.domain.events import Observation
from instep.domain.models import ClerkId, ClerkMembership, ClerkOrganization, ClerkUser, EntityKey, EntityKind
from instep.mirror import search
from instep.mirror.apply import build_name_columns, parse_local_organization_grant
from instep.mirror.repository import TABLES_BY_KIND, find_known_states, find_unlinked_user_ids
from instep.mirror.tables import organizations, users

RowTuple = tuple[Any, ...]
ROWS_PER_STATEMENT = (1000, 50, 1)


"""Rows of one statement on SQLite: each statement costs as much as a row, and Python waits only between two."""


_USER_COLUMNS = (
    "id clerk_id email is_email_verified first_name last_name username image_url external_id public_metadata"
)


_USER_COLUMNS += " is_banned is_deprovisioned"


_USER_COLUMNS += " last_sign_in_at last_active_at sort_name search_text joined_at version digest changed_at"


_ORGANIZATION_COLUMNS = (
    "id clerk_id name slug image_url max_members public_metadata joined_at version digest changed_at"
)
_MEMBERSHIP_COLUMNS = "id clerk_id organization user_ role joined_at version digest changed_at"
MAX_INDEXED_BYTES = 2_600


"""Bytes of what an index of PostgreSQL's has to hold: it may be made only later, and would then fail for everyone."""


_TEMP_TABLE_PREFIX = "instep_incoming_"
_COLUMN_TYPES = {
    "is_email_verified": "boolean",
    "is_banned": "boolean",
    "is_deprovisioned": "boolean",
    "public_metadata": "jsonb",
    "max_members": "integer",
}


_COLUMN_TYPES |= dict.fromkeys(("last_sign_in_at", "last_active_at", "joined_at", "version", "changed_at"), "bigint")


_INSERT_MEMBERSHIPS_SQL = """
INSERT INTO instep_memberships (id, clerk_id, organization_id, user_id, role, status, sort_name, search_text,
  joined_at, version, digest, changed_at)
{incoming} SELECT i.id, i.clerk_id, o.id, u.id, i.role,
  CASE WHEN u.is_banned THEN 'banned' WHEN u.is_deprovisioned THEN 'deprovisioned'
  WHEN NOT u.is_active THEN 'banned' ELSE 'active' END, u.sort_name, u.search_text, i.joined_at,
  i.version, i.digest, i.changed_at FROM {source}
WHERE u.gone_at IS NULL AND o.gone_at IS NULL AND NOT EXISTS (SELECT 1 FROM instep_memberships k
  WHERE k.user_id = u.id AND k.organization_id = o.id AND k.status <> 'removed')"""
_ON_CONFLICT_SQL = "ON CONFLICT DO NOTHING"
_LOCK_PARENTS_SQL = """
SELECT count(*) FROM (SELECT 1 FROM {table} WHERE clerk_id = ANY(%s) ORDER BY clerk_id FOR KEY SHARE) AS kept"""


class PreparedRow(Struct, frozen=True, gc=False):
    """A piece of news with the row that it becomes where it is new: made ahead, so that a transaction is short."""

    news: Observation
    row: RowTuple


def prepare_rows(news: Sequence[Observation], *, now: int) -> list[PreparedRow]:
    """Rows for these news, in the same order. `now`: Unix milliseconds."""
    ids = _generate_ids([it.key.kind for it in news])
    return [PreparedRow(it, _ROW_BUILDERS[it.key.kind](id, it, now)) for id, it in zip(ids, news, strict=True)]


def insert_new_rows(conn: Conn, ready: Sequence[PreparedRow]) -> list[Observation]:
    """Insert what is new; gives back what was left, in the same order."""
    left: list[Observation] = []
    search.defer_indexing(conn)
    for kind in ("organization", "user", "membership"):
        of_kind = [it for it in ready if it.news.key.kind == kind]
        if of_kind:
            left += _insert_rows_of_kind(conn, kind, of_kind)
    search.index_deferred_rows(conn, pending=search.MAX_UNINDEXED_ROWS)
    return left


def _insert_rows_of_kind(conn: Conn, kind: EntityKind, ready: Sequence[PreparedRow]) -> list[Observation]:
    if kind == "user" and conn.dialect.name == "postgresql":
        _check_indexed_lengths(ready)
    left = _find_ids_to_reconcile(conn, ready) if kind == "user" else set()
    rows = {it.news.key.id: it.row for it in ready if it.news.key.id not in left}
    write = _copy_rows if conn.dialect.name == "postgresql" else _insert_batches
    if rows and write(conn, kind, list(rows.values())) != len(rows):
        known = find_known_states(conn, [EntityKey(kind, ClerkId(id)) for id in rows], is_locking=False)
        ours = {row[0] for row in rows.values()}
        found = {key.id for key, it in known.items() if it.id in ours}
        left |= rows.keys() - found
    return [it.news for it in ready if it.news.key.id in left]


def _check_indexed_lengths(ready: Sequence[PreparedRow]) -> None:
    if any(len((it.row[place] or "").encode()) > MAX_INDEXED_BYTES for it in ready for place in _INDEXED_POSITIONS):
        raise DatabaseRejectedError(
            f"The database refused the change: a name or an address of more than {MAX_INDEXED_BYTES} bytes."
        )


def _find_ids_to_reconcile(conn: Conn, ready: Sequence[PreparedRow]) -> set[str]:
    """People whom someone without a Clerk account may be, those that we made ourselves, and who is to join locally."""
    people = [it.news.entity for it in ready if isinstance(it.news.entity, ClerkUser)]
    left: set[str] = {it.clerk_id for it in people if (it.external_id or "").startswith("usr_")}
    if _has_local_rows(conn, organizations):
        left |= {it.clerk_id for it in people if parse_local_organization_grant(it)}
    if _has_local_rows(conn, users):
        unlinked = find_unlinked_user_ids(conn, [it.email for it in people if it.email])
        left |= {it.clerk_id for it in people if canonicalize_email(it.email) in unlinked}
    return left


def _has_local_rows(conn: Conn, table: sa.Table) -> bool:
    id = table.c.clerk_id  # in its order: of an index, and never of reading everyone to find nobody
    return conn.execute(sa.select(table.c.id).where(id.is_(None)).order_by(id).limit(1)).first() is not None


def _build_user_row(id: str, news: Observation, now: int) -> RowTuple:
    user = news.entity
    assert isinstance(user, ClerkUser)  # noqa: S101 (called for users alone)
    names = build_name_columns(user.first_name, user.last_name, user.username, user.email, user.clerk_id)
    return (
        id,
        user.clerk_id,
        user.email,
        user.is_email_verified,
        user.first_name,
        user.last_name,
        user.username,
        user.image_url,
        user.external_id,
        bytes(user.public_metadata).decode(),
        user.is_banned,
        user.is_deprovisioned,
        user.last_sign_in_at,
        user.last_active_at,
        names["sort_name"],
        names["search_text"],
        user.joined_at,
        news.version,
        news.digest,
        now,
    )


def _build_organization_row(id: str, news: Observation, now: int) -> RowTuple:
    organization = news.entity
    assert isinstance(organization, ClerkOrganization)  # noqa: S101
    return (
        id,
        organization.clerk_id,
        organization.name,
        organization.slug,
        organization.image_url,
        organization.max_members,
        bytes(organization.public_metadata).decode(),
        organization.joined_at,
        news.version,
        news.digest,
        now,
    )


def _build_membership_row(id: str, news: Observation, now: int) -> RowTuple:
    it = news.entity
    assert isinstance(it, ClerkMembership)  # noqa: S101
    return (id, it.clerk_id, it.organization, it.user, it.role, it.joined_at, news.version, news.digest, now)


_ROW_BUILDERS: dict[EntityKind, Callable[[str, Observation, int], RowTuple]] = {
    "user": _build_user_row,
    "organization": _build_organization_row,
    "membership": _build_membership_row,
}
_COLUMNS: dict[EntityKind, list[str]] = {
    "user": _USER_COLUMNS.split(),
    "organization": _ORGANIZATION_COLUMNS.split(),
    "membership": _MEMBERSHIP_COLUMNS.split(),
}
_INDEXED_POSITIONS = [_COLUMNS["user"].index(it) for it in ("email", "username", "sort_name")]
_ID_PREFIXES: dict[EntityKind, str] = {"user": "usr", "organization": "ogn", "membership": "mbr"}


def _generate_ids(kinds: Sequence[EntityKind]) -> list[str]:
    """Ids as `kit.ids` makes them, in order, for the price of one question for randomness."""
    time, chance = f"{clock_now():012x}", os.urandom(7 * len(kinds)).hex()
    tails = sorted(chance[place : place + 14] for place in range(0, len(chance), 14))
    return [f"{_ID_PREFIXES[kind]}_{time}{tail}" for kind, tail in zip(kinds, tails, strict=True)]


def _copy_rows(conn: Conn, kind: EntityKind, rows: Sequence[RowTuple]) -> int:
    """PostgreSQL: COPY; gives how many rows were new.

    Straight into the table, or, for what must be joined to its parents, from a temporary table. Where one of them is
    there already all of them come again, each unless it is there: to look for every row first costs a tenth. In the
    order of Clerk's ids, as everybody inserts (see mirror.apply).
    """
    rows = sorted(rows, key=itemgetter(1))
    try:
        with conn.begin_nested():
            if kind != "membership":
                _copy_into_table(conn, TABLES_BY_KIND[kind].name, kind, rows)
                return len(rows)
            return _copy_via_temp_table(conn, kind, rows, unless="")
    except (psycopg.Error, sa.exc.DBAPIError):  # whatever it is, it comes again below, where it is told as failures are
        return _copy_via_temp_table(conn, kind, rows, unless=_ON_CONFLICT_SQL)


def _copy_via_temp_table(conn: Conn, kind: EntityKind, rows: Sequence[RowTuple], *, unless: str) -> int:
    incoming = f"{_TEMP_TABLE_PREFIX}{kind}"
    columns = ", ".join(f"{name} {_COLUMN_TYPES.get(name, 'text')}" for name in _COLUMNS[kind])
    lasts = (
        "DROP" if is_behind_connection_pooler(conn) else "DELETE ROWS"
    )  # a pooler hands the server's connection on to strangers
    conn.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} ({columns}) ON COMMIT {lasts}")
    conn.exec_driver_sql(f"TRUNCATE {incoming}")
    try:
        _copy_into_table(conn, incoming, kind, rows)
    except psycopg.DataError as error:
        raise DatabaseRejectedError(f"The database refused the change: {error}") from error
    if kind == "membership":
        _lock_parents(conn, rows)
    return conn.exec_driver_sql(_build_insert_from_temp_table(kind, unless)).rowcount


def _lock_parents(conn: Conn, rows: Sequence[RowTuple]) -> None:
    """Nobody calls them dead until the transaction ends; whoever is about to is waited for, and then seen.

    It is them who lock with `find_known` first, in this order: so none waits for another in a circle.
    """
    for table, column in ((users, "user_"), (organizations, "organization")):
        place = _COLUMNS["membership"].index(column)
        conn.exec_driver_sql(_LOCK_PARENTS_SQL.format(table=table.name), (list({row[place] for row in rows}),))


def _copy_into_table(conn: Conn, table: str, kind: EntityKind, rows: Sequence[RowTuple]) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(_COLUMNS[kind])}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _build_insert_from_temp_table(kind: EntityKind, unless: str) -> str:
    incoming = f"{_TEMP_TABLE_PREFIX}{kind}"
    if kind == "membership":
        joins = "JOIN instep_users u ON u.clerk_id = i.user_ JOIN instep_organizations o ON o.clerk_id = i.organization"
        return f"{_INSERT_MEMBERSHIPS_SQL.format(incoming='', source=f'{incoming} i {joins}')} {unless}"
    names = ", ".join(_COLUMNS[kind])
    return f"INSERT INTO {TABLES_BY_KIND[kind].name} ({names}) SELECT {names} FROM {incoming} {unless}"  # noqa: S608


def _insert_batches(conn: Conn, kind: EntityKind, rows: Sequence[RowTuple]) -> int:
    """SQLite: many rows a statement, which runs without a word to Python; gives how many were new."""
    new = start = 0
    for most in ROWS_PER_STATEMENT:
        while start + most <= len(rows):
            values = tuple(chain.from_iterable(rows[start : start + most]))
            new += conn.exec_driver_sql(_build_insert_statement(kind, most), values).rowcount
            start += most
    return new


@lru_cache
def _build_insert_statement(kind: EntityKind, count: int) -> str:
    names = _COLUMNS[kind]
    values = ", ".join([f"({', '.join('?' * len(names))})"] * count)
    if kind != "membership":
        return f"INSERT INTO {TABLES_BY_KIND[kind].name} ({', '.join(names)}) VALUES {values} {_ON_CONFLICT_SQL}"  # noqa: S608
    joins = "CROSS JOIN instep_users u ON u.clerk_id = i.user_"
    joins += " CROSS JOIN instep_organizations o ON o.clerk_id = i.organization"
    incoming = f"WITH i ({', '.join(names)}) AS (VALUES {values})"
    return f"{_INSERT_MEMBERSHIPS_SQL.format(incoming=incoming, source=f'i {joins}')} {_ON_CONFLICT_SQL}"
