"""Types of invitations; batch progress and invitation history derived from operations."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from instep.domain.models import MEMBER_ROLE, ClerkInvitation
from instep.domain.ports import ApplicationInvitationsApi, ClerkReader, OrganizationsApi
from instep.operations.workflow import JsonObject, Operation

DEFAULT_EXPIRY_DAYS = 7


class ApplicationInvitationRequest(Struct, frozen=True, kw_only=True):
    """An invitation to the application. `role` is theirs in it, or in `organization`: a local one (id or slug)."""

    email: str
    role: str = "member"
    organization: str | None = None
    expires_in_days: int = DEFAULT_EXPIRY_DAYS
    notify: bool = True


APPLICATION_INVITE_KIND = "application.invite"
APPLICATION_RESEND_KIND = "application.resend"
APPLICATION_REVOKE_KIND = "application.revoke"
BATCH_KIND = "invitation.batch"
BATCH_PART_KIND = "invitation.bulk"
BatchRowStatus = Literal["queued", "sent", "refused", "skipped"]


class InvitationBatchRowResult(Struct, frozen=True, kw_only=True):
    """One address of a batch and how it stands. `code` and `reason` say why it was refused or skipped."""

    email: str
    role: str
    name: str | None = None
    status: BatchRowStatus
    invitation_id: str | None = None
    code: str | None = None
    reason: str | None = None


class InvitationBatchProgress(Struct, frozen=True, kw_only=True):
    """Many invitations. `id` is that of the operation which asked for them; `done` counts what is not queued."""

    id: str
    organization_id: str
    asked_at: int
    total: int
    done: int
    sent: int
    rows: tuple[InvitationBatchRowResult, ...]

    @property
    def is_done(self) -> bool:
        """Whether nothing is queued any more."""
        return self.done == self.total


def get_batch_part_target(batch: str, number: int) -> str:
    """What one part of a batch is about."""
    return f"batch:{batch}:{number}"


def split_into_parts(rows: Sequence[JsonObject]) -> list[list[JsonObject]]:
    """The rows that are to be sent, by tens."""
    wanted = [row for row in rows if not row.get("code")]
    return [wanted[at : at + BULK_CALL_SIZE] for at in range(0, len(wanted), BULK_CALL_SIZE)]


def build_batch_progress(operation: Operation, parts: Sequence[Operation]) -> InvitationBatchProgress:
    """How a batch stands, by the operation that asked for it and those that carry it out."""
    outcomes = {
        row["n"]: outcome for part in parts for row, outcome in zip(*_list_rows_and_outcomes(part), strict=True)
    }
    rows = tuple(_build_row_result(row, outcomes.get(row["n"])) for row in operation.intent["rows"])
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
    """What is known of each row of a part: an invitation, a refusal (with a code), or nothing yet."""
    made = part.done.get("bulk", {}).get("rows") or [None] * len(part.intent["rows"])
    rest = part.done.get("rest", {}).get("rows") or made
    return [one or other for one, other in zip(made, rest, strict=True)]


def _list_rows_and_outcomes(part: Operation) -> tuple[list[JsonObject], list[Any]]:
    ended = None if part.state in ("open", "settled") else {"code": part.code or part.state, "reason": part.reason}
    return part.intent["rows"], [it or ended for it in list_part_results(part)]


def _build_row_result(row: JsonObject, outcome: Any) -> InvitationBatchRowResult:
    known = {"email": row["email"], "role": row["role"], "name": row.get("name")}
    if row.get("code"):
        return InvitationBatchRowResult(**known, status="skipped", code=row["code"], reason=row.get("reason"))
    if outcome is None:
        return InvitationBatchRowResult(**known, status="queued")
    if outcome.get("code"):
        return InvitationBatchRowResult(**known, status="refused", code=outcome["code"], reason=outcome.get("reason"))
    return InvitationBatchRowResult(**known, status="sent", invitation_id=outcome["id"])


class ClerkInvitationsApi(OrganizationsApi, ClerkReader, ApplicationInvitationsApi, Protocol):
    """What this slice needs of the provider."""


class InvitationRequest(Struct, frozen=True, kw_only=True):
    """An invitation as someone asks for it. `role` None: the default one; `notify` False: send no mail."""

    email: str
    role: str | None = None
    expires_in_days: int = DEFAULT_EXPIRY_DAYS
    notify: bool = True
    name: str | None = None


BULK_CALL_SIZE = 10


class InvitationSendRecord(Struct, frozen=True, kw_only=True):
    """What was asked for before: when, by whom, to which addresses (lower case), and whether in this organization."""

    at: int
    actor: str
    is_here: bool
    is_resend: bool
    emails: tuple[str, ...]


LINK_COPIED_ACTION = "invitation.link_copied"
InviteeVerdict = Literal["new", "former", "member", "invited", "invalid", "duplicate", "over_seats"]


class InviteeDecision(Struct, frozen=True, kw_only=True):
    """What would become of one wish: `verdict`, and a sentence about it."""

    email: str
    role: str
    name: str | None
    verdict: InviteeVerdict
    note: str

    @property
    def is_sent(self) -> bool:
        """Whether this one would be invited."""
        return self.verdict in INVITABLE_VERDICTS


class InvitationBatchPreview(Struct, frozen=True, kw_only=True):
    """What a list would do: a line for each, how many would be sent, the seats, and why it can't be sent now."""

    lines: tuple[InviteeDecision, ...]
    sent: int
    seats: int | None
    seats_used: int
    refusal: str | None


