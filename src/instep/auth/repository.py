"""SQL of sessions, API keys, principals and visible organizations."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.auth.principal import (
    AdminContact,
    AuthUserRow,
    DeactivationNotice,
    DeniedPrincipal,
    OrganizationAccess,
    Principal,
    resolve_principal,
)
from instep.auth.tables import api_keys, sessions
from instep.core.clock import MAX_CLOCK_SKEW
from instep.core.db import Conn
from instep.core.sql import fetch_all, is_one_of
from instep.domain.models import SessionClaims
from instep.domain.roles import ADMIN_ROLES_OPTION, FIELD_SEPARATOR, RECORD_SEPARATOR, RoleCatalog, make_local_roles
from instep.domain.roles import unpack_roles as domain_unpack_roles
from instep.mirror.tables import memberships, organizations, roles, users

MAX_ORGANIZATIONS = 500  # per list; others, of perhaps 100,000, are found by search
MAX_SEARCH_WORDS = 5
MAX_DEACTIVATION_NOTICES = 20  # organizations in the notices for a deactivated person
MAX_CONTACTS = 5  # admins named in a notice
MAX_REFERENCE_LENGTH = 200  # characters; a path can contain anything
_IS_ACTIVE_USER = (
    users.c.is_active,
    sa.not_(users.c.is_banned),
    sa.not_(users.c.is_deprovisioned),
    users.c.deleted_at.is_(None),
    users.c.gone_at.is_(None),
)
_USER_COLUMNS = tuple(users.c[name] for name in AuthUserRow.__struct_fields__)


def _flag_literal(column: sa.ColumnElement[Any], flag: str) -> sa.ColumnElement[str]:
    return sa.case((column, _text_literal(flag)), else_=_text_literal(""))


def _text_literal(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{text}'", sa.Text)


_ROLE_FLAGS = (
    _flag_literal(roles.c.is_admin, "a")
    + _flag_literal(roles.c.is_default, "d")
    + _flag_literal(roles.c.listed_at.is_not(None), "l")
)
_ROLE_RECORD = (
    roles.c.key + _text_literal(FIELD_SEPARATOR) + roles.c.name + _text_literal(FIELD_SEPARATOR) + _ROLE_FLAGS
)
# All roles that exist, in the format of `domain.roles.unpack_roles`.
PACKED_ROLES: sa.ScalarSelect[str] = (
    sa.select(sa.func.aggregate_strings(_ROLE_RECORD, RECORD_SEPARATOR))
    .where(roles.c.gone_at.is_(None))
    .scalar_subquery()
)


def unpack_roles(conn: Conn, packed: str | None, *, is_local: bool = False) -> RoleCatalog:
    """Unpack the roles of PACKED_ROLES, with the admin roles of the settings.

    `is_local`: of an organization that Clerk does not know.
    """
    admin_keys: frozenset[str] = conn.get_execution_options().get(ADMIN_ROLES_OPTION, frozenset())
    catalog = domain_unpack_roles(packed, admin_keys)
    return make_local_roles(catalog) if is_local else catalog


def find_roles(conn: Conn, *, is_local: bool = False) -> RoleCatalog:
    """Return the roles of the instance, or of a local organization."""
    packed = conn.execute(sa.select(PACKED_ROLES)).scalar()
    return unpack_roles(conn, packed, is_local=is_local)


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


class ApiKeyRow(Struct, frozen=True, kw_only=True):
    """An API key. `scopes` are separated by spaces."""

    id: str
    name: str
    scopes: str
    organization_id: str | None
    created_by: str
    created_at: int
    last_used_at: int | None
    revoked_at: int | None


_API_KEY_COLUMNS = tuple(api_keys.c[name] for name in ApiKeyRow.__struct_fields__)
_SESSION_COLUMNS = tuple(sessions.c[name] for name in SessionRow.__struct_fields__)
_FIND_SESSION = (
    sa.select(*_SESSION_COLUMNS, *_USER_COLUMNS)
    .select_from(sessions.outerjoin(users, users.c.clerk_id == sessions.c.clerk_user_id))
    .where(sessions.c.token_hash.in_(sa.bindparam("hashes", expanding=True)), sessions.c.ended_at.is_(None))
)


def insert_session(conn: Conn, *, token_hash: str, claims: SessionClaims | None, at: int) -> None:
    """Insert a session of the person in `claims`; without claims, of the break-glass key."""
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


def find_session(conn: Conn, *, token_hashes: list[str]) -> tuple[SessionRow, AuthUserRow | None] | None:
    """Return the active session with one of these hashes and its user's row."""
    row = conn.execute(_FIND_SESSION, {"hashes": token_hashes}).first()
    if row is None:
        return None
    session = SessionRow(**dict(zip(SessionRow.__struct_fields__, row, strict=False)))
    return session, _build_user(row[len(_SESSION_COLUMNS) :])


