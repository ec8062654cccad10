"""Write a unit of work: upsert rows, mark or revive tombstones, create local memberships."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from instep.core.db import Conn
from instep.core.ids import new_id
from instep.core.sql import is_one_of, upsert_rows
from instep.domain.emails import find_alternate_form
from instep.domain.events import EntityState, Observation, Tombstone
from instep.domain.models import ClerkMembership, ClerkOrganization, ClerkUser
from instep.domain.reconcile import MirroredState
from instep.mirror import membership_status
from instep.mirror.membership_status import STATUS_FROM_USER, STATUS_FROM_USER_SUBQUERY
from instep.mirror.repository import get_owned_fields, keep_owned_values
from instep.mirror.search_text import build_search_text
from instep.mirror.tables import memberships, organizations, users
from instep.mirror.unit_of_work import LocalMembership, PendingWrite, UnitOfWork, get_parent_keys, open_unit_of_work

m = memberships.c
_REVIVED_VALUES: dict[Any, Any] = {
    "status": sa.case((m.deactivated_at.is_not(None), "deactivated"), else_=STATUS_FROM_USER_SUBQUERY),
    "gone_at": None,
    "absent_at": None,
}


def revive_or_confirm(conn: Conn, entries: Sequence[PendingWrite], *, now: int) -> None:
    """Before these are written: what was dead by an absence alone lives again, or stays dead by Clerk's word."""
    for it in entries:
        if not it.was_deleted or it.before is None or it.news.key.kind == "membership":
            continue
        table = users if it.news.key.kind == "user" else organizations
        if isinstance(it.news, Observation):
            _revive(conn, table, it, now)
            _revive_memberships_of(conn, table, it.before, now)
        else:
            _confirm_deletion(conn, table, it.before)


def revive_memberships(conn: Conn, ids: Sequence[str], *, now: int) -> None:
    """These memberships (our ids) are what they were before a reading did not find them."""
    if ids:
        conn.execute(sa.update(memberships).where(is_one_of(conn, m.id, ids)).values(**_REVIVED_VALUES, changed_at=now))


def confirm_deletions(conn: Conn, ids: Sequence[str]) -> None:
    """Clerk says of these memberships (our ids), which had only not been found, that they are over."""
    if ids:
        conn.execute(sa.update(memberships).where(is_one_of(conn, m.id, ids)).values(absent_at=None))


def get_absent_at(entry: PendingWrite, parents: Sequence[MirroredState]) -> int | None:
    """The absence that a dead membership is dead by; None where Clerk said so, of it or of one of its parents."""
    if not isinstance(entry.news, Observation):
        return entry.news.absent_at
    dead = [it.absent_at for it in parents if it.is_deleted]
    return None if None in dead else max(it for it in dead if it is not None)


def _revive(conn: Conn, table: sa.Table, entry: PendingWrite, now: int) -> None:
    """Whoever was deleted here by our own word before stays deleted, and whoever was deactivated stays so."""
    c, entity = table.c, entry.news.entity
    is_ours = sa.and_(c.deleted_at.is_not(None), c.deleted_at != c.gone_at)
    values: dict[str, Any] = {"gone_at": None, "absent_at": None, "deleted_at": sa.case((is_ours, c.deleted_at))}
    if entity is not None and not isinstance(entity, ClerkMembership) and not (entry.before and entry.before.digest):
        values["joined_at"] = entity.joined_at  # nothing was known of it but that it was not there
    if table is users:
        values["is_active"] = sa.and_(sa.not_(sa.func.coalesce(is_ours, sa.false())), c.deactivated_at.is_(None))
    conn.execute(sa.update(table).where(c.id == entry.id).values(**values))


