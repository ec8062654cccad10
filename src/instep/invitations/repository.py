"""SQL of invitations: send records, lost invitations, batches, link copies and invitees."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from instep.audit.tables import audit
from instep.auth.principal import OrganizationAccess
from instep.auth.tables import sessions
from instep.core.clock import DAY
from instep.core.db import Conn
from instep.core.sql import is_one_of
from instep.domain.emails import canonicalize_email, list_stored_forms
from instep.domain.models import PRESENT_STATUSES, LostInvitation
from instep.invitations import models
from instep.invitations.models import (
    AddressMembershipStatus,
    InvitationLinkCopy,
    InvitationSendRecord,
    InviteeMembership,
)
from instep.mirror.tables import memberships, users
from instep.operations.tables import operations
from instep.operations.workflow import Operation


def list_recent_send_records(conn: Conn, access: OrganizationAccess, *, now: int) -> list[models.InvitationSendRecord]:
    """What counts against the limits."""
    return list_send_records(conn, organization_id=access.organization_id, actor=access.principal.id, since=now - DAY)


c, m, u = operations.c, memberships.c, users.c
_OPERATION_COLUMNS = tuple(c[name] for name in Operation.__struct_fields__)
_UNFINISHED_STATES: tuple[sa.ColumnElement[str], ...] = (  # as the index has it, not as values
    sa.literal_column("'open'"),
    sa.literal_column("'attention'"),
)
_COUNTED_KINDS = (models.SEND_KIND, models.RESEND_KIND, models.BATCH_KIND, "application.invite", "application.resend")
NO_ADDRESS_HOLDERS: Mapping[str, str] = {}


def list_send_records(conn: Conn, *, organization_id: str, actor: str, since: int) -> list[InvitationSendRecord]:
    """What was sent, or is being sent, since then: by this person anywhere, and by anyone in this organization."""
    query = sa.select(c.kind, c.actor, c.organization_id, c.intent, c.asked_at).where(
        c.asked_at > since,
        c.kind.in_(_COUNTED_KINDS),
        c.state.in_(("open", "settled", "attention")),
        sa.or_(c.organization_id == organization_id, c.actor == actor),
    )
    return [
        InvitationSendRecord(
            at=asked_at,
            actor=by,
            is_here=where == organization_id,
            is_resend=kind in (models.RESEND_KIND, "application.resend"),
            emails=_list_intent_emails(intent),
        )
        for kind, by, where, intent, asked_at in conn.execute(query)
    ]


def _list_intent_emails(intent: Any) -> tuple[str, ...]:
    if "rows" in intent:
        return tuple(canonicalize_email(row["email"]) for row in intent["rows"] if not row.get("code"))
    return (canonicalize_email(intent["email"]),)


def list_lost_invitations(conn: Conn, organization_id: str) -> list[LostInvitation]:
    """Invitations that got lost between revoking and making anew; not those whose address was invited again since."""
    later = operations.alias("later")
    again = sa.exists().where(later.c.target == c.target, later.c.id > c.id, later.c.state == "settled")
    query = sa.select(*_OPERATION_COLUMNS).where(
        c.organization_id == organization_id,
        c.state.in_(_UNFINISHED_STATES),
        c.kind == models.RESEND_KIND,
        sa.not_(again),
    )
    found = [Operation(**row._mapping) for row in conn.execute(query.order_by(c.id.desc()))]
    return [_build_lost_invitation(it) for it in found if models.is_lost(it) and (it.state == "attention" or it.reason)]


def _build_lost_invitation(operation: Operation) -> LostInvitation:
    return LostInvitation(
        operation_id=operation.id,
        invitation_id=operation.intent["invitation"],
        email=operation.intent["email"],
        role=operation.intent["role"],
        reason=operation.reason or models.LOST_INVITATION_MESSAGE,
        is_retrying=operation.state == "open",
        lost_at=operation.changed_at,
    )


def list_batch_parts(conn: Conn, operation: Operation, *, count: int) -> list[Operation]:
    """The bulk calls of a batch, in their order; fewer than `count` where they are not opened yet."""
    targets = [models.get_batch_part_target(operation.id, number) for number in range(count)]
    query = sa.select(*_OPERATION_COLUMNS).where(is_one_of(conn, c.target, targets)).order_by(c.id)
    found = {it.target: it for row in conn.execute(query) for it in [Operation(**row._mapping)]}
    return [found[target] for target in targets if target in found]


def list_bulk_call_times(conn: Conn, *, since: int) -> list[int]:
    """When bulk calls are planned or were, since then; in the whole instance, as Clerk counts them."""
    query = sa.select(c.intent).where(c.kind == models.BATCH_PART_KIND, c.asked_at > since - DAY)
    return [intent["start_at"] for intent in conn.execute(query).scalars() if intent["start_at"] > since]


def list_address_membership_statuses(
    conn: Conn, organization_id: str, emails: Iterable[str], holders: Mapping[str, str] = NO_ADDRESS_HOLDERS
) -> list[AddressMembershipStatus]:
    """Return which of these canonical addresses belong, or belonged, to the organization; the best of each.

    `holders` are Clerk's users who have other addresses than the one that the mirror knows.
    """
    email = sa.func.lower(u.email)
    forms = sorted({form for it in emails for form in list_stored_forms(it)})
    is_known = sa.or_(is_one_of(conn, email, forms), is_one_of(conn, u.clerk_id, sorted(set(holders.values()))))
    query = (
        sa.select(email, u.clerk_id, m.status)
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, is_known)
    )
    ranks = {**dict.fromkeys(PRESENT_STATUSES, 0), "deactivated": 1, "removed": 2}
    words = {**dict.fromkeys(PRESENT_STATUSES, "member"), "deactivated": "deactivated", "removed": "former"}
    also: dict[str, list[str]] = {}
    for address, clerk_id in holders.items():
        also.setdefault(clerk_id, []).append(address)
    best: dict[str, str] = {}
    for address, clerk_id, status in sorted(conn.execute(query), key=lambda row: -ranks.get(row[2], 3)):
        best |= dict.fromkeys([canonicalize_email(address), *also.get(clerk_id, ())], words.get(status, "former"))
    return [AddressMembershipStatus(email=address, status=status) for address, status in best.items()]


def list_operations(conn: Conn, *, targets: Sequence[str], ids: Sequence[str] = ()) -> list[Operation]:
    """Every operation on these targets, and those with these ids, oldest first."""
    is_wanted = sa.or_(is_one_of(conn, c.target, targets), is_one_of(conn, c.id, ids))
    query = sa.select(*_OPERATION_COLUMNS).where(is_wanted).order_by(c.id)
    return [Operation(**row._mapping) for row in conn.execute(query)]


def find_invited_email(conn: Conn, organization_id: str, invitation: str) -> str | None:
    """The address of an invitation that we made or ended, where Clerk has it no more."""
    is_it = sa.or_(c.done["create"]["id"].as_string() == invitation, c.intent["invitation"].as_string() == invitation)
    query = sa.select(c.intent["email"].as_string()).where(c.organization_id == organization_id, is_it).limit(1)
    found: str | None = conn.execute(query).scalar()
    return found


def list_link_copies(conn: Conn, target: str, *, action: str) -> list[InvitationLinkCopy]:
    """When the links of the invitations of one address were copied."""
    query = sa.select(audit.c.at, audit.c.actor, audit.c.details).where(
        audit.c.target == target, audit.c.action == action
    )
    return [
        InvitationLinkCopy(at=at, actor=actor, invitation=details.get("invitation", ""))
        for at, actor, details in conn.execute(query.order_by(audit.c.id))
    ]


def find_invitee_membership(
    conn: Conn, organization_id: str, *, clerk_user_id: str | None, email: str
) -> InviteeMembership | None:
    """The newest belonging of the person who accepted; by Clerk's id of them where it tells, else by the address."""
    is_theirs = u.clerk_id == clerk_user_id if clerk_user_id else sa.func.lower(u.email).in_(list_stored_forms(email))
    seen = sa.select(sa.func.min(sessions.c.created_at)).where(sessions.c.clerk_user_id == u.clerk_id)
    made = sa.select(sa.func.min(audit.c.at)).where(audit.c.target == m.clerk_id, audit.c.action == "membership.seen")
    query = (
        sa.select(
            u.id, m.joined_at, made.scalar_subquery(), sa.func.coalesce(seen.scalar_subquery(), u.last_sign_in_at)
        )
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, is_theirs)
        .order_by(m.joined_at.desc(), m.id.desc())
        .limit(1)
    )
    row = conn.execute(query).first()
    return InviteeMembership(user_id=row[0], joined_at=row[1], made_at=row[2], first_seen_at=row[3]) if row else None


def get_person_names(conn: Conn, ids: Iterable[str]) -> dict[str, str]:
    """What to call these people (our ids, or Clerk's); those whom the mirror does not know are left out."""
    wanted = sorted(set(ids))
    is_one = sa.or_(is_one_of(conn, u.id, wanted), is_one_of(conn, u.clerk_id, wanted))
    found: dict[str, str] = {}
    for id, clerk_id, first, last, username, email in conn.execute(
        sa.select(u.id, u.clerk_id, u.first_name, u.last_name, u.username, u.email).where(is_one)
    ):
        name = " ".join(part for part in (first, last) if part) or username or email or id
        found |= {id: name, clerk_id: name} if clerk_id else {id: name}
    return found


def is_active_manager(conn: Conn, organization_id: str, clerk_user_id: str, roles: Sequence[str]) -> bool:
    """Whether this user of Clerk is active here, in a role that may invite."""
    query = (
        sa.select(m.id)
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, u.clerk_id == clerk_user_id, m.status == "active")
        .where(m.role.in_(roles))
    )
    return conn.execute(query.limit(1)).first() is not None