def claim_session_check(conn: Conn, *, token_hash: str, tried_at: int, at: int) -> bool:
    """Claim the check of a session by compare-and-set. Return False if another request claimed it."""
    is_same = sa.and_(sessions.c.token_hash == token_hash, sessions.c.tried_at == tried_at)
    return conn.execute(sessions.update().where(is_same).values(tried_at=at)).rowcount == 1


def record_session_check(conn: Conn, *, token_hash: str, at: int) -> bool:
    """Record that Clerk called the session active at `at`. Return whether a row changed.

    An older answer that arrives late changes nothing. A future time was stored before the clock was set back, and is
    replaced.
    """
    checked_at = sessions.c.checked_at
    is_older = sa.or_(checked_at < at, checked_at > at + MAX_CLOCK_SKEW)
    is_outdated = sa.and_(sessions.c.token_hash == token_hash, is_older)
    return conn.execute(sessions.update().where(is_outdated).values(checked_at=at)).rowcount == 1


def end_session(conn: Conn, *, token_hashes: list[str], at: int) -> str | None:
    """End a session. Return its Clerk session id; None if it has none or had ended."""
    is_wanted = sa.and_(is_one_of(conn, sessions.c.token_hash, token_hashes), sessions.c.ended_at.is_(None))
    ended = sessions.update().where(is_wanted).values(ended_at=at).returning(sessions.c.clerk_session_id)
    found: str | None = conn.execute(ended).scalar()
    return found


def end_sessions_of_clerk_session(conn: Conn, clerk_session_id: str, *, at: int) -> int:
    """End all console sessions of a Clerk session and return their number."""
    is_wanted = sa.and_(sessions.c.clerk_session_id == clerk_session_id, sessions.c.ended_at.is_(None))
    return conn.execute(sessions.update().where(is_wanted).values(ended_at=at)).rowcount


def end_sessions_of_user(conn: Conn, clerk_user_id: str, *, at: int) -> int:
    """End all console sessions of a Clerk user and return their number."""
    is_wanted = sa.and_(sessions.c.clerk_user_id == clerk_user_id, sessions.c.ended_at.is_(None))
    return conn.execute(sessions.update().where(is_wanted).values(ended_at=at)).rowcount


def delete_stale_sessions(conn: Conn, *, before: int) -> int:
    """Delete sessions that Clerk has not called active since `before` and return their number."""
    return conn.execute(sessions.delete().where(sessions.c.checked_at < before)).rowcount


def find_principal(
    conn: Conn, clerk_user_id: str, *, admins: frozenset[str], actor: str | None = None
) -> Principal | DeniedPrincipal:
    """Return the current principal of a Clerk user. One who is not in the mirror has no organizations."""
    row = conn.execute(sa.select(*_USER_COLUMNS).where(users.c.clerk_id == clerk_user_id)).first()
    return resolve_principal(_build_user(row) if row else None, clerk_user_id, admins, actor=actor)


def find_actor(conn: Conn, clerk_user_id: str) -> tuple[str, str] | None:
    """Return instep's id and the name of a Clerk user; None if they are not in the mirror."""
    row = conn.execute(sa.select(*_USER_COLUMNS).where(users.c.clerk_id == clerk_user_id)).first()
    user = _build_user(row) if row else None
    return (user.id, user.name or clerk_user_id) if user else None


def list_accesses(
    conn: Conn, principal: Principal, *, query: str = "", limit: int = MAX_ORGANIZATIONS
) -> list[OrganizationAccess]:
    """Return the organizations that a principal may see, by name: their own, or all for an instance admin.

    Each word of `query`, up to MAX_SEARCH_WORDS, must be contained in the name or the slug.
    """
    words = query.split()[:MAX_SEARCH_WORDS]
    if principal.bound_organization_id is not None:
        bound = find_access(conn, principal, principal.bound_organization_id)
        text = f"{bound.organization_name} {bound.organization_slug}".casefold() if bound else ""
        return [bound] if bound and all(word.casefold() in text for word in words) else []
    values = {"user_id": principal.user_id, "limit": limit}
    for i, word in enumerate(words):
        values |= {f"word_{i}": f"%{_escape_like(word.lower())}%", f"typed_{i}": f"%{_escape_like(word)}%"}
    return [
        _build_access(conn, principal, row)
        for row in conn.execute(_list_organizations_query(*_get_visibility(principal), len(words)), values)
    ]