def _revive_memberships_of(conn: Conn, table: sa.Table, before: MirroredState, now: int) -> None:
    """Memberships that ended with this absence live again; where the other parent is dead, they are dead by that."""
    column, other, of_other = (
        (m.user_id, organizations, m.organization_id) if table is users else (m.organization_id, users, m.user_id)
    )
    theirs = sa.and_(column == before.id, m.absent_at == before.absent_at)
    its_other = sa.select(other.c.absent_at).where(other.c.id == of_other)
    is_other_alive = sa.exists(its_other.where(other.c.gone_at.is_(None)))
    conn.execute(sa.update(memberships).where(theirs, is_other_alive).values(**_REVIVED_VALUES, changed_at=now))
    conn.execute(sa.update(memberships).where(theirs).values(absent_at=its_other.scalar_subquery()))


def _confirm_deletion(conn: Conn, table: sa.Table, before: MirroredState) -> None:
    column = m.user_id if table is users else m.organization_id
    conn.execute(sa.update(table).where(table.c.id == before.id).values(absent_at=None))
    theirs = sa.and_(column == before.id, m.absent_at == before.absent_at)
    conn.execute(sa.update(memberships).where(theirs).values(absent_at=None))


RowValues = dict[str, Any]
MAX_SORT_NAME_LENGTH = 400


"""Characters that a list is sorted by: with a role and two ids they are a row of an index (2,704 bytes, PostgreSQL)."""


_IMMUTABLE_COLUMNS = {"id", "joined_at"}
_UPDATED_MEMBERSHIP_COLUMNS = ("role", "version", "digest", "changed_at")


def apply_unit_of_work(conn: Conn, ledger: UnitOfWork, *, now: int, wrote: Collection[str] = ()) -> set[str]:
    """Write what the ledger took; gives our ids of the organizations whose pages changed. `now`: Unix milliseconds.

    Fields that belong to the database keep their values, but for those that we `wrote` to Clerk just now.
    """
    owned = get_owned_fields(conn, but=wrote)
    entries = ledger.entries()
    of = {kind: [it for it in entries if it.news.key.kind == kind] for kind in ("user", "organization", "membership")}
    revive_or_confirm(conn, entries, now=now)
    _upsert_users(conn, of["user"], owned, now)
    _upsert_organizations(conn, of["organization"], owned, now)
    _relink_memberships(conn, of["membership"], now)
    _upsert_memberships(conn, of["membership"], ledger, owned, now)
    gone = [(it, it.news.absent_at) for it in entries if isinstance(it.news, Tombstone)]
    for absent_at in sorted({at for _, at in gone}, key=str):
        _mark_deleted(conn, [it for it, at in gone if at == absent_at], absent_at, now)
    confirm_deletions(
        conn, [it.id for it, at in gone if it.was_deleted and at is None and it.news.key.kind == "membership"]
    )
    touched = {it.id for it in of["organization"]}
    touched |= _list_organization_ids(conn, [it.id for it in of["membership"]], memberships.c.id)
    ledger.joined = create_local_memberships(conn, ledger, now=now)
    touched |= {it.organization_id for it in ledger.joined}
    old_users = [it.id for it in of["user"] if not it.is_new]
    update_member_names(conn, old_users)
    return touched | _list_organization_ids(conn, old_users, memberships.c.user_id)


def apply_observations(conn: Conn, news: Sequence[EntityState], *, now: int, wrote: Collection[str] = ()) -> UnitOfWork:
    """Decide news that were just read from Clerk, and write what won. `wrote`: as for `apply`."""
    ledger = open_unit_of_work(conn, news)
    for it in news:
        ledger.take(it, is_read=True)
    apply_unit_of_work(conn, ledger, now=now, wrote=wrote)
    return ledger


def _list_known_ids(entries: Sequence[PendingWrite]) -> list[str]:
    """Those of whom something is known here: not the new, and not what was only known to be absent."""
    return [it.id for it in entries if it.before is not None and (it.before.digest or not it.before.is_deleted)]


def _build_name_columns_of_row(row: RowValues) -> RowValues:
    return build_name_columns(row["first_name"], row["last_name"], row["username"], row["email"], row["clerk_id"])


