"""Names and labels of records: look up names by id, people by name; label actions, actors and targets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from instep.auth.tables import api_keys
from instep.core.db import Conn
from instep.core.i18n import Localizer
from instep.core.sql import is_one_of
from instep.domain.emails import make_invitation_target
from instep.mirror import search
from instep.mirror.search_text import parse_search_query
from instep.mirror.tables import memberships, organizations, users

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


def get_action_labels(words: Localizer) -> dict[str, str]:
    """What the actions and operations are called that the house knows."""
    _ = words.gettext
    return {
        "invitation.send": _("Invite"),
        "invitation.resend": _("Send invitation again"),
        "invitation.revoke": _("Revoke invitation"),
        "invitation.batch": _("Invite many"),
        "invitation.bulk": _("Invite up to ten"),
        "invitation.link_copied": _("Copy invitation link"),
        "application.invite": _("Invite to the application"),
        "application.resend": _("Send invitation to the application again"),
        "application.revoke": _("Revoke invitation to the application"),
        "member.role": _("Change role"),
        "member.deactivate": _("Deactivate"),
        "member.reactivate": _("Reactivate"),
        "member.remove": _("Remove"),
        "member.leave": _("Leave"),
        "member.restore": _("Restore membership"),
        "member.transfer": _("Hand over the organization"),
        "user.create": _("Create user"),
        "user.delete": _("Delete user"),
        "user.restore": _("Restore user"),
        "user.ban": _("Ban"),
        "user.unban": _("Lift ban"),
        "user.password": _("Set password"),
        "user.sessions": _("End sessions"),
        "profile.edit": _("Edit profile"),
        "profile.email": _("Replace e-mail address"),
        "profile.email.code": _("Send code to a new address"),
        "profile.email.verify": _("Change e-mail address"),
        "profile.reinvite": _("Invite under a new address"),
        "profile.reinvite.application": _("Invite to the application under a new address"),
        "key.created": _("Make key"),
        "key.revoked": _("Revoke key"),
        "member.bulk": _("Change many members"),
        "operation.retry": _("Retry operation"),
        "operation.give_up": _("Give up operation"),
        "impersonation.read": _("Read while acting as somebody else"),
        "impersonation.change": _("Change while acting as somebody else"),
        "session.break_glass": _("Sign in by the break-glass key"),
        "sync.check": _("Check sync"),
        "sync.plan": _("Plan a sync"),
        "sync.apply": _("Apply a plan"),
        "sync.first": _("Take everyone in"),
        "sync.changed": _("Take in the latest changes"),
        "sync.took": _("Took in a part of everyone"),
        "delivery.replay": _("Replay delivery"),
        "instance.rebind": _("Bind to another Clerk instance"),
        "user.seen": _("Person changed in Clerk"),
        "user.gone": _("Person deleted in Clerk"),
        "user.back": _("Person found in Clerk again"),
        "membership.seen": _("Membership changed in Clerk"),
        "membership.gone": _("Membership ended in Clerk"),
        "membership.back": _("Membership found in Clerk again"),
        "organization.seen": _("Organization changed in Clerk"),
        "organization.gone": _("Organization deleted in Clerk"),
        "organization.back": _("Organization found in Clerk again"),
    }


def format_action(key: str, words: Localizer) -> str:
    """An action in words; one that nobody named is called by its key."""
    return get_action_labels(words).get(key) or key.replace(".", " ").replace("_", " ").capitalize()


def format_action_group(key: str, words: Localizer) -> str:
    """A whole family of actions."""
    _ = words.gettext
    named = {
        "invitation": _("Invitations"),
        "member": _("Members"),
        "user": _("Users"),
        "profile": _("Profiles"),
        "membership": _("Memberships in Clerk"),
        "organization": _("Organizations in Clerk"),
        "key": _("Keys"),
        "session": _("Sign-ins by key"),
        "sync": _("Sync"),
        "delivery": _("Deliveries"),
    }
    return named.get(key) or format_action(key, words)


def format_actor(id: str, names: Mapping[str, str], words: Localizer) -> str:
    """Who did it."""
    _ = words.gettext
    ours = {"break_glass": _("Break-glass key"), "clerk": "Clerk", "system": "instep", "api_key": _("A key")}
    return names.get(id) or ours.get(id) or id


def format_actor_with_impersonator(
    id: str, impersonator: str | None, names: Mapping[str, str], words: Localizer
) -> str:
    """Return who did it; where somebody acted as them, both."""
    whom = format_actor(id, names, words)
    if impersonator is None:
        return whom
    return words.gettext("%(who)s as %(whom)s", who=format_actor(impersonator, names, words), whom=whom)


def format_target(text: str, names: Mapping[str, str], words: Localizer) -> str:
    """To whom or what: a name, the address of an invitation, or the id as it is."""
    kind, _, rest = text.partition(":")
    if kind == "invitation" and "@" in rest:
        return rest.partition(":")[2] or rest
    if kind == "batch":
        return words.gettext("A list of people")
    return next((names[id] for id in extract_ids([text]) if id in names), rest or text)


def extract_ids(texts: Iterable[str]) -> list[str]:
    """Every id that may have a name, in texts such as `membership:mbr_1`."""
    return [part for text in texts for part in dict.fromkeys((text, *text.split(":"))) if part]


u, m, o, k = users.c, memberships.c, organizations.c, api_keys.c
_NAME_COLUMNS = (u.first_name, u.last_name, u.username, u.email)
MAX_PEOPLE_FOUND = 8


class PersonMatch(Struct, frozen=True, kw_only=True):
    """Someone whom a reader looks for, with every name under which the records may know them."""

    id: str
    name: str
    email: str | None
    aliases: tuple[str, ...]


def list_names(conn: Conn, ids: Iterable[str]) -> dict[str, str]:
    """What to call people, memberships, organizations and keys (our ids, or Clerk's); unknown ones are left out."""
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
    return {id: _display_name(*names) for ours, theirs, *names in rows for id in (ours, theirs) if id}


def find_people(conn: Conn, words: str, organization_id: str | None) -> list[PersonMatch]:
    """Whom these words mean: an id, or parts of a name or an address; up to eight, in one organization or in all."""
    query = sa.select(u.id, u.clerk_id, *_NAME_COLUMNS)
    if organization_id is not None:
        query = query.where(u.id.in_(sa.select(m.user_id).where(m.organization_id == organization_id)))
    rows = conn.execute(query.where(sa.or_(u.id == words, u.clerk_id == words)).limit(MAX_PEOPLE_FOUND)).all()
    if not rows and (wanted := parse_search_query(words)):
        dialect, has_index = conn.dialect.name, search.has_search_index(conn)
        query = query.where(*search.build_match_conditions(dialect, users, len(wanted)))
        narrowed = query.where(*search.build_index_conditions(dialect, users, len(wanted))) if has_index else query
        by_name = narrowed.order_by(u.sort_name, u.id).limit(MAX_PEOPLE_FOUND)
        rows = conn.execute(by_name, search.build_search_params(conn, users, wanted)).all()
    return [_make_person_match(conn, row) for row in rows]


def _make_person_match(conn: Conn, row: Sequence[Any]) -> PersonMatch:
    id, clerk_id, *names = row
    email = names[-1]
    query = sa.select(m.id, m.clerk_id, o.clerk_id).select_from(memberships.join(organizations))
    aliases = [id, f"user:{id}", clerk_id]
    for membership, clerk_membership, organization in conn.execute(query.where(m.user_id == id)):
        aliases += [membership, f"membership:{membership}", f"standing:{membership}", clerk_membership]
        aliases += [make_invitation_target(organization, email)] if email and organization else []
    known = tuple(dict.fromkeys(it for it in aliases if it))
    return PersonMatch(id=id, name=_display_name(*names), email=email, aliases=known)


def _has_any_id(conn: Conn, table: sa.Table, wanted: list[str]) -> sa.ColumnElement[bool]:
    return sa.or_(is_one_of(conn, table.c.id, wanted), is_one_of(conn, table.c.clerk_id, wanted))


def _display_name(*parts: str | None) -> str:
    """A name alone, or the first of: first and last name, username, address."""
    if len(parts) == 1:
        return parts[0] or ""
    first, last, username, email = parts
    return " ".join(part for part in (first, last) if part) or username or email or ""


class LabelContext(Struct, frozen=True, kw_only=True):
    """How it is read: `names` of ids, `base` the address above both pages, `now`."""

    names: Mapping[str, str]
    base: str
    now: int
