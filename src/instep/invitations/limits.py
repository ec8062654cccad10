"""How many invitations may be sent, and when it works again. Pure: the time and what was sent come in."""

from collections.abc import Collection, Sequence

from msgspec import Struct

from instep.identity.addresses import canonical
from instep.invitations.rules import InviteRefused
from instep.kit.clock import DAY, HOUR, MINUTE, SECOND, SKEW, to_datetime
from instep.kit.said import said

LIMITED = 429
PER_PERSON = 100
PER_ORGANIZATION = 100
PER_ADDRESS = 10
COOLDOWN = MINUTE
LONGEST = COOLDOWN + SKEW  # a wait that is longer comes from before a clock went back, and is over
BULK_CALLS = 50
BULK_SIZE = 10


class Sent(Struct, frozen=True, kw_only=True):
    """What was asked for before: when, by whom, to which addresses (lower case), and whether in this organization."""

    at: int
    actor: str
    is_here: bool
    is_resend: bool
    emails: tuple[str, ...]


def check(sent: Sequence[Sent], *, actor: str, emails: Collection[str], now: int) -> None:
    """Whether `actor` may invite these addresses now. Raises InviteRefused with when it works again."""
    since = now - DAY
    recent = [it for it in sent if it.at > since]
    theirs = [it.at for it in recent if it.actor == actor for _ in it.emails]
    here = [it.at for it in recent if it.is_here for _ in it.emails]
    _require(theirs, len(emails), PER_PERSON, said("One person can send"), now)
    _require(here, len(emails), PER_ORGANIZATION, said("One organization can send"), now)
    for email in {canonical(it) for it in emails}:
        to_them = [it.at for it in recent if it.is_here for one in it.emails if one == email]
        _require(to_them, 1, PER_ADDRESS, said("%(email)s can be sent", email=email), now)


def check_cooldown(sent: Sequence[Sent], *, email: str, now: int) -> None:
    """Whether an invitation may be sent again already. Raises InviteRefused with when."""
    until = cooling(sent, now=now).get(canonical(email))
    if until is not None:
        words = said("This invitation was sent again just now. It works again in %(wait)s.", wait=_in(until - now))
        raise InviteRefused(words, code="cooldown", status=LIMITED)


def cooling(sent: Sequence[Sent], *, now: int) -> dict[str, int]:
    """The canonical addresses of invitations that were sent again just now, and until when they must wait."""
    resent = [(email, it.at + COOLDOWN) for it in sent if it.is_resend and it.is_here for email in it.emails]
    return {email: until for email, until in sorted(resent, key=lambda pair: pair[1]) if now < until <= now + LONGEST}


def plan_starts(before: Sequence[int], *, count: int, now: int) -> list[int]:
    """When `count` bulk calls may be made, so that no hour has more of them than Clerk takes.

    `before` are the times of those that were planned already.
    """
    planned = sorted(before)
    first = len(planned)
    for _ in range(count):
        earliest = planned[-BULK_CALLS] + HOUR if len(planned) >= BULK_CALLS else now
        planned.append(max(now, earliest, planned[-1] if planned else now))
    return planned[first:]


def _require(used: Sequence[int], wanted: int, limit: int, who: str, now: int) -> None:
    too_many = len(used) + wanted - limit
    if too_many <= 0:
        return
    words = said(
        "%(who)s %(limit)s invitations in 24 hours; %(count)s were sent, %(wanted)s more would be too many.",
        who=who,
        limit=limit,
        count=len(used),
        wanted=wanted,
    )
    if too_many <= len(used):
        again = sorted(used)[too_many - 1] + DAY
        words = said(
            "%(why)s It works again at %(at)s UTC, in %(wait)s.",
            why=words,
            at=f"{to_datetime(again):%H:%M}",
            wait=_in(again - now),
        )
    raise InviteRefused(words, code="limited", status=LIMITED)


def _in(wait: int) -> str:
    for unit, name in ((HOUR, "h"), (MINUTE, "min")):
        if wait >= 2 * unit:
            return f"{-(-wait // unit)} {name}"
    return f"{-(-wait // SECOND)} s"
