"""Types of invitations; batch progress and invitation history derived from operations."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from instep.core.i18n import lazy_gettext
from instep.domain.models import MEMBER_ROLE, ClerkId, ClerkInvitation
from instep.operations.workflow import JsonObject, Operation, OperationIntent, TypedOperation

SEND_KIND = "invitation.send"
RESEND_KIND = "invitation.resend"
REVOKE_KIND = "invitation.revoke"
BATCH_KIND = "invitation.batch"
BATCH_PART_KIND = "invitation.bulk"
APPLICATION_INVITE_KIND = "application.invite"
APPLICATION_RESEND_KIND = "application.resend"
APPLICATION_REVOKE_KIND = "application.revoke"
LINK_COPIED_ACTION = "invitation.link_copied"

ALL_STATUSES = ("pending", "accepted", "revoked", "expired")
DEFAULT_EXPIRY_DAYS = 7
MAX_EXPIRY_DAYS = 365
BULK_CALL_SIZE = 10
OPERATION_METADATA_KEY = "instep_operation"
NAME_METADATA_KEY = "name"
LOST_INVITATION_MESSAGE = lazy_gettext(
    "The old invitation was revoked, but the new one could not be created. Send it again."
)


# Intents of operations


class SendIntent(OperationIntent, frozen=True, kw_only=True):
    """Send an invitation: `organization` is Clerk's id; the other fields are those of NewClerkInvitation."""

    organization: ClerkId
    email: str
    role: str
    expires_in_days: int
    notify: bool = True
    inviter: ClerkId | None = None
    redirect_url: str | None = None
    public_metadata: JsonObject | UnsetType = UNSET
    private_metadata: JsonObject | UnsetType = UNSET


class ResendIntent(SendIntent, frozen=True, kw_only=True):
    """Revoke `invitation` (Clerk's id), which had this `status`, and send a new one. `by` is the revoking user."""

    invitation: ClerkId
    status: str
    by: ClerkId | None = None


class RevokeIntent(OperationIntent, frozen=True, kw_only=True):
    """Revoke `invitation` (Clerk's id). `by` is the revoking user."""

    organization: ClerkId
    invitation: ClerkId
    email: str
    by: ClerkId | None = None


class BatchRow(Struct, frozen=True, kw_only=True):
    """A person of a batch, the `n`-th. A row with a `code` is skipped, for the `reason`."""

    n: int
    email: str
    role: str
    name: str | UnsetType | None = UNSET
    code: str | UnsetType | None = UNSET
    reason: str | UnsetType | None = UNSET


class BatchIntent(OperationIntent, frozen=True, kw_only=True):
    """Invite the people of `rows` to `organization` (Clerk's id)."""

    organization: ClerkId
    rows: list[BatchRow]
    expires_in_days: int
    notify: bool = True
    inviter: ClerkId | None = None
    redirect_url: str | None = None


class BatchPartIntent(BatchIntent, frozen=True, kw_only=True):
    """Send up to ten rows of the operation `batch`, not before `start_at` (Unix ms)."""

    batch: str
    start_at: int


class ApplicationInviteIntent(OperationIntent, frozen=True, kw_only=True):
    """Invite to the application: the fields of NewClerkApplicationInvitation."""

    email: str
    expires_in_days: int
    notify: bool
    redirect_url: str | None
    public_metadata: JsonObject


class ApplicationResendIntent(ApplicationInviteIntent, frozen=True, kw_only=True):
    """Revoke `invitation` (Clerk's id) unless it has expired, and send a new one."""

    invitation: ClerkId


class ApplicationRevokeIntent(OperationIntent, frozen=True, kw_only=True):
    """Revoke `invitation` (Clerk's id)."""

    invitation: ClerkId


# Values


