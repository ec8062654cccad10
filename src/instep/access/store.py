"""The SQL of access: console sessions, who a user of Clerk is here, and which organizations they may see."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.access.principal import Access, Barred, Contact, Paused, Person, Principal, decide_principal
from instep.access.tables import api_keys, memberships, organizations, roles, sessions, users
from instep.identity.roles import ADMIN_ROLES, FIELD, RECORD, Roles, localized, roles_of
from instep.identity.session import SessionClaims
from instep.kit.clock import SKEW
from instep.kit.db import Conn, fetch, is_among

MOST_ORGANIZATIONS = 500  # of one list; the rest, of 100,000 perhaps, is found by searching
MOST_WORDS = 5
MOST_PAUSED = 20  # organizations that a deactivated person is told of
MOST_CONTACTS = 5  # admins that they are told of
LONGEST_REF = 200  # characters; what comes from an address can be anything, and PostgreSQL refuses some of it
_LIVE = (
    users.c.is_active,
    sa.not_(users.c.is_banned),
    sa.not_(users.c.is_deprovisioned),
    users.c.deleted_at.is_(None),
    users.c.gone_at.is_(None),
)
_PERSON = tuple(users.c[name] for name in Person.__struct_fields__)


def _flag(column: sa.ColumnElement[Any], flag: str) -> sa.ColumnElement[str]:
    return sa.case((column, _text(flag)), else_=_text(""))


def _text(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{text}'", sa.Text)


_FLAGS = _flag(roles.c.is_admin, "a") + _flag(roles.c.is_default, "d") + _flag(roles.c.listed_at.is_not(None), "l")
_RECORD = roles.c.key + _text(FIELD) + roles.c.name + _text(FIELD) + _FLAGS
PACKED: sa.ScalarSelect[str] = (
    sa.select(sa.func.aggregate_strings(_RECORD, RECORD)).where(roles.c.gone_at.is_(None)).scalar_subquery()
)


"""Every living role, as `identity.roles.roles_of` reads it."""


def unpack(conn: Conn, packed: str | None, *, is_local: bool = False) -> Roles:
    """Return the roles that `PACKED` gave, with those that the settings name. `is_local`: of an organization that
    Clerk does not know."""
    named: frozenset[str] = conn.get_execution_options().get(ADMIN_ROLES, frozenset())
    found = roles_of(packed, named)
    return localized(found) if is_local else found


def find_roles(conn: Conn, *, is_local: bool = False) -> Roles:
    """Return the roles of the instance, or of a local organization."""
    packed = conn.execute(sa.select(PACKED)).scalar()
    return unpack(conn, packed, is_local=is_local)


class SessionRow(Struct, frozen=True, kw_only=True):
    """A console session. `clerk_session_id` and `clerk_user_id` are None for the break-glass key."""

    token_hash: str
    clerk_session_id: str | None
    clerk_user_id: str | None
    actor: str | None
    created_at: int
    checked_at: int
    tried_at: int
    ended_at: int | None


class KeyRow(Struct, frozen=True, kw_only=True):
    """A key for a program. `scopes` are words parted by spaces."""

    id: str
    name: str
    scopes: str
    organization_id: str | None
    created_by: str
    created_at: int
    last_used_at: int | None
    revoked_at: int | None


_KEY = tuple(api_keys.c[name] for name in KeyRow.__struct_fields__)
_SESSION = tuple(sessions.c[name] for name in SessionRow.__struct_fields__)
_FOUND = (
    sa.select(*_SESSION, *_PERSON)
    .select_from(sessions.outerjoin(users, users.c.clerk_id == sessions.c.clerk_user_id))
    .where(sessions.c.token_hash.in_(sa.bindparam("hashes", expanding=True)), sessions.c.ended_at.is_(None))
)


def put_session(conn: Conn, *, token_hash: str, claims: SessionClaims | None, at: int) -> None:
    """Keep a new session: of the person that `claims` are about, or, without claims, of the break-glass key."""
    conn.execute(
        sessions.insert().values(
            token_hash=token_hash,
            clerk_session_id=claims.session if claims else None,
            clerk_user_id=claims.user if claims else None,
            actor=claims.actor if claims else None,
            created_at=at,
            checked_at=at,
            tried_at=at,
        )
    )


def find_session(conn: Conn, *, token_hashes: list[str]) -> tuple[SessionRow, Person | None] | None:
    """The session under one of these hashes that has not ended, with the person's present row in the mirror."""
    row = conn.execute(_FOUND, {"hashes": token_hashes}).first()
    if row is None:
        return None
    session = SessionRow(**dict(zip(SessionRow.__struct_fields__, row, strict=False)))
    return session, _person(row[len(_SESSION) :])


