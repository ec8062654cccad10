"""The writer of what Clerk says: what a ledger took, in a handful of statements. Our own word is in `standing`."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from instep.identity.addresses import other_form
from instep.identity.events import Gone, News, Seen
from instep.identity.model import Membership, Organization, User
from instep.kit.db import Conn, is_among, put_rows
from instep.kit.sought import searchable
from instep.mirror import standing
from instep.mirror.absence import absence_of, end_for_good, revive_members, take_back
from instep.mirror.joining import join_local
from instep.mirror.ledger import Entry, Ledger, open_ledger, parents_of
from instep.mirror.owned import keep_owned, owned_by_database
from instep.mirror.tables import memberships, organizations, users

Row = dict[str, Any]
LONGEST_SORTED = 400


"""Characters that a list is sorted by: with a role and two ids they are a row of an index (2,704 bytes, PostgreSQL)."""


_USER_KEPT = {"id", "joined_at"}
_MEMBERSHIP_UPDATED = ("role", "version", "digest", "changed_at")


def apply(conn: Conn, ledger: Ledger, *, now: int, wrote: Collection[str] = ()) -> set[str]:
    """Write what the ledger took; gives our ids of the organizations whose pages changed. `now`: Unix milliseconds.

    Fields that belong to the database keep their values, but for those that we `wrote` to Clerk just now.
    """
    owned = owned_by_database(conn, but=wrote)
    entries = ledger.entries()
    of = {kind: [it for it in entries if it.news.key.kind == kind] for kind in ("user", "organization", "membership")}
    take_back(conn, entries, now=now)
    _put_users(conn, of["user"], owned, now)
    _put_organizations(conn, of["organization"], owned, now)
    _move(conn, of["membership"], now)
    _put_memberships(conn, of["membership"], ledger, owned, now)
    gone = [(it, it.news.absent_at) for it in entries if isinstance(it.news, Gone)]
    for absent_at in sorted({at for _, at in gone}, key=str):
        _bury(conn, [it for it, at in gone if at == absent_at], absent_at, now)
    end_for_good(conn, [it.id for it, at in gone if it.was_gone and at is None and it.news.key.kind == "membership"])
    touched = {it.id for it in of["organization"]}
    touched |= _organizations_of(conn, [it.id for it in of["membership"]], memberships.c.id)
    ledger.joined = join_local(conn, ledger, now=now)
    touched |= {it.organization_id for it in ledger.joined}
    old_users = [it.id for it in of["user"] if not it.is_new]
    rename(conn, old_users)
    return touched | _organizations_of(conn, old_users, memberships.c.user_id)


def take_in(conn: Conn, news: Sequence[News], *, now: int, wrote: Collection[str] = ()) -> Ledger:
    """Decide news that were just read from Clerk, and write what won. `wrote`: as for `apply`."""
    ledger = open_ledger(conn, news)
    for it in news:
        ledger.take(it, is_read=True)
    apply(conn, ledger, now=now, wrote=wrote)
    return ledger


def _known(entries: Sequence[Entry]) -> list[str]:
    """Those of whom something is known here: not the new, and not what was only known to be absent."""
    return [it.id for it in entries if it.before is not None and (it.before.digest or not it.before.is_gone)]


def _names_of(row: Row) -> Row:
    return names_of(row["first_name"], row["last_name"], row["username"], row["email"], row["clerk_id"])


def _put(conn: Conn, table: sa.Table, rows: Sequence[Row], update: Sequence[str] = ()) -> None:
    """What is new in the order of Clerk's ids, as everybody inserts it: other writers know no id of ours."""
    put_rows(conn, table, rows, key="id", update=update, order="clerk_id")


def _put_users(conn: Conn, entries: Sequence[Entry], owned: frozenset[str], now: int) -> None:
    rows = [_user_row(it.news.entity) | _common(it, now) for it in entries if isinstance(it.news.entity, User)]
    if owned:
        rows = [row | _names_of(row) for row in keep_owned(conn, users, rows, owned, _known(entries))]
    new = {it.id for it in entries if it.is_new}
    if ours := [row for row in rows if row["id"] == row["external_id"] and row["id"] in new]:
        conn.execute(sa.insert(users), ours)  # fails where another transaction was faster, and is run again
        rows = [row for row in rows if row not in ours]
    _put(conn, users, rows, update=[name for name in rows[0] if name not in _USER_KEPT] if rows else ())
    unknown = [it for it in entries if it.is_new and isinstance(it.news, Gone)]
    blank = {"sort_name": "", "search_text": "", "is_active": False}
    _put(conn, users, [_tombstone(it, now) | blank for it in unknown])


def _put_organizations(conn: Conn, entries: Sequence[Entry], owned: frozenset[str], now: int) -> None:
    rows = [
        _organization_row(it.news.entity) | _common(it, now)
        for it in entries
        if isinstance(it.news.entity, Organization)
    ]
    rows = keep_owned(conn, organizations, rows, owned, _known(entries)) if owned else rows
    _put(conn, organizations, rows, update=[n for n in rows[0] if n not in _USER_KEPT] if rows else ())
    unknown = [it for it in entries if it.is_new and isinstance(it.news, Gone)]
    _put(conn, organizations, [_tombstone(it, now) | {"name": it.news.key.id} for it in unknown])