def _upsert(conn: Conn, table: sa.Table, rows: Sequence[RowValues], update: Sequence[str] = ()) -> None:
    """What is new in the order of Clerk's ids, as everybody inserts it: other writers know no id of ours."""
    upsert_rows(conn, table, rows, key="id", update=update, lock_order="clerk_id")


def _upsert_users(conn: Conn, entries: Sequence[PendingWrite], owned: frozenset[str], now: int) -> None:
    rows = [
        _build_user_row(it.news.entity) | _build_common_columns(it, now)
        for it in entries
        if isinstance(it.news.entity, ClerkUser)
    ]
    if owned:
        rows = [
            row | _build_name_columns_of_row(row)
            for row in keep_owned_values(conn, users, rows, owned, _list_known_ids(entries))
        ]
    new = {it.id for it in entries if it.is_new}
    if ours := [row for row in rows if row["id"] == row["external_id"] and row["id"] in new]:
        conn.execute(sa.insert(users), ours)  # fails where another transaction was faster, and is run again
        rows = [row for row in rows if row not in ours]
    _upsert(conn, users, rows, update=[name for name in rows[0] if name not in _IMMUTABLE_COLUMNS] if rows else ())
    unknown = [it for it in entries if it.is_new and isinstance(it.news, Tombstone)]
    blank = {"sort_name": "", "search_text": "", "is_active": False}
    _upsert(conn, users, [_build_tombstone_row(it, now) | blank for it in unknown])


def _upsert_organizations(conn: Conn, entries: Sequence[PendingWrite], owned: frozenset[str], now: int) -> None:
    rows = [
        _build_organization_row(it.news.entity) | _build_common_columns(it, now)
        for it in entries
        if isinstance(it.news.entity, ClerkOrganization)
    ]
    rows = keep_owned_values(conn, organizations, rows, owned, _list_known_ids(entries)) if owned else rows
    _upsert(conn, organizations, rows, update=[n for n in rows[0] if n not in _IMMUTABLE_COLUMNS] if rows else ())
    unknown = [it for it in entries if it.is_new and isinstance(it.news, Tombstone)]
    _upsert(conn, organizations, [_build_tombstone_row(it, now) | {"name": it.news.key.id} for it in unknown])


def _upsert_memberships(
    conn: Conn, entries: Sequence[PendingWrite], ledger: UnitOfWork, owned: frozenset[str], now: int
) -> None:
    wanted = [it for it in entries if isinstance(it.news, Observation) or it.is_new]
    parents = {
        it.id: [ledger.known[k] for k in get_parent_keys(it.news.entity)]  # a new one was taken with its parents
        for it in wanted
        if isinstance(it.news.entity, ClerkMembership)
    }
    people = _load_member_columns(conn, [user.id for user, _ in parents.values()])
    rows, alive = [], []
    for it in wanted:
        if not isinstance(it.news.entity, ClerkMembership):
            continue
        user, organization = parents[it.id]
        is_dead = user.is_deleted or organization.is_deleted or isinstance(it.news, Tombstone)
        alive += [it.id] if it.was_deleted and not is_dead else []
        sort_name, search_text, status = people[user.id]
        rows.append(
            _build_common_columns(it, now)
            | {
                "organization_id": organization.id,
                "user_id": user.id,
                "role": it.news.entity.role,
                "status": "removed" if is_dead else status,
                "gone_at": now if is_dead else None,
                "absent_at": get_absent_at(it, (user, organization)) if is_dead else None,
                "sort_name": sort_name,
                "search_text": search_text,
            }
        )
    ledger.statuses |= {row["id"]: row["status"] for row in rows if row["id"] not in ledger.statuses}
    _upsert(conn, memberships, rows, update=[it for it in _UPDATED_MEMBERSHIP_COLUMNS if it not in owned])
    revive_memberships(conn, alive, now=now)