INVITABLE_VERDICTS = ("new", "former")


class InviteeInput(Struct, frozen=True, kw_only=True):
    """Someone who is to be invited, as it was written."""

    email: str
    role: str = MEMBER_ROLE
    name: str | None = None


RESEND_KIND = "invitation.resend"
LOST_INVITATION_MESSAGE = "The old invitation is revoked, and the new one could not be made: send it again."


def is_lost(operation: Operation) -> bool:
    """Whether the old invitation was revoked by this, and the new one is not there (as far as is kept)."""
    return "create" not in operation.done and bool(operation.done.get("revoke"))


REVOKE_KIND = "invitation.revoke"
MAX_EXPIRY_DAYS = 365
SEND_KIND = "invitation.send"
OPERATION_METADATA_KEY = "instep_operation"
NAME_METADATA_KEY = "name"
ALL_STATUSES = ("pending", "accepted", "revoked", "expired")


class AddressMembershipStatus(Struct, frozen=True, kw_only=True):
    """What an address is in one organization: `member`, `deactivated` or `former`."""

    email: str
    status: str


InvitationHistoryEventType = Literal[
    "asked", "sent", "link_copied", "resent", "lost", "revoked", "expired", "accepted", "member_made", "first_seen"
]


class InvitationHistoryEvent(Struct, frozen=True, kw_only=True):
    """One thing that happened to an invitation. `actor` is who did it here; None where it was done elsewhere.

    `invitation` is Clerk's id of it; of a resend, the new one, and `previous` the old.
    """

    at: int
    what: InvitationHistoryEventType
    actor: str | None = None
    invitation: str | None = None
    previous: str | None = None


class InvitationLinkCopy(Struct, frozen=True, kw_only=True):
    """A link that was copied: when, by whom, of which invitation."""

    at: int
    actor: str
    invitation: str


class InviteeMembership(Struct, frozen=True, kw_only=True):
    """A person's belonging: when Clerk says it began, when our row was made, when they were first seen here."""

    user_id: str
    joined_at: int
    made_at: int | None
    first_seen_at: int | None


class InvitationHistorySources(Struct, frozen=True, kw_only=True):
    """Everything that is known of the invitations of one address."""

    invitations: Sequence[ClerkInvitation]
    operations: Sequence[Operation]
    copied: Sequence[InvitationLinkCopy]
    joined: InviteeMembership | None


def build_history(id: str, facts: InvitationHistorySources, *, now: int) -> list[InvitationHistoryEvent]:
    """What happened to the invitation `id`, to those before it and to those that followed it, oldest first."""
    chain = find_resend_chain(id, facts.operations)
    events = [*_list_operation_events(chain, facts), *_list_clerk_events(chain, facts, now)]
    events += [
        InvitationHistoryEvent(at=it.at, what="link_copied", actor=it.actor, invitation=it.invitation)
        for it in facts.copied
        if it.invitation in chain
    ]
    is_accepted = any(it.status == "accepted" and it.clerk_id in chain for it in facts.invitations)
    events += _list_membership_events(facts.joined) if facts.joined and is_accepted else []
    return sorted(events, key=lambda it: it.at)