def _escape_like(word: str) -> str:
    return word.replace("/", "//").replace("%", "/%").replace("_", "/_")


def find_access(conn: Conn, principal: Principal, ref: str) -> OrganizationAccess | None:
    """Return a principal's access to the organization with this id (ours or Clerk's) or slug.

    None is a 404, whether it does not exist or is not visible: a member of one organization learns nothing of another.
    If several match, an id precedes a slug, then the oldest wins.
    """
    if not ref.isprintable() or len(ref) > MAX_REFERENCE_LENGTH:
        return None
    values = {"user_id": principal.user_id, "ref": ref}
    rows = fetch_all(conn, _find_organization_query(*_get_visibility(principal)), values)
    is_theirs = bool(rows) and principal.bound_organization_id in (None, rows[0][0])
    return _build_access(conn, principal, rows[0]) if is_theirs else None


def find_deactivation_notice(conn: Conn, user_id: str, ref: str | None = None) -> DeactivationNotice | None:
    """Return the notice for a person deactivated in the organization `ref`; None for anybody else.

    Without `ref` it is about the whole account, with admins of all their organizations.
    """
    if ref is not None and (not ref.isprintable() or len(ref) > MAX_REFERENCE_LENGTH):
        return None
    o, m = organizations.c, memberships.c
    query = sa.select(o.id, o.name).select_from(organizations.join(memberships, m.organization_id == o.id))
    query = query.where(m.user_id == user_id, o.deleted_at.is_(None), o.gone_at.is_(None)).order_by(o.name, o.id)
    if ref is not None:
        query = query.where(m.status == "deactivated", sa.or_(o.id == ref, o.clerk_id == ref, o.slug == ref))
    found = conn.execute(query.limit(MAX_DEACTIVATION_NOTICES)).all()
    if ref is not None and not found:
        return None
    contacts = _list_admin_contacts(conn, [row.id for row in found[: 1 if ref is not None else None]], user_id)
    return DeactivationNotice(organization_name=found[0].name if ref is not None else "", contacts=contacts)


def list_deactivation_notices(conn: Conn, user_id: str) -> list[DeactivationNotice]:
    """Return a notice for each organization in which a person is deactivated, by name."""
    o, m = organizations.c, memberships.c
    query = sa.select(o.id, o.name).select_from(organizations.join(memberships, m.organization_id == o.id))
    query = query.where(m.user_id == user_id, m.status == "deactivated", o.deleted_at.is_(None), o.gone_at.is_(None))
    found = conn.execute(query.order_by(o.name, o.id).limit(MAX_DEACTIVATION_NOTICES)).all()
    return [
        DeactivationNotice(organization_name=row.name, contacts=_list_admin_contacts(conn, [row.id], user_id))
        for row in found
    ]


def _list_admin_contacts(conn: Conn, organization_ids: list[str], excluded_user_id: str) -> tuple[AdminContact, ...]:
    """Return up to MAX_CONTACTS active admins of these organizations, in the order in which they joined."""
    m = memberships.c
    roles_of_admins = sorted(find_roles(conn).admins | find_roles(conn, is_local=True).admins)
    is_admin = sa.and_(
        m.role.in_(roles_of_admins), m.status == "active", m.gone_at.is_(None), m.user_id != excluded_user_id
    )
    query = sa.select(*_USER_COLUMNS).select_from(users.join(memberships, m.user_id == users.c.id))
    query = query.where(is_one_of(conn, m.organization_id, organization_ids), is_admin, *_IS_ACTIVE_USER)
    found = [_build_user(row) for row in conn.execute(query.order_by(m.joined_at, m.id).limit(MAX_CONTACTS))]
    return tuple(dict.fromkeys(AdminContact(user.name or user.email or user.id, user.email) for user in found if user))


def _get_visibility(principal: Principal) -> tuple[bool, bool]:
    """Return whether a principal may see all organizations (or their only one) and whether they can have a role."""
    return principal.is_instance_admin or principal.bound_organization_id is not None, principal.user_id is not None


@cache
def _list_organizations_query(can_see_all: bool, is_person: bool, words: int) -> sa.Select[Any]:
    """Build the query of a list. SQLite lowers only ASCII letters, so words are matched as typed, too."""
    o, limit = organizations.c, sa.bindparam("limit", type_=sa.Integer)
    query = _visible_organizations_query(can_see_all, is_person)
    for i in range(words):
        lower, typed = sa.bindparam(f"word_{i}", type_=sa.Text), sa.bindparam(f"typed_{i}", type_=sa.Text)
        matches = (sa.func.lower(o.name).like(lower, escape="/"), o.name.like(typed, escape="/"))
        query = query.where(sa.or_(*matches, o.slug.like(lower, escape="/")))
    return query.order_by(sa.func.lower(o.name), o.id).limit(limit)


