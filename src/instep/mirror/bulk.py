"""Bulk writing for a first sync: what the mirror has never seen is inserted by the thousand; the rest is left.

Only the case that `identity.rules.decide` answers with "new" is written here: a row that is there already, in whatever
state, is never touched but handed back, to be decided by the law. So are people and memberships that someone of ours
may stand for (an unlinked person with the same address, a kept membership), those whose parent is not here, and people
who were invited to a local organization.
"""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import psycopg
import sqlalchemy as sa
from msgspec import Struct

from instep.identity.addresses import canonical
from instep.identity.events import Seen
from instep.identity.model import ClerkId, Key, Kind, Membership, Organization, User
from instep.kit.clock import now as clock_now
from instep.kit.db import Conn, DatabaseRefused, is_pooled
from instep.mirror import search
from instep.mirror.apply import names_of
from instep.mirror.joining import place_of
from instep.mirror.store import TABLES, find_known, find_unlinked
from instep.mirror.tables import organizations, users

Row = tuple[Any, ...]
ROWS = (1000, 50, 1)


"""Rows of one statement on SQLite: each statement costs as much as a row, and Python waits only between two."""


_USER = "id clerk_id email is_email_verified first_name last_name username image_url external_id public_metadata"


_USER += " is_banned is_deprovisioned"


_USER += " last_sign_in_at last_active_at sort_name search_text joined_at version digest changed_at"


_ORGANIZATION = "id clerk_id name slug image_url max_members public_metadata joined_at version digest changed_at"
_MEMBERSHIP = "id clerk_id organization user_ role joined_at version digest changed_at"
LONGEST = 2_600


"""Bytes of what an index of PostgreSQL's has to hold: it may be made only later, and would then fail for everyone."""


_INCOMING = "instep_incoming_"
_TYPES = {
    "is_email_verified": "boolean",
    "is_banned": "boolean",
    "is_deprovisioned": "boolean",
    "public_metadata": "jsonb",
    "max_members": "integer",
}


_TYPES |= dict.fromkeys(("last_sign_in_at", "last_active_at", "joined_at", "version", "changed_at"), "bigint")


_MEMBERS_FROM = """
INSERT INTO instep_memberships (id, clerk_id, organization_id, user_id, role, status, sort_name, search_text,
  joined_at, version, digest, changed_at)
{incoming} SELECT i.id, i.clerk_id, o.id, u.id, i.role,
  CASE WHEN u.is_banned THEN 'banned' WHEN u.is_deprovisioned THEN 'deprovisioned'
  WHEN NOT u.is_active THEN 'banned' ELSE 'active' END, u.sort_name, u.search_text, i.joined_at,
  i.version, i.digest, i.changed_at FROM {source}
WHERE u.gone_at IS NULL AND o.gone_at IS NULL AND NOT EXISTS (SELECT 1 FROM instep_memberships k
  WHERE k.user_id = u.id AND k.organization_id = o.id AND k.status <> 'removed')"""
_UNLESS_THERE = "ON CONFLICT DO NOTHING"
_KEEP = """
SELECT count(*) FROM (SELECT 1 FROM {table} WHERE clerk_id = ANY(%s) ORDER BY clerk_id FOR KEY SHARE) AS kept"""


class Ready(Struct, frozen=True, gc=False):
    """A piece of news with the row that it becomes where it is new: made ahead, so that a transaction is short."""

    news: Seen
    row: Row


def make_ready(news: Sequence[Seen], *, now: int) -> list[Ready]:
    """Rows for these news, in the same order. `now`: Unix milliseconds."""
    ids = _new_ids([it.key.kind for it in news])
    return [Ready(it, _ROWS[it.key.kind](id, it, now)) for id, it in zip(ids, news, strict=True)]


def insert_new(conn: Conn, ready: Sequence[Ready]) -> list[Seen]:
    """Insert what is new; gives back what was left, in the same order."""
    left: list[Seen] = []
    search.hold(conn)
    for kind in ("organization", "user", "membership"):
        of_kind = [it for it in ready if it.news.key.kind == kind]
        if of_kind:
            left += _insert(conn, kind, of_kind)
    search.release(conn, pending=search.PENDING)
    return left


