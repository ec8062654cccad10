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

c, m, u = operations.c, memberships.c, users.c
_OPERATION_COLUMNS = tuple(c[name] for name in Operation.__struct_fields__)
_UNFINISHED_STATES: tuple[sa.ColumnElement[str], ...] = (  # literals as in the partial index, not bound values
    sa.literal_column("'open'"),
    sa.literal_column("'attention'"),
)
_RESEND_KINDS = (models.RESEND_KIND, models.APPLICATION_RESEND_KIND)
_COUNTED_KINDS = (models.SEND_KIND, models.BATCH_KIND, models.APPLICATION_INVITE_KIND, *_RESEND_KINDS)
NO_ADDRESS_HOLDERS: Mapping[str, str] = {}


def list_recent_send_records(conn: Conn, access: OrganizationAccess, *, now: int) -> list[InvitationSendRecord]:
    """Return the records of the last 24 hours that count against this person's and this organization's limits."""
    return list_send_records(conn, organization_id=access.organization_id, actor=access.principal.id, since=now - DAY)


def list_send_records(conn: Conn, *, organization_id: str, actor: str, since: int) -> list[InvitationSendRecord]:
    """Return what this actor sent anywhere and anyone sent in this organization since then, also unfinished ones."""
    query = sa.select(c.kind, c.actor, c.organization_id, c.intent, c.asked_at).where(
        c.asked_at > since,
        c.kind.in_(_COUNTED_KINDS),
        c.state.in_(("open", "settled", "attention")),
        sa.or_(c.organization_id == organization_id, c.actor == actor),
    )
    return [
        InvitationSendRecord(
            sent_at=asked_at,
            actor=sender,
            is_here=sender_organization_id == organization_id,
            is_resend=kind in _RESEND_KINDS,
            emails=_list_intent_emails(intent),
        )
        for kind, sender, sender_organization_id, intent, asked_at in conn.execute(query)
    ]


def _list_intent_emails(intent: Any) -> tuple[str, ...]:
    """Return the addresses of a stored intent; none of one that cannot be read."""
    rows = intent.get("rows", [intent])
    return tuple(canonicalize_email(row["email"]) for row in rows if row.get("email") and not row.get("code"))


def list_lost_invitations(conn: Conn, organization_id: str) -> list[LostInvitation]:
    """Return the lost invitations of an organization, newest first; not those whose address was invited again since."""
    later = operations.alias("later")
    was_invited_again = sa.exists().where(later.c.target == c.target, later.c.id > c.id, later.c.state == "settled")
    query = sa.select(*_OPERATION_COLUMNS).where(
        c.organization_id == organization_id,
        c.state.in_(_UNFINISHED_STATES),
        c.kind == models.RESEND_KIND,
        sa.not_(was_invited_again),
    )
    found = [Operation(**row._mapping) for row in conn.execute(query.order_by(c.id.desc()))]
    return [_build_lost_invitation(it) for it in found if models.is_lost(it) and (it.state == "attention" or it.reason)]


def _build_lost_invitation(operation: Operation) -> LostInvitation:
    return LostInvitation(
        operation_id=operation.id,
        invitation_id=operation.intent["invitation"],
        email=operation.intent["email"],
        role=operation.intent["role"],
        reason=operation.reason or str(models.LOST_INVITATION_MESSAGE),
        is_retrying=operation.state == "open",
        lost_at=operation.changed_at,
    )


def list_batch_parts(conn: Conn, operation: Operation, *, count: int) -> list[Operation]:
    """Return the part operations of a batch in order; fewer than `count` while some are not inserted yet."""
    targets = [models.get_batch_part_target(operation.id, number) for number in range(count)]
    query = sa.select(*_OPERATION_COLUMNS).where(is_one_of(conn, c.target, targets)).order_by(c.id)
    found = {it.target: it for row in conn.execute(query) for it in [Operation(**row._mapping)]}
    return [found[target] for target in targets if target in found]


def list_bulk_call_times(conn: Conn, *, since: int) -> list[int]:
    """Return the times of past and planned bulk calls since then, of the whole instance, as Clerk counts them."""
    query = sa.select(c.intent).where(c.kind == models.BATCH_PART_KIND, c.asked_at > since - DAY)
    starts = [intent.get("start_at", 0) for intent in conn.execute(query).scalars()]
    return [start for start in starts if start > since]