def find_resend_chain(id: str, operations: Sequence[Operation]) -> set[str]:
    """The ids of the invitations that are one: each was made by sending another of them again."""
    links = [(it.intent["invitation"], _get_created_id(it)) for it in operations if it.kind == RESEND_KIND]
    chain = {id}
    for _ in links:
        chain |= {one for old, new in links if {old, new} & chain for one in (old, new) if one}
    return chain


def list_operation_ids(invitations: Sequence[ClerkInvitation]) -> list[str]:
    """The ids of the operations that made these invitations, as far as they say so."""
    marks = [it.private_metadata.get(OPERATION_METADATA_KEY) for it in invitations]
    return [mark.partition(":")[0] for mark in marks if isinstance(mark, str)]


def _list_operation_events(chain: set[str], facts: InvitationHistorySources) -> Iterator[InvitationHistoryEvent]:
    made = {mark: it.clerk_id for it in facts.invitations for mark in list_operation_ids([it])}
    for it in facts.operations:
        old, new = it.intent.get("invitation"), _get_created_id(it) or made.get(it.id)
        if it.kind in (SEND_KIND, BATCH_PART_KIND) and new in chain:
            yield InvitationHistoryEvent(at=it.asked_at, what="asked", actor=it.actor, invitation=new)
        elif it.kind == RESEND_KIND and old in chain and new:
            yield InvitationHistoryEvent(at=it.changed_at, what="resent", actor=it.actor, invitation=new, previous=old)
        elif it.kind == RESEND_KIND and old in chain and is_lost(it):
            yield InvitationHistoryEvent(at=it.changed_at, what="lost", actor=it.actor, invitation=old)
        elif it.kind == REVOKE_KIND and old in chain and it.state == "settled":
            yield InvitationHistoryEvent(at=it.changed_at, what="revoked", actor=it.actor, invitation=old)


def _list_clerk_events(chain: set[str], facts: InvitationHistorySources, now: int) -> Iterator[InvitationHistoryEvent]:
    ours = {it.intent.get("invitation") for it in facts.operations if it.done.get("revoke")}
    remade = {_get_created_id(it) for it in facts.operations if it.kind == RESEND_KIND}
    for it in facts.invitations:
        if it.clerk_id not in chain:
            continue
        if it.clerk_id not in remade:
            yield InvitationHistoryEvent(at=it.created_at, what="sent", invitation=it.clerk_id)
        is_over = it.expires_at is not None and it.expires_at <= now
        if it.status == "expired" or (it.status == "pending" and is_over):
            yield InvitationHistoryEvent(at=it.expires_at or it.updated_at, what="expired", invitation=it.clerk_id)
        elif it.status == "accepted":
            yield InvitationHistoryEvent(at=it.updated_at, what="accepted", invitation=it.clerk_id)
        elif it.status == "revoked" and it.clerk_id not in ours:
            yield InvitationHistoryEvent(at=it.updated_at, what="revoked", invitation=it.clerk_id)


def _list_membership_events(joined: InviteeMembership) -> list[InvitationHistoryEvent]:
    made = InvitationHistoryEvent(at=joined.made_at or joined.joined_at, what="member_made", actor=joined.user_id)
    if joined.first_seen_at is None or joined.first_seen_at < joined.joined_at:
        return [made]
    return [made, InvitationHistoryEvent(at=joined.first_seen_at, what="first_seen", actor=joined.user_id)]


def _get_created_id(operation: Operation) -> str | None:
    made: str | None = operation.done.get("create", {}).get("id")
    return made


class InvitationHistory(Struct, frozen=True, kw_only=True):
    """What happened to an invitation, oldest first; `names` are what to call whoever did it."""

    email: str
    events: tuple[InvitationHistoryEvent, ...]
    names: dict[str, str]