def claim_check(conn: Conn, *, token_hash: str, tried_at: int, at: int) -> bool:
    """Take it on to ask Clerk about a session. False: someone else has just taken it (compare-and-set)."""
    is_same = sa.and_(sessions.c.token_hash == token_hash, sessions.c.tried_at == tried_at)
    return conn.execute(sessions.update().where(is_same).values(tried_at=at)).rowcount == 1


def settle_check(conn: Conn, *, token_hash: str, at: int) -> bool:
    """Note that Clerk has called this session active at `at`; an older answer that comes late changes nothing.

    A time of the future was written before a clock went back, and is replaced. Returns whether anything was.
    """
    checked_at = sessions.c.checked_at
    is_older = sa.or_(checked_at < at, checked_at > at + SKEW)
    ours = sa.and_(sessions.c.token_hash == token_hash, is_older)
    return conn.execute(sessions.update().where(ours).values(checked_at=at)).rowcount == 1


def end_session(conn: Conn, *, token_hashes: list[str], at: int) -> str | None:
    """End one session; the id of the Clerk session it hung on, None where there was none or it had ended."""
    is_wanted = sa.and_(is_among(conn, sessions.c.token_hash, token_hashes), sessions.c.ended_at.is_(None))
    ended = sessions.update().where(is_wanted).values(ended_at=at).returning(sessions.c.clerk_session_id)
    found: str | None = conn.execute(ended).scalar()
    return found


def end_sessions_of(conn: Conn, clerk_session_id: str, *, at: int) -> int:
    """End every session that hangs on a session of Clerk's; how many there were."""
    is_wanted = sa.and_(sessions.c.clerk_session_id == clerk_session_id, sessions.c.ended_at.is_(None))
    return conn.execute(sessions.update().where(is_wanted).values(ended_at=at)).rowcount


def end_sessions_of_user(conn: Conn, clerk_user_id: str, *, at: int) -> int:
    """End every session of a user of Clerk; how many there were."""
    is_wanted = sa.and_(sessions.c.clerk_user_id == clerk_user_id, sessions.c.ended_at.is_(None))
    return conn.execute(sessions.update().where(is_wanted).values(ended_at=at)).rowcount


def forget_sessions(conn: Conn, *, before: int) -> int:
    """Delete sessions that Clerk has not called active since `before`; how many there were."""
    return conn.execute(sessions.delete().where(sessions.c.checked_at < before)).rowcount


def find_principal(
    conn: Conn, clerk_user_id: str, *, admins: frozenset[str], actor: str | None = None
) -> Principal | Barred:
    """Who a user of Clerk is here and now. Someone the mirror does not know yet has no organizations."""
    row = conn.execute(sa.select(*_PERSON).where(users.c.clerk_id == clerk_user_id)).first()
    return decide_principal(_person(row) if row else None, clerk_user_id, admins, actor=actor)


def find_actor(conn: Conn, clerk_user_id: str) -> tuple[str, str] | None:
    """Return instep's id and the name of a user of Clerk; None where the mirror does not know them."""
    row = conn.execute(sa.select(*_PERSON).where(users.c.clerk_id == clerk_user_id)).first()
    person = _person(row) if row else None
    return (person.id, person.name or clerk_user_id) if person else None


def list_accesses(
    conn: Conn, principal: Principal, *, query: str = "", limit: int = MOST_ORGANIZATIONS
) -> list[Access]:
    """The organizations that a principal may see, by name: those they belong to, all for an instance admin.

    Of each word of `query`, five at the most, the name or the slug has a part.
    """
    words = query.split()[:MOST_WORDS]
    if principal.only is not None:
        bound = find_access(conn, principal, principal.only)
        text = f"{bound.organization_name} {bound.organization_slug}".casefold() if bound else ""
        return [bound] if bound and all(word.casefold() in text for word in words) else []
    values = {"user_id": principal.user_id, "limit": limit}
    for i, word in enumerate(words):
        values |= {f"word_{i}": f"%{_escaped(word.lower())}%", f"typed_{i}": f"%{_escaped(word)}%"}
    return [_access(conn, principal, row) for row in conn.execute(_all_seen(*_kind(principal), len(words)), values)]