class ApplicationInvitationRequest(Struct, frozen=True, kw_only=True):
    """An invitation to the application.

    `role` is a role of the application, or of `organization` (id or slug of a local organization) where that is given.
    """

    email: str
    role: str = "member"
    organization: str | None = None
    expires_in_days: int = DEFAULT_EXPIRY_DAYS
    notify: bool = True


class InvitationSendRecord(Struct, frozen=True, kw_only=True):
    """A sent or scheduled invitation that counts against the limits: time, sender and canonical addresses.

    `is_here`: it was sent in the organization that is being checked.
    """

    sent_at: int
    actor: str
    is_here: bool
    is_resend: bool
    emails: tuple[str, ...]


class AddressMembershipStatus(Struct, frozen=True, kw_only=True):
    """Membership status of an address in one organization: `member`, `deactivated` or `former`."""

    email: str
    status: str


# Lists of invitees and batches


class InviteeInput(Struct, frozen=True, kw_only=True):
    """A person to invite, as entered."""

    email: str
    role: str = MEMBER_ROLE
    name: str | None = None


InviteeVerdict = Literal["new", "former", "member", "invited", "invalid", "duplicate", "over_seats"]
INVITABLE_VERDICTS = ("new", "former")


class InviteeDecision(Struct, frozen=True, kw_only=True):
    """Decision about one invitee: the verdict, and a sentence that explains it."""

    email: str
    role: str
    name: str | None
    verdict: InviteeVerdict
    note: str

    @property
    def is_sent(self) -> bool:
        """Return whether this person would be invited."""
        return self.verdict in INVITABLE_VERDICTS


class InvitationBatchPreview(Struct, frozen=True, kw_only=True):
    """Preview of a batch: a decision per invitee, the number that would be sent, and the seats.

    `refusal` is the reason why the batch cannot be sent now, if any.
    """

    lines: tuple[InviteeDecision, ...]
    sent: int
    seats: int | None
    seats_used: int
    refusal: str | None


BatchRowStatus = Literal["queued", "sent", "refused", "skipped"]


class InvitationBatchRowResult(Struct, frozen=True, kw_only=True):
    """Result of one address of a batch. `code` and `reason` explain `refused` and `skipped`."""

    email: str
    role: str
    name: str | None = None
    status: BatchRowStatus
    invitation_id: str | None = None
    code: str | None = None
    reason: str | None = None


class InvitationBatchProgress(Struct, frozen=True, kw_only=True):
    """Progress of a batch. `id` is the id of its operation; `done` counts the rows that are not queued."""

    id: str
    organization_id: str
    asked_at: int
    total: int
    done: int
    sent: int
    rows: tuple[InvitationBatchRowResult, ...]

    @property
    def is_done(self) -> bool:
        """Return whether no row is queued."""
        return self.done == self.total


def get_batch_part_target(batch_id: str, number: int) -> str:
    """Return the operation target of one part of a batch."""
    return f"batch:{batch_id}:{number}"


def list_batch_rows(operation: Operation) -> list[BatchRow]:
    """Return the rows in the stored intent of a batch or of a part of one."""
    return msgspec.convert(operation.intent["rows"], list[BatchRow])


def split_into_parts(rows: Sequence[BatchRow]) -> list[list[BatchRow]]:
    """Return the rows to send, in parts of ten, as many as one bulk call takes."""
    to_send = [row for row in rows if not row.code]
    return [to_send[start : start + BULK_CALL_SIZE] for start in range(0, len(to_send), BULK_CALL_SIZE)]


def build_batch_progress(operation: Operation, parts: Sequence[Operation]) -> InvitationBatchProgress:
    """Build the progress of a batch from its operation and the operations of its parts."""
    outcomes = {row.n: outcome for part in parts for row, outcome in zip(*_list_rows_and_outcomes(part), strict=True)}
    rows = tuple(_build_row_result(row, outcomes.get(row.n)) for row in list_batch_rows(operation))
    return InvitationBatchProgress(
        id=operation.id,
        organization_id=operation.organization_id or "",
        asked_at=operation.asked_at,
        total=len(rows),
        done=sum(row.status != "queued" for row in rows),
        sent=sum(row.status == "sent" for row in rows),
        rows=rows,
    )