def _relink_memberships(conn: Conn, entries: Sequence[PendingWrite], now: int) -> None:
    """A person who was kept in our list is a member in Clerk again: the row gets the new id, the old one a grave."""
    for it in entries:
        if it.replaces:
            membership_status.relink_membership(conn, it.id, to=it.news.key.id, graves=it.replaces, now=now)


def _build_common_columns(entry: PendingWrite, now: int) -> RowValues:
    news, entity = entry.news, entry.news.entity
    return {
        "id": entry.id,
        "clerk_id": news.key.id,
        "joined_at": entity.joined_at if entity else now,
        "version": news.version if isinstance(news, Observation) else 0,
        "digest": news.digest if isinstance(news, Observation) else "",
        "changed_at": now,
    }


def _build_tombstone_row(entry: PendingWrite, now: int) -> RowValues:
    absent_at = entry.news.absent_at if isinstance(entry.news, Tombstone) else None
    return _build_common_columns(entry, now) | {"gone_at": now, "absent_at": absent_at, "deleted_at": now}


def _build_user_row(user: ClerkUser) -> RowValues:
    return {
        **build_name_columns(user.first_name, user.last_name, user.username, user.email, user.clerk_id),
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


def build_name_columns(
    first: str | None, last: str | None, username: str | None, email: str | None, id: str
) -> dict[str, str]:
    """What a person is listed by and found by."""
    name = f"{first} {last}" if first and last else first or last or ""
    return {
        "sort_name": (name or username or email or id).casefold()[:MAX_SORT_NAME_LENGTH],
        "search_text": build_search_text((name, email, find_alternate_form(email), username)),
    }


def _build_organization_row(organization: ClerkOrganization) -> RowValues:
    return {
        "name": organization.name,
        "slug": organization.slug,
        "image_url": organization.image_url,
        "max_members": organization.max_members,
        "public_metadata": organization.public_metadata,
    }


def _mark_deleted(conn: Conn, gone: Sequence[PendingWrite], absent_at: int | None, now: int) -> None:
    """Mark the dead; whoever belonged to a dead person or organization belongs no more."""
    dead = {kind: [it.id for it in gone if it.news.key.kind == kind] for kind in ("user", "organization", "membership")}
    for table, ids in ((users, dead["user"]), (organizations, dead["organization"])):
        if ids:
            marks: dict[str, Any] = {name: sa.func.coalesce(table.c[name], now) for name in ("gone_at", "deleted_at")}
            marks |= {"absent_at": absent_at, "changed_at": now}
            inactive = {"is_active": False} if table is users else {}
            conn.execute(sa.update(table).where(is_one_of(conn, table.c.id, ids)).values(**marks, **inactive))
    for column, ids in (
        (memberships.c.id, dead["membership"]),
        (memberships.c.user_id, dead["user"]),
        (memberships.c.organization_id, dead["organization"]),
    ):
        if ids:
            living = sa.update(memberships).where(is_one_of(conn, column, ids), memberships.c.gone_at.is_(None))
            status = membership_status.STATUS_AFTER_DELETION if column is memberships.c.id else "removed"
            conn.execute(living.values(status=status, gone_at=now, absent_at=absent_at, changed_at=now))


def update_member_names(conn: Conn, user_ids: Sequence[str]) -> None:
    """Members are listed and found by their person's name: carry a changed one over."""
    if not user_ids:
        return
    differs = sa.or_(memberships.c.sort_name != users.c.sort_name, memberships.c.search_text != users.c.search_text)
    conn.execute(
        sa.update(memberships)
        .where(memberships.c.user_id == users.c.id, is_one_of(conn, memberships.c.user_id, user_ids), differs)
        .values(sort_name=users.c.sort_name, search_text=users.c.search_text)
    )


def _load_member_columns(conn: Conn, user_ids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return the name, the search text and the status of a member for each of these people."""
    if not user_ids:
        return {}
    columns = (users.c.id, users.c.sort_name, users.c.search_text, membership_status.STATUS_FROM_USER)
    query = sa.select(*columns).where(is_one_of(conn, users.c.id, user_ids))
    return {id: (sort_name, search_text, status) for id, sort_name, search_text, status in conn.execute(query)}


def _list_organization_ids(conn: Conn, ids: Sequence[str], column: sa.Column[str]) -> set[str]:
    if not ids:
        return set()
    query = sa.select(memberships.c.organization_id).where(is_one_of(conn, column, ids)).distinct()
    return {id for (id,) in conn.execute(query)}


ORGANIZATION_METADATA_KEY, ROLE_METADATA_KEY = "organization", "role"


class LocalOrganizationGrant(Struct, frozen=True):
    """Where someone belongs, by their public metadata: a local organization (our id of it), and the role there."""

    organization: str
    role: str


def parse_local_organization_grant(user: ClerkUser) -> LocalOrganizationGrant | None:
    """The place that a person's public metadata name. Only the application's own server can write these."""
    raw = bytes(user.public_metadata)
    if b'"organization"' not in raw:
        return None
    metadata = msgspec.json.decode(raw)
    if not isinstance(metadata, dict):
        return None
    organization, role = metadata.get(ORGANIZATION_METADATA_KEY), metadata.get(ROLE_METADATA_KEY)
    if not isinstance(organization, str) or not isinstance(role, str) or not role:
        return None
    return LocalOrganizationGrant(organization, role if ":" in role else f"org:{role}")


def create_local_memberships(conn: Conn, ledger: UnitOfWork, *, now: int) -> list[LocalMembership]:
    """Make the memberships that people whom the ledger took, and who are written already, were invited to.

    Once for each person and organization: whoever was a member there before, in whatever standing, is left alone, and
    so is an organization that Clerk keeps.
    """
    seen = [(it.id, it.news.entity) for it in ledger.entries() if isinstance(it.news, Observation)]
    places = {
        id: place
        for id, entity in seen
        if isinstance(entity, ClerkUser) and (place := parse_local_organization_grant(entity))
    }
    if not places:
        return []
    local = _lock_local_organizations(conn, [it.organization for it in places.values()])
    before = _list_existing_pairs(conn, list(places))
    wanted = {id: it for id, it in places.items() if it.organization in local and (id, it.organization) not in before}
    return _insert_local_memberships(conn, wanted, now) if wanted else []


def _lock_local_organizations(conn: Conn, ids: Sequence[str]) -> set[str]:
    o = organizations.c
    query = sa.select(o.id).where(is_one_of(conn, o.id, ids), o.clerk_id.is_(None), o.deleted_at.is_(None))
    return set(conn.execute(query.order_by(o.id).with_for_update(key_share=True)).scalars())


def _list_existing_pairs(conn: Conn, user_ids: Sequence[str]) -> set[tuple[str, str]]:
    m = memberships.c
    query = sa.select(m.user_id, m.organization_id).where(is_one_of(conn, m.user_id, user_ids))
    return {(user, organization) for user, organization in conn.execute(query)}


def _insert_local_memberships(conn: Conn, wanted: dict[str, LocalOrganizationGrant], now: int) -> list[LocalMembership]:
    u = users.c
    query = sa.select(u.id, u.sort_name, u.search_text, STATUS_FROM_USER)
    query = query.where(is_one_of(conn, u.id, list(wanted)), u.is_active, u.deleted_at.is_(None))
    joined, rows = [], []
    for user_id, sort_name, search_text, status in conn.execute(query.order_by(u.id)):
        place, id = wanted[user_id], new_id("mbr")
        joined.append(
            LocalMembership(membership_id=id, organization_id=place.organization, user_id=user_id, role=place.role)
        )
        rows.append(
            {
                "id": id,
                "organization_id": place.organization,
                "user_id": user_id,
                "role": place.role,
                "status": status,
                "sort_name": sort_name,
                "search_text": search_text,
                "joined_at": now,
                "changed_at": now,
            }
        )
    if rows:
        conn.execute(sa.insert(memberships), rows)
    return joined