@cache
def _find_organization_query(can_see_all: bool, is_person: bool) -> sa.Select[Any]:
    o, ref = organizations.c, sa.bindparam("ref", type_=sa.Text)
    order = (sa.case((o.id == ref, 0), (o.clerk_id == ref, 1), else_=2), o.joined_at, o.id)
    matches = sa.or_(o.id == ref, o.clerk_id == ref, o.slug == ref)
    return _visible_organizations_query(can_see_all, is_person).where(matches).order_by(*order).limit(1)


def _visible_organizations_query(can_see_all: bool, is_person: bool) -> sa.Select[Any]:
    """Select live organizations visible to `user_id` with their role, that of their newest membership.

    The empty string in `is_here` keeps SQLite, which has no statistics, from reading all members of the organization
    instead of the user's memberships.
    """
    o, m, user_id = organizations.c, memberships.c, sa.bindparam("user_id", type_=sa.Text)
    is_theirs = sa.and_(m.user_id == user_id, m.status == "active", m.gone_at.is_(None))
    is_here = m.organization_id + "" == o.id
    newest = sa.select(m.role).where(is_theirs, is_here).order_by(m.joined_at.desc(), m.id.desc())
    role = newest.limit(1).scalar_subquery() if is_person else sa.null()
    query = sa.select(o.id, o.clerk_id, o.name, o.slug, role.label("role"), PACKED_ROLES.label("roles"))
    query = query.where(o.deleted_at.is_(None), o.gone_at.is_(None))
    if can_see_all:
        return query
    is_present = sa.exists().where(users.c.id == user_id, *_IS_ACTIVE_USER)
    return query.where(is_present, o.id.in_(sa.select(m.organization_id).where(is_theirs)))


def insert_api_key(conn: Conn, key: ApiKeyRow, *, key_hash: str) -> None:
    """Insert a new key."""
    values = {name: getattr(key, name) for name in ApiKeyRow.__struct_fields__}
    conn.execute(api_keys.insert().values(**values, key_hash=key_hash))


def find_api_key(conn: Conn, *, key_hash: str) -> ApiKeyRow | None:
    """Return the key with this hash, unless it is revoked."""
    is_wanted = sa.and_(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
    row = conn.execute(sa.select(*_API_KEY_COLUMNS).where(is_wanted)).first()
    return ApiKeyRow(**row._mapping) if row else None


def record_api_key_use(conn: Conn, *, key_id: str, at: int) -> None:
    """Record the time of a key's last use."""
    conn.execute(api_keys.update().where(api_keys.c.id == key_id).values(last_used_at=at))


def list_api_keys(conn: Conn) -> list[ApiKeyRow]:
    """Return all keys, newest first, including revoked ones."""
    return [
        ApiKeyRow(**row._mapping) for row in conn.execute(sa.select(*_API_KEY_COLUMNS).order_by(api_keys.c.id.desc()))
    ]


def revoke_api_key(conn: Conn, *, key_id: str, at: int) -> ApiKeyRow | None:
    """Revoke a key and return it; None if there is none or it is revoked."""
    is_wanted = sa.and_(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    row = conn.execute(api_keys.update().where(is_wanted).values(revoked_at=at).returning(*_API_KEY_COLUMNS)).first()
    return ApiKeyRow(**row._mapping) if row else None


def _build_access(conn: Conn, principal: Principal, row: Sequence[Any]) -> OrganizationAccess:
    """Build an OrganizationAccess from a row of `_visible_organizations_query`."""
    organization_id, clerk_id, name, slug, role, packed = row
    instance_roles = unpack_roles(conn, packed)
    organization_roles = instance_roles if clerk_id is not None else make_local_roles(instance_roles)
    return OrganizationAccess(
        principal=principal,
        organization_id=organization_id,
        organization_clerk_id=clerk_id,
        organization_name=name,
        organization_slug=slug,
        role=organization_roles.highest_role if principal.bound_organization_id else role,
        instance_roles=instance_roles,
    )


def _build_user(row: Any) -> AuthUserRow | None:
    """Build a user from the columns in `_USER_COLUMNS`; None if the join found nobody."""
    return AuthUserRow(**dict(zip(AuthUserRow.__struct_fields__, row, strict=True))) if row[0] is not None else None