def list_part_results(part: Operation) -> list[Any]:
    """Return a result per row of a part: an invitation, a refusal (has a `code`), or None while unknown."""
    created = part.done.get("bulk", {}).get("rows") or [None] * len(part.intent["rows"])
    remaining = part.done.get("rest", {}).get("rows") or created
    return [one or other for one, other in zip(created, remaining, strict=True)]


def _list_rows_and_outcomes(part: Operation) -> tuple[list[BatchRow], list[Any]]:
    failure = None if part.state in ("open", "settled") else {"code": part.code or part.state, "reason": part.reason}
    return list_batch_rows(part), [result or failure for result in list_part_results(part)]


def _build_row_result(row: BatchRow, outcome: Any) -> InvitationBatchRowResult:
    fields: JsonObject = {"email": row.email, "role": row.role, "name": row.name or None}
    if row.code:
        return InvitationBatchRowResult(**fields, status="skipped", code=row.code, reason=row.reason or None)
    if outcome is None:
        return InvitationBatchRowResult(**fields, status="queued")
    if outcome.get("code"):
        return InvitationBatchRowResult(**fields, status="refused", code=outcome["code"], reason=outcome.get("reason"))
    return InvitationBatchRowResult(**fields, status="sent", invitation_id=outcome["id"])


# History of an invitation

InvitationHistoryEventType = Literal[
    "asked", "sent", "link_copied", "resent", "lost", "revoked", "expired", "accepted", "member_made", "first_seen"
]


class InvitationHistoryEvent(Struct, frozen=True, kw_only=True):
    """Event in the history of an invitation. `actor` is None for changes made outside of instep.

    `invitation_id` is Clerk's id; for a resend it is the new one, and `previous_invitation_id` the old one.
    """

    at: int
    what: InvitationHistoryEventType
    actor: str | None = None
    invitation_id: str | None = None
    previous_invitation_id: str | None = None


class InvitationHistory(Struct, frozen=True, kw_only=True):
    """History of an invitation, oldest event first; `names` are the actors' display names by id."""

    email: str
    events: tuple[InvitationHistoryEvent, ...]
    names: dict[str, str]


class InvitationLinkCopy(Struct, frozen=True, kw_only=True):
    """Audit record of a copied invitation link."""

    copied_at: int
    actor: str
    invitation_id: str


class InviteeMembership(Struct, frozen=True, kw_only=True):
    """Membership of an invitee: the start according to Clerk, the insertion of our row, the first session here."""

    user_id: str
    joined_at: int
    created_at: int | None
    first_seen_at: int | None


class InvitationHistorySources(Struct, frozen=True, kw_only=True):
    """Records about the invitations of one address, from Clerk and from the database."""

    invitations: Sequence[ClerkInvitation]
    operations: Sequence[Operation]
    link_copies: Sequence[InvitationLinkCopy]
    membership: InviteeMembership | None


def is_lost(operation: TypedOperation[Any]) -> bool:
    """Return whether a resend revoked the old invitation and has not recorded a new one."""
    return "create" not in operation.done and bool(operation.done.get("revoke"))


def build_history(invitation_id: str, sources: InvitationHistorySources, *, now: int) -> list[InvitationHistoryEvent]:
    """Return the events of an invitation and of those linked to it by resends, oldest first."""
    chain = find_resend_chain(invitation_id, sources.operations)
    events = [*_list_operation_events(chain, sources), *_list_clerk_events(chain, sources, now)]
    events += [
        InvitationHistoryEvent(
            at=copy.copied_at, what="link_copied", actor=copy.actor, invitation_id=copy.invitation_id
        )
        for copy in sources.link_copies
        if copy.invitation_id in chain
    ]
    is_accepted = any(it.status == "accepted" and it.clerk_id in chain for it in sources.invitations)
    events += _list_membership_events(sources.membership) if sources.membership and is_accepted else []
    return sorted(events, key=lambda event: event.at)


