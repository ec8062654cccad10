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


"""Rows per statement on SQLite: a statement costs as much as a row, and other threads run between two."""


_USER_COLUMNS = (
    "id clerk_id email is_email_verified first_name last_name username image_url external_id public_metadata"
    " is_banned is_deprovisioned last_sign_in_at last_active_at"
    " sort_name search_text joined_at version digest changed_at"
)
_ORGANIZATION_COLUMNS = (
    "id clerk_id name slug image_url max_members public_metadata joined_at version digest changed_at"
)
_MEMBERSHIP_COLUMNS = "id clerk_id organization user_ role joined_at version digest changed_at"
MAX_INDEXED_BYTES = 2_600


"""Maximum bytes of an indexed value (PostgreSQL). A deferred index on a longer one would fail for all rows."""


_TEMP_TABLE_PREFIX = "instep_incoming_"
_COLUMN_TYPES = {
    "is_email_verified": "boolean",
    "is_banned": "boolean",
    "is_deprovisioned": "boolean",
    "public_metadata": "jsonb",
    "max_members": "integer",
    **dict.fromkeys(("last_sign_in_at", "last_active_at", "joined_at", "version", "changed_at"), "bigint"),
}
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
    """An observation with the row to insert if it is new, prepared ahead to keep transactions short."""

    observation: Observation
    row: RowTuple


def prepare_rows(observations: Sequence[Observation], *, now: int) -> list[PreparedRow]:
    """Build rows for these observations, in the same order. `now`: Unix milliseconds."""
    ids = _generate_ids([observation.key.kind for observation in observations])
    return [
        PreparedRow(observation, _ROW_BUILDERS[observation.key.kind](row_id, observation, now))
        for row_id, observation in zip(ids, observations, strict=True)
    ]


def insert_new_rows(conn: Conn, prepared: Sequence[PreparedRow]) -> list[Observation]:
    """Insert new rows; return the observations that were not inserted, in the same order."""
    left: list[Observation] = []
    search.defer_indexing(conn)
    for kind in ("organization", "user", "membership"):
        of_kind = [row for row in prepared if row.observation.key.kind == kind]
        if of_kind:
            left += _insert_rows_of_kind(conn, kind, of_kind)
    search.index_deferred_rows(conn, pending=search.MAX_UNINDEXED_ROWS)
    return left


def _insert_rows_of_kind(conn: Conn, kind: EntityKind, prepared: Sequence[PreparedRow]) -> list[Observation]:
    if kind == "user" and conn.dialect.name == "postgresql":
        _check_indexed_lengths(prepared)
    left = _find_ids_to_reconcile(conn, prepared) if kind == "user" else set()
    rows = {entry.observation.key.id: entry.row for entry in prepared if entry.observation.key.id not in left}
    write = _copy_rows if conn.dialect.name == "postgresql" else _insert_batches
    if rows and write(conn, kind, list(rows.values())) != len(rows):
        known = find_known_states(conn, [EntityKey(kind, ClerkId(clerk_id)) for clerk_id in rows], is_locking=False)
        new_ids = {row[0] for row in rows.values()}
        inserted = {key.id for key, state in known.items() if state.id in new_ids}
        left |= rows.keys() - inserted
    return [entry.observation for entry in prepared if entry.observation.key.id in left]


def _check_indexed_lengths(prepared: Sequence[PreparedRow]) -> None:
    values = (entry.row[position] for entry in prepared for position in _INDEXED_POSITIONS)
    if any(len((value or "").encode()) > MAX_INDEXED_BYTES for value in values):
        raise DatabaseRejectedError(
            f"The database rejected the change: a name or an address has more than {MAX_INDEXED_BYTES} bytes."
        )


def _find_ids_to_reconcile(conn: Conn, prepared: Sequence[PreparedRow]) -> set[str]:
    """Return users who may be local users, were created by us, or join local organizations."""
    entities = (entry.observation.entity for entry in prepared)
    new_users = [entity for entity in entities if isinstance(entity, ClerkUser)]
    left: set[str] = {user.clerk_id for user in new_users if (user.external_id or "").startswith("usr_")}
    if _has_local_rows(conn, organizations):
        left |= {user.clerk_id for user in new_users if parse_local_organization_grant(user)}
    if _has_local_rows(conn, users):
        unlinked = find_unlinked_user_ids(conn, [user.email for user in new_users if user.email])
        left |= {user.clerk_id for user in new_users if canonicalize_email(user.email) in unlinked}
    return left


def _has_local_rows(conn: Conn, table: sa.Table) -> bool:
    clerk_id = table.c.clerk_id  # ordered by it, so that its index is used instead of a scan of the table
    query = sa.select(table.c.id).where(clerk_id.is_(None)).order_by(clerk_id).limit(1)
    return conn.execute(query).first() is not None


def _build_user_row(row_id: str, observation: Observation, now: int) -> RowTuple:
    user = observation.entity
    assert isinstance(user, ClerkUser)  # noqa: S101 (called for users only)
    names = build_name_columns(user.first_name, user.last_name, user.username, user.email, user.clerk_id)
    return (
        row_id,
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
        observation.version,
        observation.digest,
        now,
    )