def _escaped(word: str) -> str:
    return word.replace("/", "//").replace("%", "/%").replace("_", "/_")


def find_access(conn: Conn, principal: Principal, ref: str) -> Access | None:
    """What a principal may do in the organization with this id (ours or Clerk's) or slug.

    None is a 404, whether there is no such organization or they may not see it: a person of one organization learns
    nothing of another. Where several fit, an id goes before a slug, and then the oldest.
    """
    if not ref.isprintable() or len(ref) > LONGEST_REF:
        return None
    values = {"user_id": principal.user_id, "ref": ref}
    rows = fetch(conn, _one_seen(*_kind(principal)), values)
    is_theirs = bool(rows) and principal.only in (None, rows[0][0])
    return _access(conn, principal, rows[0]) if is_theirs else None


def find_pause(conn: Conn, user_id: str, ref: str | None = None) -> Paused | None:
    """Return what to tell somebody whose membership in the organization `ref` is deactivated; None for anybody else.

    Without `ref` their whole account is meant: whom to ask in the organizations that they belong to.
    """
    if ref is not None and (not ref.isprintable() or len(ref) > LONGEST_REF):
        return None
    o, m = organizations.c, memberships.c
    query = sa.select(o.id, o.name).select_from(organizations.join(memberships, m.organization_id == o.id))
    query = query.where(m.user_id == user_id, o.deleted_at.is_(None), o.gone_at.is_(None)).order_by(o.name, o.id)
    if ref is not None:
        query = query.where(m.status == "deactivated", sa.or_(o.id == ref, o.clerk_id == ref, o.slug == ref))
    found = conn.execute(query.limit(MOST_PAUSED)).all()
    if ref is not None and not found:
        return None
    contacts = _contacts(conn, [row.id for row in found[: 1 if ref is not None else None]], user_id)
    return Paused(organization_name=found[0].name if ref is not None else "", contacts=contacts)


def list_pauses(conn: Conn, user_id: str) -> list[Paused]:
    """Return what to tell somebody about each organization in which their membership is deactivated, by name."""
    o, m = organizations.c, memberships.c
    query = sa.select(o.id, o.name).select_from(organizations.join(memberships, m.organization_id == o.id))
    query = query.where(m.user_id == user_id, m.status == "deactivated", o.deleted_at.is_(None), o.gone_at.is_(None))
    found = conn.execute(query.order_by(o.name, o.id).limit(MOST_PAUSED)).all()
    return [Paused(organization_name=row.name, contacts=_contacts(conn, [row.id], user_id)) for row in found]


def _contacts(conn: Conn, organization_ids: list[str], but: str) -> tuple[Contact, ...]:
    """Return the active admins of these organizations, those who joined first first, a few at the most."""
    m = memberships.c
    roles_of_admins = sorted(find_roles(conn).admins | find_roles(conn, is_local=True).admins)
    is_admin = sa.and_(m.role.in_(roles_of_admins), m.status == "active", m.gone_at.is_(None), m.user_id != but)
    query = sa.select(*_PERSON).select_from(users.join(memberships, m.user_id == users.c.id))
    query = query.where(is_among(conn, m.organization_id, organization_ids), is_admin, *_LIVE)
    found = [_person(row) for row in conn.execute(query.order_by(m.joined_at, m.id).limit(MOST_CONTACTS))]
    return tuple(dict.fromkeys(Contact(it.name or it.email or it.id, it.email) for it in found if it))


def _kind(principal: Principal) -> tuple[bool, bool]:
    """Whether they may see every organization (or the only one they ask for), and whether they can have a role."""
    return principal.is_instance_admin or principal.only is not None, principal.user_id is not None


