"""Joining a local organization by an invitation to the application: what the person's metadata say of a place."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from instep.identity.events import Seen
from instep.identity.model import User
from instep.kit.db import Conn, is_among
from instep.kit.ids import new_id
from instep.mirror.ledger import Joined, Ledger
from instep.mirror.standing import STATUS_OF_USER
from instep.mirror.tables import memberships, organizations, users

ORGANIZATION, ROLE = "organization", "role"


class Place(Struct, frozen=True):
    """Where someone belongs, by their public metadata: a local organization (our id of it), and the role there."""

    organization: str
    role: str


def place_of(user: User) -> Place | None:
    """The place that a person's public metadata name. Only the application's own server can write these."""
    raw = bytes(user.public_metadata)
    if b'"organization"' not in raw:
        return None
    metadata = msgspec.json.decode(raw)
    if not isinstance(metadata, dict):
        return None
    organization, role = metadata.get(ORGANIZATION), metadata.get(ROLE)
    if not isinstance(organization, str) or not isinstance(role, str) or not role:
        return None
    return Place(organization, role if ":" in role else f"org:{role}")


def join_local(conn: Conn, ledger: Ledger, *, now: int) -> list[Joined]:
    """Make the memberships that people whom the ledger took, and who are written already, were invited to.

    Once for each person and organization: whoever was a member there before, in whatever standing, is left alone, and
    so is an organization that Clerk keeps.
    """
    seen = [(it.id, it.news.entity) for it in ledger.entries() if isinstance(it.news, Seen)]
    places = {id: place for id, entity in seen if isinstance(entity, User) and (place := place_of(entity))}
    if not places:
        return []
    local = _local(conn, [it.organization for it in places.values()])
    before = _before(conn, list(places))
    wanted = {id: it for id, it in places.items() if it.organization in local and (id, it.organization) not in before}
    return _insert(conn, wanted, now) if wanted else []


def _local(conn: Conn, ids: Sequence[str]) -> set[str]:
    o = organizations.c
    query = sa.select(o.id).where(is_among(conn, o.id, ids), o.clerk_id.is_(None), o.deleted_at.is_(None))
    return set(conn.execute(query.order_by(o.id).with_for_update(key_share=True)).scalars())


def _before(conn: Conn, user_ids: Sequence[str]) -> set[tuple[str, str]]:
    m = memberships.c
    query = sa.select(m.user_id, m.organization_id).where(is_among(conn, m.user_id, user_ids))
    return {(user, organization) for user, organization in conn.execute(query)}


def _insert(conn: Conn, wanted: dict[str, Place], now: int) -> list[Joined]:
    u = users.c
    query = sa.select(u.id, u.sort_name, u.search_text, STATUS_OF_USER)
    query = query.where(is_among(conn, u.id, list(wanted)), u.is_active, u.deleted_at.is_(None))
    joined, rows = [], []
    for user_id, sort_name, search_text, status in conn.execute(query.order_by(u.id)):
        place, id = wanted[user_id], new_id("mbr")
        joined.append(Joined(membership_id=id, organization_id=place.organization, user_id=user_id, role=place.role))
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
