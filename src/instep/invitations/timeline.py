"""The story of one invitation across its resends, told from what we did and what Clerk and the mirror have. Pure."""

from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from instep.identity.model import Invitation
from instep.invitations import batch, resending, revoking, sending
from instep.journal.model import Operation

What = Literal[
    "asked", "sent", "link_copied", "resent", "lost", "revoked", "expired", "accepted", "member_made", "first_seen"
]


class Event(Struct, frozen=True, kw_only=True):
    """One thing that happened to an invitation. `actor` is who did it here; None where it was done elsewhere.

    `invitation` is Clerk's id of it; of a resend, the new one, and `previous` the old.
    """

    at: int
    what: What
    actor: str | None = None
    invitation: str | None = None
    previous: str | None = None


class Copied(Struct, frozen=True, kw_only=True):
    """A link that was copied: when, by whom, of which invitation."""

    at: int
    actor: str
    invitation: str


class Joined(Struct, frozen=True, kw_only=True):
    """A person's belonging: when Clerk says it began, when our row was made, when they were first seen here."""

    user_id: str
    joined_at: int
    made_at: int | None
    seen_at: int | None


class Facts(Struct, frozen=True, kw_only=True):
    """Everything that is known of the invitations of one address."""

    invitations: Sequence[Invitation]
    operations: Sequence[Operation]
    copied: Sequence[Copied]
    joined: Joined | None


def tell(id: str, facts: Facts, *, now: int) -> list[Event]:
    """What happened to the invitation `id`, to those before it and to those that followed it, oldest first."""
    chain = chain_of(id, facts.operations)
    events = [*_done_here(chain, facts), *_by_clerk(chain, facts, now)]
    events += [
        Event(at=it.at, what="link_copied", actor=it.actor, invitation=it.invitation)
        for it in facts.copied
        if it.invitation in chain
    ]
    is_accepted = any(it.status == "accepted" and it.clerk_id in chain for it in facts.invitations)
    events += _joined(facts.joined) if facts.joined and is_accepted else []
    return sorted(events, key=lambda it: it.at)


def chain_of(id: str, operations: Sequence[Operation]) -> set[str]:
    """The ids of the invitations that are one: each was made by sending another of them again."""
    links = [(it.intent["invitation"], _made_by(it)) for it in operations if it.kind == resending.KIND]
    chain = {id}
    for _ in links:
        chain |= {one for old, new in links if {old, new} & chain for one in (old, new) if one}
    return chain


def marks_of(invitations: Sequence[Invitation]) -> list[str]:
    """The ids of the operations that made these invitations, as far as they say so."""
    marks = [it.private_metadata.get(sending.MARK) for it in invitations]
    return [mark.partition(":")[0] for mark in marks if isinstance(mark, str)]


def _done_here(chain: set[str], facts: Facts) -> Iterator[Event]:
    made = {mark: it.clerk_id for it in facts.invitations for mark in marks_of([it])}
    for it in facts.operations:
        old, new = it.intent.get("invitation"), _made_by(it) or made.get(it.id)
        if it.kind in (sending.KIND, batch.PART) and new in chain:
            yield Event(at=it.asked_at, what="asked", actor=it.actor, invitation=new)
        elif it.kind == resending.KIND and old in chain and new:
            yield Event(at=it.changed_at, what="resent", actor=it.actor, invitation=new, previous=old)
        elif it.kind == resending.KIND and old in chain and resending.is_lost(it):
            yield Event(at=it.changed_at, what="lost", actor=it.actor, invitation=old)
        elif it.kind == revoking.KIND and old in chain and it.state == "settled":
            yield Event(at=it.changed_at, what="revoked", actor=it.actor, invitation=old)


def _by_clerk(chain: set[str], facts: Facts, now: int) -> Iterator[Event]:
    ours = {it.intent.get("invitation") for it in facts.operations if it.done.get("revoke")}
    remade = {_made_by(it) for it in facts.operations if it.kind == resending.KIND}
    for it in facts.invitations:
        if it.clerk_id not in chain:
            continue
        if it.clerk_id not in remade:
            yield Event(at=it.created_at, what="sent", invitation=it.clerk_id)
        is_over = it.expires_at is not None and it.expires_at <= now
        if it.status == "expired" or (it.status == "pending" and is_over):
            yield Event(at=it.expires_at or it.updated_at, what="expired", invitation=it.clerk_id)
        elif it.status == "accepted":
            yield Event(at=it.updated_at, what="accepted", invitation=it.clerk_id)
        elif it.status == "revoked" and it.clerk_id not in ours:
            yield Event(at=it.updated_at, what="revoked", invitation=it.clerk_id)


def _joined(joined: Joined) -> list[Event]:
    made = Event(at=joined.made_at or joined.joined_at, what="member_made", actor=joined.user_id)
    if joined.seen_at is None or joined.seen_at < joined.joined_at:
        return [made]
    return [made, Event(at=joined.seen_at, what="first_seen", actor=joined.user_id)]


def _made_by(operation: Operation) -> str | None:
    made: str | None = operation.done.get("create", {}).get("id")
    return made