def _put_memberships(conn: Conn, entries: Sequence[Entry], ledger: Ledger, owned: frozenset[str], now: int) -> None:
    wanted = [it for it in entries if isinstance(it.news, Seen) or it.is_new]
    parents = {
        it.id: [ledger.known[k] for k in parents_of(it.news.entity)]  # a new one was taken with its parents
        for it in wanted
        if isinstance(it.news.entity, Membership)
    }
    people = _people(conn, [user.id for user, _ in parents.values()])
    rows, alive = [], []
    for it in wanted:
        if not isinstance(it.news.entity, Membership):
            continue
        user, organization = parents[it.id]
        is_dead = user.is_gone or organization.is_gone or isinstance(it.news, Gone)
        alive += [it.id] if it.was_gone and not is_dead else []
        sort_name, search_text, status = people[user.id]
        rows.append(
            _common(it, now)
            | {
                "organization_id": organization.id,
                "user_id": user.id,
                "role": it.news.entity.role,
                "status": "removed" if is_dead else status,
                "gone_at": now if is_dead else None,
                "absent_at": absence_of(it, (user, organization)) if is_dead else None,
                "sort_name": sort_name,
                "search_text": search_text,
            }
        )
    ledger.statuses |= {row["id"]: row["status"] for row in rows if row["id"] not in ledger.statuses}
    _put(conn, memberships, rows, update=[it for it in _MEMBERSHIP_UPDATED if it not in owned])
    revive_members(conn, alive, now=now)


def _move(conn: Conn, entries: Sequence[Entry], now: int) -> None:
    """A person who was kept in our list is a member in Clerk again: the row gets the new id, the old one a grave."""
    for it in entries:
        if it.replaces:
            standing.move(conn, it.id, to=it.news.key.id, graves=it.replaces, now=now)


def _common(entry: Entry, now: int) -> Row:
    news, entity = entry.news, entry.news.entity
    return {
        "id": entry.id,
        "clerk_id": news.key.id,
        "joined_at": entity.joined_at if entity else now,
        "version": news.version if isinstance(news, Seen) else 0,
        "digest": news.digest if isinstance(news, Seen) else "",
        "changed_at": now,
    }


def _tombstone(entry: Entry, now: int) -> Row:
    absent_at = entry.news.absent_at if isinstance(entry.news, Gone) else None
    return _common(entry, now) | {"gone_at": now, "absent_at": absent_at, "deleted_at": now}


def _user_row(user: User) -> Row:
    return {
        **names_of(user.first_name, user.last_name, user.username, user.email, user.clerk_id),
        "email": user.email,
        "is_email_verified": user.is_email_verified,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "username": user.username,
        "image_url": user.image_url,
        "external_id": user.external_id,
        "public_metadata": user.public_metadata,
        "is_banned": user.is_banned,
        "is_deprovisioned": user.is_deprovisioned,
        "last_sign_in_at": user.last_sign_in_at,
        "last_active_at": user.last_active_at,
    }


def names_of(first: str | None, last: str | None, username: str | None, email: str | None, id: str) -> dict[str, str]:
    """What a person is listed by and found by."""
    name = f"{first} {last}" if first and last else first or last or ""
    return {
        "sort_name": (name or username or email or id).casefold()[:LONGEST_SORTED],
        "search_text": searchable((name, email, other_form(email), username)),
    }


def _organization_row(organization: Organization) -> Row:
    return {
        "name": organization.name,
        "slug": organization.slug,
        "image_url": organization.image_url,
        "max_members": organization.max_members,
        "public_metadata": organization.public_metadata,
    }


def _bury(conn: Conn, gone: Sequence[Entry], absent_at: int | None, now: int) -> None:
    """Mark the dead; whoever belonged to a dead person or organization belongs no more."""
    dead = {kind: [it.id for it in gone if it.news.key.kind == kind] for kind in ("user", "organization", "membership")}
    for table, ids in ((users, dead["user"]), (organizations, dead["organization"])):
        if ids:
            marks: dict[str, Any] = {name: sa.func.coalesce(table.c[name], now) for name in ("gone_at", "deleted_at")}
            marks |= {"absent_at": absent_at, "changed_at": now}
            inactive = {"is_active": False} if table is users else {}
            conn.execute(sa.update(table).where(is_among(conn, table.c.id, ids)).values(**marks, **inactive))
    for column, ids in (
        (memberships.c.id, dead["membership"]),
        (memberships.c.user_id, dead["user"]),
        (memberships.c.organization_id, dead["organization"]),
    ):
        if ids:
            living = sa.update(memberships).where(is_among(conn, column, ids), memberships.c.gone_at.is_(None))
            status = standing.STATUS_WHEN_GONE if column is memberships.c.id else "removed"
            conn.execute(living.values(status=status, gone_at=now, absent_at=absent_at, changed_at=now))


def rename(conn: Conn, user_ids: Sequence[str]) -> None:
    """Members are listed and found by their person's name: carry a changed one over."""
    if not user_ids:
        return
    differs = sa.or_(memberships.c.sort_name != users.c.sort_name, memberships.c.search_text != users.c.search_text)
    conn.execute(
        sa.update(memberships)
        .where(memberships.c.user_id == users.c.id, is_among(conn, memberships.c.user_id, user_ids), differs)
        .values(sort_name=users.c.sort_name, search_text=users.c.search_text)
    )


def _people(conn: Conn, user_ids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return the name, the search text and the status of a member for each of these people."""
    if not user_ids:
        return {}
    columns = (users.c.id, users.c.sort_name, users.c.search_text, standing.STATUS_OF_USER)
    query = sa.select(*columns).where(is_among(conn, users.c.id, user_ids))
    return {id: (sort_name, search_text, status) for id, sort_name, search_text, status in conn.execute(query)}


def _organizations_of(conn: Conn, ids: Sequence[str], column: sa.Column[str]) -> set[str]:
    if not ids:
        return set()
    query = sa.select(memberships.c.organization_id).where(is_among(conn, column, ids)).distinct()
    return {id for (id,) in conn.execute(query)}