def list_address_membership_statuses(
    conn: Conn, organization_id: str, emails: Iterable[str], holders: Mapping[str, str] = NO_ADDRESS_HOLDERS
) -> list[AddressMembershipStatus]:
    """Return the membership status of the canonical addresses that belong, or belonged, to the organization.

    Of several memberships of an address the present one counts. `holders` are Clerk's user ids by address, for
    addresses that the mirror does not know (it has only the primary one).
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
    statuses = {**dict.fromkeys(PRESENT_STATUSES, "member"), "deactivated": "deactivated", "removed": "former"}
    other_addresses: dict[str, list[str]] = {}
    for address, clerk_id in holders.items():
        other_addresses.setdefault(clerk_id, []).append(address)
    best: dict[str, str] = {}
    for address, clerk_id, status in sorted(conn.execute(query), key=lambda row: -ranks.get(row[2], 3)):
        addresses = [canonicalize_email(address), *other_addresses.get(clerk_id, ())]
        best |= dict.fromkeys(addresses, statuses.get(status, "former"))
    return [AddressMembershipStatus(email=address, status=status) for address, status in best.items()]


def list_operations(conn: Conn, *, targets: Sequence[str], operation_ids: Sequence[str] = ()) -> list[Operation]:
    """Return every operation on these targets, and those with these ids, oldest first."""
    is_match = sa.or_(is_one_of(conn, c.target, targets), is_one_of(conn, c.id, operation_ids))
    query = sa.select(*_OPERATION_COLUMNS).where(is_match).order_by(c.id)
    return [Operation(**row._mapping) for row in conn.execute(query)]


def find_invited_email(conn: Conn, organization_id: str, invitation_id: str) -> str | None:
    """Return the address of an invitation that instep created or ended, for one that Clerk no longer has."""
    is_match = sa.or_(
        c.done["create"]["id"].as_string() == invitation_id, c.intent["invitation"].as_string() == invitation_id
    )
    query = sa.select(c.intent["email"].as_string()).where(c.organization_id == organization_id, is_match).limit(1)
    email: str | None = conn.execute(query).scalar()
    return email


def list_link_copies(conn: Conn, target: str) -> list[InvitationLinkCopy]:
    """Return the audit records of copied links of one address's invitations, oldest first."""
    query = sa.select(audit.c.at, audit.c.actor, audit.c.details).where(
        audit.c.target == target, audit.c.action == models.LINK_COPIED_ACTION
    )
    return [
        InvitationLinkCopy(copied_at=at, actor=actor, invitation_id=details.get("invitation", ""))
        for at, actor, details in conn.execute(query.order_by(audit.c.id))
    ]


def find_invitee_membership(
    conn: Conn, organization_id: str, *, clerk_user_id: str | None, email: str
) -> InviteeMembership | None:
    """Return the newest membership of the invitee, found by Clerk's user id, or by the address if that is None."""
    is_invitee = u.clerk_id == clerk_user_id if clerk_user_id else sa.func.lower(u.email).in_(list_stored_forms(email))
    first_session = sa.select(sa.func.min(sessions.c.created_at)).where(sessions.c.clerk_user_id == u.clerk_id)
    row_created = sa.select(sa.func.min(audit.c.at)).where(
        audit.c.target == m.clerk_id, audit.c.action == "membership.seen"
    )
    query = (
        sa.select(
            u.id,
            m.joined_at,
            row_created.scalar_subquery(),
            sa.func.coalesce(first_session.scalar_subquery(), u.last_sign_in_at),
        )
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, is_invitee)
        .order_by(m.joined_at.desc(), m.id.desc())
        .limit(1)
    )
    row = conn.execute(query).first()
    return InviteeMembership(user_id=row[0], joined_at=row[1], created_at=row[2], first_seen_at=row[3]) if row else None


def get_person_names(conn: Conn, user_ids: Iterable[str]) -> dict[str, str]:
    """Return display names by id for our ids or Clerk's user ids; unknown ones are left out."""
    wanted = sorted(set(user_ids))
    is_match = sa.or_(is_one_of(conn, u.id, wanted), is_one_of(conn, u.clerk_id, wanted))
    names: dict[str, str] = {}
    for user_id, clerk_id, first, last, username, email in conn.execute(
        sa.select(u.id, u.clerk_id, u.first_name, u.last_name, u.username, u.email).where(is_match)
    ):
        name = " ".join(part for part in (first, last) if part) or username or email or user_id
        names |= {user_id: name, clerk_id: name} if clerk_id else {user_id: name}
    return names


def is_active_manager(conn: Conn, organization_id: str, clerk_user_id: str, roles: Sequence[str]) -> bool:
    """Return whether a user, by Clerk's id, is an active member in one of these roles."""
    query = (
        sa.select(m.id)
        .select_from(memberships.join(users, u.id == m.user_id))
        .where(m.organization_id == organization_id, u.clerk_id == clerk_user_id, m.status == "active")
        .where(m.role.in_(roles))
    )
    return conn.execute(query.limit(1)).first() is not None