def _build_organization_row(row_id: str, observation: Observation, now: int) -> RowTuple:
    organization = observation.entity
    assert isinstance(organization, ClerkOrganization)  # noqa: S101
    return (
        row_id,
        organization.clerk_id,
        organization.name,
        organization.slug,
        organization.image_url,
        organization.max_members,
        bytes(organization.public_metadata).decode(),
        organization.joined_at,
        observation.version,
        observation.digest,
        now,
    )


def _build_membership_row(row_id: str, observation: Observation, now: int) -> RowTuple:
    membership = observation.entity
    assert isinstance(membership, ClerkMembership)  # noqa: S101
    return (
        row_id,
        membership.clerk_id,
        membership.organization,
        membership.user,
        membership.role,
        membership.joined_at,
        observation.version,
        observation.digest,
        now,
    )


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
_INDEXED_POSITIONS = [_COLUMNS["user"].index(name) for name in ("email", "username", "sort_name")]
_ID_PREFIXES: dict[EntityKind, str] = {"user": "usr", "organization": "ogn", "membership": "mbr"}


def _generate_ids(kinds: Sequence[EntityKind]) -> list[str]:
    """Return ordered ids in the format of `core.ids`, with one call for randomness."""
    time, entropy = f"{clock_now():012x}", os.urandom(7 * len(kinds)).hex()
    tails = sorted(entropy[start : start + 14] for start in range(0, len(entropy), 14))
    return [f"{_ID_PREFIXES[kind]}_{time}{tail}" for kind, tail in zip(kinds, tails, strict=True)]


def _copy_rows(conn: Conn, kind: EntityKind, rows: Sequence[RowTuple]) -> int:
    """Insert by COPY (PostgreSQL); return the number of new rows.

    Directly into the table, or via a temporary table for rows that must be joined with their parents. If one exists
    already, all are inserted again, each unless it exists: checking every row first costs a tenth. In the order of
    Clerk ids, as all writers insert (see mirror.apply).
    """
    rows = sorted(rows, key=itemgetter(1))
    try:
        with conn.begin_nested():
            if kind != "membership":
                _copy_into_table(conn, TABLES_BY_KIND[kind].name, kind, rows)
                return len(rows)
            return _copy_via_temp_table(conn, kind, rows, on_conflict="")
    except (psycopg.Error, sa.exc.DBAPIError):  # retried below, where errors are reported
        return _copy_via_temp_table(conn, kind, rows, on_conflict=_ON_CONFLICT_SQL)


def _copy_via_temp_table(conn: Conn, kind: EntityKind, rows: Sequence[RowTuple], *, on_conflict: str) -> int:
    incoming = f"{_TEMP_TABLE_PREFIX}{kind}"
    columns = ", ".join(f"{name} {_COLUMN_TYPES.get(name, 'text')}" for name in _COLUMNS[kind])
    # A pooler passes the server's connection on to other clients.
    on_commit = "DROP" if is_behind_connection_pooler(conn) else "DELETE ROWS"
    conn.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} ({columns}) ON COMMIT {on_commit}")
    conn.exec_driver_sql(f"TRUNCATE {incoming}")
    try:
        _copy_into_table(conn, incoming, kind, rows)
    except psycopg.DataError as error:
        raise DatabaseRejectedError(f"The database rejected the change: {error}") from error
    if kind == "membership":
        _lock_parents(conn, rows)
    return conn.exec_driver_sql(_build_insert_from_temp_table(kind, on_conflict)).rowcount


def _lock_parents(conn: Conn, rows: Sequence[RowTuple]) -> None:
    """Block deletions of the parents until the transaction ends, after waiting for those that have begun.

    Writers lock with `find_known_states` first, in this order, so that no deadlock occurs.
    """
    for table, column in ((users, "user_"), (organizations, "organization")):
        position = _COLUMNS["membership"].index(column)
        conn.exec_driver_sql(_LOCK_PARENTS_SQL.format(table=table.name), (list({row[position] for row in rows}),))


def _copy_into_table(conn: Conn, table: str, kind: EntityKind, rows: Sequence[RowTuple]) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(_COLUMNS[kind])}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _build_insert_from_temp_table(kind: EntityKind, on_conflict: str) -> str:
    incoming = f"{_TEMP_TABLE_PREFIX}{kind}"
    if kind == "membership":
        joins = "JOIN instep_users u ON u.clerk_id = i.user_ JOIN instep_organizations o ON o.clerk_id = i.organization"
        return f"{_INSERT_MEMBERSHIPS_SQL.format(incoming='', source=f'{incoming} i {joins}')} {on_conflict}"
    names = ", ".join(_COLUMNS[kind])
    return f"INSERT INTO {TABLES_BY_KIND[kind].name} ({names}) SELECT {names} FROM {incoming} {on_conflict}"  # noqa: S608


def _insert_batches(conn: Conn, kind: EntityKind, rows: Sequence[RowTuple]) -> int:
    """Insert many rows per statement (SQLite); return the number of new rows."""
    inserted = start = 0
    for count in ROWS_PER_STATEMENT:
        while start + count <= len(rows):
            values = tuple(chain.from_iterable(rows[start : start + count]))
            inserted += conn.exec_driver_sql(_build_insert_statement(kind, count), values).rowcount
            start += count
    return inserted


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