def _insert(conn: Conn, kind: Kind, ready: Sequence[Ready]) -> list[Seen]:
    if kind == "user" and conn.dialect.name == "postgresql":
        _refuse_long(ready)
    left = _not_for_us(conn, ready) if kind == "user" else set()
    rows = {it.news.key.id: it.row for it in ready if it.news.key.id not in left}
    write = _copy if conn.dialect.name == "postgresql" else _insert_many
    if rows and write(conn, kind, list(rows.values())) != len(rows):
        known = find_known(conn, [Key(kind, ClerkId(id)) for id in rows], is_locking=False)
        ours = {row[0] for row in rows.values()}
        found = {key.id for key, it in known.items() if it.id in ours}
        left |= rows.keys() - found
    return [it.news for it in ready if it.news.key.id in left]


def _refuse_long(ready: Sequence[Ready]) -> None:
    if any(len((it.row[place] or "").encode()) > LONGEST for it in ready for place in _INDEXED):
        raise DatabaseRefused(f"The database refused the change: a name or an address of more than {LONGEST} bytes.")


def _not_for_us(conn: Conn, ready: Sequence[Ready]) -> set[str]:
    """People whom someone without a Clerk account may be, those that we made ourselves, and who is to join locally."""
    people = [it.news.entity for it in ready if isinstance(it.news.entity, User)]
    left: set[str] = {it.clerk_id for it in people if (it.external_id or "").startswith("usr_")}
    if _has_local(conn, organizations):
        left |= {it.clerk_id for it in people if place_of(it)}
    if _has_local(conn, users):
        unlinked = find_unlinked(conn, [it.email for it in people if it.email])
        left |= {it.clerk_id for it in people if canonical(it.email) in unlinked}
    return left


def _has_local(conn: Conn, table: sa.Table) -> bool:
    id = table.c.clerk_id  # in its order: of an index, and never of reading everyone to find nobody
    return conn.execute(sa.select(table.c.id).where(id.is_(None)).order_by(id).limit(1)).first() is not None


def _user_row(id: str, news: Seen, now: int) -> Row:
    user = news.entity
    assert isinstance(user, User)  # noqa: S101 (called for users alone)
    names = names_of(user.first_name, user.last_name, user.username, user.email, user.clerk_id)
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


def _organization_row(id: str, news: Seen, now: int) -> Row:
    organization = news.entity
    assert isinstance(organization, Organization)  # noqa: S101
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


def _membership_row(id: str, news: Seen, now: int) -> Row:
    it = news.entity
    assert isinstance(it, Membership)  # noqa: S101
    return (id, it.clerk_id, it.organization, it.user, it.role, it.joined_at, news.version, news.digest, now)


_ROWS: dict[Kind, Callable[[str, Seen, int], Row]] = {
    "user": _user_row,
    "organization": _organization_row,
    "membership": _membership_row,
}
_COLUMNS: dict[Kind, list[str]] = {
    "user": _USER.split(),
    "organization": _ORGANIZATION.split(),
    "membership": _MEMBERSHIP.split(),
}
_INDEXED = [_COLUMNS["user"].index(it) for it in ("email", "username", "sort_name")]
_PREFIXES: dict[Kind, str] = {"user": "usr", "organization": "ogn", "membership": "mbr"}


def _new_ids(kinds: Sequence[Kind]) -> list[str]:
    """Ids as `kit.ids` makes them, in order, for the price of one question for randomness."""
    time, chance = f"{clock_now():012x}", os.urandom(7 * len(kinds)).hex()
    tails = sorted(chance[place : place + 14] for place in range(0, len(chance), 14))
    return [f"{_PREFIXES[kind]}_{time}{tail}" for kind, tail in zip(kinds, tails, strict=True)]


