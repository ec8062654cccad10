"""Names and labels of records: look up names by id, people by name; label actions, actors and targets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from msgspec import Struct

from instep.auth.tables import api_keys
from instep.core.db import Conn
from instep.core.i18n import Localizer
from instep.core.sql import is_one_of
from instep.domain.emails import make_invitation_target
from instep.mirror import search
from instep.mirror.search import parse_search_query
from instep.mirror.tables import memberships, organizations, users

MAX_PEOPLE_FOUND = 8
ACTION_GROUPS = (
    "invitation",
    "member",
    "user",
    "profile",
    "membership",
    "organization",
    "key",
    "session",
    "sync",
    "delivery",
)
u, m, o, k = users.c, memberships.c, organizations.c, api_keys.c
_NAME_COLUMNS = (u.first_name, u.last_name, u.username, u.email)


class PersonMatch(Struct, frozen=True, kw_only=True):
    """A person found by a search, with every id (`aliases`) that records may refer to them by."""

    id: str
    name: str
    email: str | None
    aliases: tuple[str, ...]


class LabelContext(Struct, frozen=True, kw_only=True):
    """Values that rows are labeled with: `names` by id, `base_path` above the list pages, `now` in Unix ms."""

    names: Mapping[str, str]
    base_path: str
    now: int


class AttributedRecord(Protocol):
    """An operation or an audit entry: a record with an actor, an impersonator and a target."""

    @property
    def actor(self) -> str: ...

    @property
    def impersonator(self) -> str | None: ...

    @property
    def target(self) -> str: ...

    @property
    def organization_id(self) -> str | None: ...


def get_action_labels(localizer: Localizer) -> dict[str, str]:
    """Return the labels of audit actions and operation kinds, by key."""
    _ = localizer.gettext
    return {
        "invitation.send": _("Invite"),
        "invitation.resend": _("Resend invitation"),
        "invitation.revoke": _("Revoke invitation"),
        "invitation.batch": _("Invite many"),
        "invitation.bulk": _("Invite up to ten"),
        "invitation.link_copied": _("Copy invitation link"),
        "application.invite": _("Invite to the application"),
        "application.resend": _("Resend application invitation"),
        "application.revoke": _("Revoke application invitation"),
        "member.role": _("Change role"),
        "member.deactivate": _("Deactivate"),
        "member.reactivate": _("Reactivate"),
        "member.remove": _("Remove"),
        "member.leave": _("Leave"),
        "member.restore": _("Restore membership"),
        "member.transfer": _("Transfer organization"),
        "user.create": _("Create user"),
        "user.delete": _("Delete user"),
        "user.restore": _("Restore user"),
        "user.ban": _("Ban"),
        "user.unban": _("Unban"),
        "user.password": _("Set password"),
        "user.sessions": _("End sessions"),
        "profile.edit": _("Edit profile"),
        "profile.email": _("Replace email"),
        "profile.email.code": _("Send code to new email"),
        "profile.email.verify": _("Change email"),
        "profile.reinvite": _("Invite with new email"),
        "profile.reinvite.application": _("Invite to the application with new email"),
        "key.created": _("Create key"),
        "key.revoked": _("Revoke key"),
        "member.bulk": _("Change members in bulk"),
        "operation.retry": _("Retry operation"),
        "operation.give_up": _("Give up operation"),
        "impersonation.read": _("Read while impersonating"),
        "impersonation.change": _("Change while impersonating"),
        "session.break_glass": _("Sign in with the break-glass key"),
        "sync.check": _("Check sync"),
        "sync.plan": _("Plan a sync"),
        "sync.apply": _("Apply a sync plan"),
        "sync.first": _("Import everyone"),
        "sync.changed": _("Sync recent changes"),
        "sync.took": _("Imported a batch"),
        "delivery.replay": _("Replay delivery"),
        "instance.rebind": _("Bind to another Clerk instance"),
        "user.seen": _("User changed in Clerk"),
        "user.gone": _("User deleted in Clerk"),
        "user.back": _("User found again in Clerk"),
        "membership.seen": _("Membership changed in Clerk"),
        "membership.gone": _("Membership ended in Clerk"),
        "membership.back": _("Membership found again in Clerk"),
        "organization.seen": _("Organization changed in Clerk"),
        "organization.gone": _("Organization deleted in Clerk"),
        "organization.back": _("Organization found again in Clerk"),
    }


def format_action(key: str, localizer: Localizer) -> str:
    """Return the label of an action; one without a label is derived from its key."""
    return get_action_labels(localizer).get(key) or key.replace(".", " ").replace("_", " ").capitalize()


def format_action_group(key: str, localizer: Localizer) -> str:
    """Return the label of a group of actions."""
    _ = localizer.gettext
    labels = {
        "invitation": _("Invitations"),
        "member": _("Members"),
        "user": _("Users"),
        "profile": _("Profiles"),
        "membership": _("Memberships in Clerk"),
        "organization": _("Organizations in Clerk"),
        "key": _("Keys"),
        "session": _("Sign-ins with a key"),
        "sync": _("Sync"),
        "delivery": _("Deliveries"),
    }
    return labels.get(key) or format_action(key, localizer)


def format_actor(actor_id: str, names: Mapping[str, str], localizer: Localizer) -> str:
    """Return the name of an actor."""
    _ = localizer.gettext
    builtin = {"break_glass": _("Break-glass key"), "clerk": "Clerk", "system": "instep", "api_key": _("API key")}
    return names.get(actor_id) or builtin.get(actor_id) or actor_id


def format_actor_with_impersonator(
    actor_id: str, impersonator_id: str | None, names: Mapping[str, str], localizer: Localizer
) -> str:
    """Return the name of an actor, and that of the impersonator if there is one."""
    actor = format_actor(actor_id, names, localizer)
    if impersonator_id is None:
        return actor
    impersonator = format_actor(impersonator_id, names, localizer)
    return localizer.gettext("%(impersonator)s as %(actor)s", impersonator=impersonator, actor=actor)


def format_target(target: str, names: Mapping[str, str], localizer: Localizer) -> str:
    """Return the name of a target, the address of an invitation, or the id if no name is known."""
    kind, _, rest = target.partition(":")
    if kind == "invitation" and "@" in rest:
        return rest.partition(":")[2] or rest
    if kind == "batch":
        return localizer.gettext("A list of people")
    return next((names[part] for part in extract_ids([target]) if part in names), rest or target)


def extract_ids(targets: Iterable[str]) -> list[str]:
    """Return the parts of targets such as `membership:mbr_1` that may be ids with a name."""
    return [part for target in targets for part in dict.fromkeys((target, *target.split(":"))) if part]


def collect_ids(records: Iterable[AttributedRecord]) -> list[str]:
    """Return the ids in these records that may have a name."""
    targets: list[str] = []
    for record in records:
        targets += [record.actor, record.impersonator or "", record.target, record.organization_id or ""]
    return list(dict.fromkeys(extract_ids(targets)))


def list_names(conn: Conn, ids: Iterable[str]) -> dict[str, str]:
    """Return the names of people, memberships, organizations and keys by id (ours or Clerk's), unknown ones omitted."""
    wanted = sorted(set(ids))
    of_members = memberships.join(users, u.id == m.user_id)
    queries: tuple[sa.Select[Any], ...] = (
        sa.select(u.id, u.clerk_id, *_NAME_COLUMNS).where(_has_any_id(conn, users, wanted)),
        sa.select(m.id, m.clerk_id, *_NAME_COLUMNS)
        .select_from(of_members)
        .where(_has_any_id(conn, memberships, wanted)),
        sa.select(o.id, o.clerk_id, o.name).where(_has_any_id(conn, organizations, wanted)),
        sa.select(k.id, sa.null(), k.name).where(is_one_of(conn, k.id, wanted)),
    )
    rows = [row for query in queries for row in conn.execute(query)]
    return {key: _format_name(*names) for own_id, clerk_id, *names in rows for key in (own_id, clerk_id) if key}


def find_people(conn: Conn, text: str, organization_id: str | None) -> list[PersonMatch]:
    """Return up to eight people by id, or by parts of a name or an email, in one organization or in all."""
    query = sa.select(u.id, u.clerk_id, *_NAME_COLUMNS)
    if organization_id is not None:
        query = query.where(u.id.in_(sa.select(m.user_id).where(m.organization_id == organization_id)))
    rows = conn.execute(query.where(sa.or_(u.id == text, u.clerk_id == text)).limit(MAX_PEOPLE_FOUND)).all()
    if not rows and (terms := parse_search_query(text)):
        dialect, has_index = conn.dialect.name, search.has_search_index(conn)
        query = query.where(*search.build_match_conditions(dialect, users, len(terms)))
        narrowed = query.where(*search.build_index_conditions(dialect, users, len(terms))) if has_index else query
        by_name = narrowed.order_by(u.sort_name, u.id).limit(MAX_PEOPLE_FOUND)
        rows = conn.execute(by_name, search.build_search_params(conn, users, terms)).all()
    return [_make_person_match(conn, row) for row in rows]


def _make_person_match(conn: Conn, row: Sequence[Any]) -> PersonMatch:
    user_id, clerk_id, *names = row
    email = names[-1]
    query = sa.select(m.id, m.clerk_id, o.clerk_id).select_from(memberships.join(organizations))
    aliases = [user_id, f"user:{user_id}", clerk_id]
    for membership, clerk_membership, organization in conn.execute(query.where(m.user_id == user_id)):
        aliases += [membership, f"membership:{membership}", f"standing:{membership}", clerk_membership]
        aliases += [make_invitation_target(organization, email)] if email and organization else []
    known = tuple(dict.fromkeys(alias for alias in aliases if alias))
    return PersonMatch(id=user_id, name=_format_name(*names), email=email, aliases=known)


def _has_any_id(conn: Conn, table: sa.Table, ids: list[str]) -> sa.ColumnElement[bool]:
    return sa.or_(is_one_of(conn, table.c.id, ids), is_one_of(conn, table.c.clerk_id, ids))


def _format_name(*parts: str | None) -> str:
    """Return a single name as it is, else the first of: first and last name, username, email."""
    if len(parts) == 1:
        return parts[0] or ""
    first, last, username, email = parts
    return " ".join(part for part in (first, last) if part) or username or email or ""