@cache
def _all_seen(may_see_all: bool, is_person: bool, words: int) -> sa.Select[Any]:
    """SQLite makes only plain letters small: a word is looked for as it was typed, too."""
    o, limit = organizations.c, sa.bindparam("limit", type_=sa.Integer)
    query = _seen(may_see_all, is_person)
    for i in range(words):
        small, typed = sa.bindparam(f"word_{i}", type_=sa.Text), sa.bindparam(f"typed_{i}", type_=sa.Text)
        is_meant = (sa.func.lower(o.name).like(small, escape="/"), o.name.like(typed, escape="/"))
        query = query.where(sa.or_(*is_meant, o.slug.like(small, escape="/")))
    return query.order_by(sa.func.lower(o.name), o.id).limit(limit)


@cache
def _one_seen(may_see_all: bool, is_person: bool) -> sa.Select[Any]:
    o, ref = organizations.c, sa.bindparam("ref", type_=sa.Text)
    by = (sa.case((o.id == ref, 0), (o.clerk_id == ref, 1), else_=2), o.joined_at, o.id)
    is_meant = sa.or_(o.id == ref, o.clerk_id == ref, o.slug == ref)
    return _seen(may_see_all, is_person).where(is_meant).order_by(*by).limit(1)


def _seen(may_see_all: bool, is_person: bool) -> sa.Select[Any]:
    """Live organizations that `user_id` may see, each with their role there: that of their newest belonging.

    Nothing is added to the organization's id in `is_here`, so that SQLite, which knows no sizes, goes through what
    belongs to the person, and not through everyone of the organization.
    """
    o, m, user_id = organizations.c, memberships.c, sa.bindparam("user_id", type_=sa.Text)
    is_theirs = sa.and_(m.user_id == user_id, m.status == "active", m.gone_at.is_(None))
    is_here = m.organization_id + "" == o.id
    newest = sa.select(m.role).where(is_theirs, is_here).order_by(m.joined_at.desc(), m.id.desc())
    role = newest.limit(1).scalar_subquery() if is_person else sa.null()
    query = sa.select(o.id, o.clerk_id, o.name, o.slug, role.label("role"), PACKED.label("roles"))
    query = query.where(o.deleted_at.is_(None), o.gone_at.is_(None))
    if may_see_all:
        return query
    is_present = sa.exists().where(users.c.id == user_id, *_LIVE)
    return query.where(is_present, o.id.in_(sa.select(m.organization_id).where(is_theirs)))


def put_key(conn: Conn, key: KeyRow, *, key_hash: str) -> None:
    """Keep a new key."""
    values = {name: getattr(key, name) for name in KeyRow.__struct_fields__}
    conn.execute(api_keys.insert().values(**values, key_hash=key_hash))


def find_key(conn: Conn, *, key_hash: str) -> KeyRow | None:
    """The key under this hash, unless it was revoked."""
    is_wanted = sa.and_(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
    row = conn.execute(sa.select(*_KEY).where(is_wanted)).first()
    return KeyRow(**row._mapping) if row else None


def note_use(conn: Conn, *, id: str, at: int) -> None:
    """When a key was used last."""
    conn.execute(api_keys.update().where(api_keys.c.id == id).values(last_used_at=at))


def list_keys(conn: Conn) -> list[KeyRow]:
    """Every key, newest first, revoked ones too."""
    return [KeyRow(**row._mapping) for row in conn.execute(sa.select(*_KEY).order_by(api_keys.c.id.desc()))]


def revoke_key(conn: Conn, *, id: str, at: int) -> KeyRow | None:
    """End a key; None where there is none, or it has ended."""
    is_wanted = sa.and_(api_keys.c.id == id, api_keys.c.revoked_at.is_(None))
    row = conn.execute(api_keys.update().where(is_wanted).values(revoked_at=at).returning(*_KEY)).first()
    return KeyRow(**row._mapping) if row else None


def _access(conn: Conn, principal: Principal, row: Sequence[Any]) -> Access:
    """Access from the columns of `_seen`."""
    id, clerk_id, name, slug, role, packed = row
    found = unpack(conn, packed)
    held = found if clerk_id is not None else localized(found)
    return Access(
        principal=principal,
        organization_id=id,
        organization_clerk_id=clerk_id,
        organization_name=name,
        organization_slug=slug,
        role=held.highest if principal.only else role,
        instance_roles=found,
    )


def _person(row: Any) -> Person | None:
    """A person from the columns `_PERSON`; None where the join found nobody."""
    return Person(**dict(zip(Person.__struct_fields__, row, strict=True))) if row[0] is not None else None