def _copy(conn: Conn, kind: Kind, rows: Sequence[Row]) -> int:
    """PostgreSQL: COPY; gives how many rows were new.

    Straight into the table, or, for what must be joined to its parents, from a temporary table. Where one of them is
    there already all of them come again, each unless it is there: to look for every row first costs a tenth. In the
    order of Clerk's ids, as everybody inserts (see mirror.apply).
    """
    rows = sorted(rows, key=itemgetter(1))
    try:
        with conn.begin_nested():
            if kind != "membership":
                _copy_into(conn, TABLES[kind].name, kind, rows)
                return len(rows)
            return _copy_aside(conn, kind, rows, unless="")
    except (psycopg.Error, sa.exc.DBAPIError):  # whatever it is, it comes again below, where it is told as failures are
        return _copy_aside(conn, kind, rows, unless=_UNLESS_THERE)


def _copy_aside(conn: Conn, kind: Kind, rows: Sequence[Row], *, unless: str) -> int:
    incoming = f"{_INCOMING}{kind}"
    columns = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in _COLUMNS[kind])
    lasts = "DROP" if is_pooled(conn) else "DELETE ROWS"  # a pooler hands the server's connection on to strangers
    conn.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} ({columns}) ON COMMIT {lasts}")
    conn.exec_driver_sql(f"TRUNCATE {incoming}")
    try:
        _copy_into(conn, incoming, kind, rows)
    except psycopg.DataError as error:
        raise DatabaseRefused(f"The database refused the change: {error}") from error
    if kind == "membership":
        _keep_parents(conn, rows)
    return conn.exec_driver_sql(_move_in(kind, unless)).rowcount


def _keep_parents(conn: Conn, rows: Sequence[Row]) -> None:
    """Nobody calls them dead until the transaction ends; whoever is about to is waited for, and then seen.

    It is them who lock with `find_known` first, in this order: so none waits for another in a circle.
    """
    for table, column in ((users, "user_"), (organizations, "organization")):
        place = _COLUMNS["membership"].index(column)
        conn.exec_driver_sql(_KEEP.format(table=table.name), (list({row[place] for row in rows}),))


def _copy_into(conn: Conn, table: str, kind: Kind, rows: Sequence[Row]) -> None:
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(_COLUMNS[kind])}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _move_in(kind: Kind, unless: str) -> str:
    incoming = f"{_INCOMING}{kind}"
    if kind == "membership":
        joins = "JOIN instep_users u ON u.clerk_id = i.user_ JOIN instep_organizations o ON o.clerk_id = i.organization"
        return f"{_MEMBERS_FROM.format(incoming='', source=f'{incoming} i {joins}')} {unless}"
    names = ", ".join(_COLUMNS[kind])
    return f"INSERT INTO {TABLES[kind].name} ({names}) SELECT {names} FROM {incoming} {unless}"  # noqa: S608


def _insert_many(conn: Conn, kind: Kind, rows: Sequence[Row]) -> int:
    """SQLite: many rows a statement, which runs without a word to Python; gives how many were new."""
    new = start = 0
    for most in ROWS:
        while start + most <= len(rows):
            values = tuple(chain.from_iterable(rows[start : start + most]))
            new += conn.exec_driver_sql(_insert_rows(kind, most), values).rowcount
            start += most
    return new


@lru_cache
def _insert_rows(kind: Kind, count: int) -> str:
    names = _COLUMNS[kind]
    values = ", ".join([f"({', '.join('?' * len(names))})"] * count)
    if kind != "membership":
        return f"INSERT INTO {TABLES[kind].name} ({', '.join(names)}) VALUES {values} {_UNLESS_THERE}"  # noqa: S608
    joins = "CROSS JOIN instep_users u ON u.clerk_id = i.user_"
    joins += " CROSS JOIN instep_organizations o ON o.clerk_id = i.organization"
    incoming = f"WITH i ({', '.join(names)}) AS (VALUES {values})"
    return f"{_MEMBERS_FROM.format(incoming=incoming, source=f'i {joins}')} {_UNLESS_THERE}"