def find_resend_chain(invitation_id: str, operations: Sequence[Operation]) -> set[str]:
    """Return the ids of the invitations that are linked to this one by resends, itself included."""
    links = [(it.intent["invitation"], _get_created_id(it)) for it in operations if it.kind == RESEND_KIND]
    chain = {invitation_id}
    for _ in links:
        chain |= {one for old, new in links if {old, new} & chain for one in (old, new) if one}
    return chain


def list_operation_ids(invitations: Sequence[ClerkInvitation]) -> list[str]:
    """Return the ids of the operations that created these invitations, from their private metadata."""
    marks = [it.private_metadata.get(OPERATION_METADATA_KEY) for it in invitations]
    return [mark.partition(":")[0] for mark in marks if isinstance(mark, str)]


def _list_operation_events(chain: set[str], sources: InvitationHistorySources) -> Iterator[InvitationHistoryEvent]:
    created = {mark: it.clerk_id for it in sources.invitations for mark in list_operation_ids([it])}
    for it in sources.operations:
        old, new = it.intent.get("invitation"), _get_created_id(it) or created.get(it.id)
        if it.kind in (SEND_KIND, BATCH_PART_KIND) and new in chain:
            yield InvitationHistoryEvent(at=it.asked_at, what="asked", actor=it.actor, invitation_id=new)
        elif it.kind == RESEND_KIND and old in chain and new:
            yield InvitationHistoryEvent(
                at=it.changed_at, what="resent", actor=it.actor, invitation_id=new, previous_invitation_id=old
            )
        elif it.kind == RESEND_KIND and old in chain and is_lost(it):
            yield InvitationHistoryEvent(at=it.changed_at, what="lost", actor=it.actor, invitation_id=old)
        elif it.kind == REVOKE_KIND and old in chain and it.state == "settled":
            yield InvitationHistoryEvent(at=it.changed_at, what="revoked", actor=it.actor, invitation_id=old)


def _list_clerk_events(
    chain: set[str], sources: InvitationHistorySources, now: int
) -> Iterator[InvitationHistoryEvent]:
    revoked_here = {it.intent.get("invitation") for it in sources.operations if it.done.get("revoke")}
    resent_here = {_get_created_id(it) for it in sources.operations if it.kind == RESEND_KIND}
    for it in sources.invitations:
        if it.clerk_id not in chain:
            continue
        if it.clerk_id not in resent_here:
            yield InvitationHistoryEvent(at=it.created_at, what="sent", invitation_id=it.clerk_id)
        has_expired = it.expires_at is not None and it.expires_at <= now
        if it.status == "expired" or (it.status == "pending" and has_expired):
            yield InvitationHistoryEvent(at=it.expires_at or it.updated_at, what="expired", invitation_id=it.clerk_id)
        elif it.status == "accepted":
            yield InvitationHistoryEvent(at=it.updated_at, what="accepted", invitation_id=it.clerk_id)
        elif it.status == "revoked" and it.clerk_id not in revoked_here:
            yield InvitationHistoryEvent(at=it.updated_at, what="revoked", invitation_id=it.clerk_id)


def _list_membership_events(membership: InviteeMembership) -> list[InvitationHistoryEvent]:
    user_id, joined_at, first_seen_at = membership.user_id, membership.joined_at, membership.first_seen_at
    events = [InvitationHistoryEvent(at=membership.created_at or joined_at, what="member_made", actor=user_id)]
    if first_seen_at is not None and first_seen_at >= joined_at:
        events.append(InvitationHistoryEvent(at=first_seen_at, what="first_seen", actor=user_id))
    return events


def _get_created_id(operation: Operation) -> str | None:
    created_id: str | None = operation.done.get("create", {}).get("id")
    return created_id
