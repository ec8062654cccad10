"""Sliding-window rate limit shared by all replicas, as pure arithmetic."""

from enum import IntEnum

from msgspec import Struct

PERMIT_LIFETIME = 150
MAX_TRANSIT = 100
SLOT_LENGTH = 20
BACKFILL_BATCH_DELAY = 60
MAX_CLOCK_LEAP = 60_000
MAX_PAUSE = 3_600_000


class RequestPriority(IntEnum):
    """Who goes first: a change that somebody waits for, a reading that a delivery waits for, or everything else."""

    EDIT = 0
    REFETCH = 1
    BACKFILL = 2


class RateLimit(Struct, frozen=True):
    """At most `most` calls in any `window` (milliseconds)."""

    most: int
    window: int = 10_000

    @property
    def cycle(self) -> int:
        """How long after the beginning of its slot a permit may be granted again."""
        return self.window + PERMIT_LIFETIME + MAX_TRANSIT + SLOT_LENGTH

    def count_reserved_permits(self, urgency: RequestPriority) -> int:
        """How many permits are left for what is more urgent."""
        return {
            RequestPriority.EDIT: 0,
            RequestPriority.REFETCH: self.most // 400,
            RequestPriority.BACKFILL: max(1, self.most // 200),
        }[urgency]


class RateLimitState(Struct, frozen=True):
    """What was granted: (slot, how many), oldest first; how far a backfill's even flow is; until when all is closed."""

    grants: tuple[tuple[int, int], ...] = ()
    flow_at: float = 0.0
    closed_until: int = 0


class PermitGrant(Struct, frozen=True):
    """So many permits, noted in `slot`; where none, to be asked for again in `wait` milliseconds."""

    count: int
    wait: int = 0
    is_closed: bool = False
    slot: int = 0


def grant_permits(
    spent: RateLimitState, limit: RateLimit, urgency: RequestPriority, want: int, now: int
) -> tuple[RateLimitState, PermitGrant]:
    """Up to `want` permits, and what is spent then.

    A backfill flows evenly, so that whoever is more urgent finds room at any moment and not when a window is over. It
    waits for `GATHERED` more than it has to, so that few questions are asked; what has flowed meanwhile is not lost.
    """
    if _is_from_future(spent, now):
        spent = RateLimitState(
            closed_until=now + limit.cycle
        )  # what was noted tells nothing: as if all had just been granted
    now = max(now, spent.grants[-1][0]) if spent.grants else now
    if now < spent.closed_until:
        return spent, PermitGrant(0, spent.closed_until - now, is_closed=True)
    grants = tuple(it for it in spent.grants if it[0] > now - limit.cycle)
    held = limit.count_reserved_permits(urgency)
    free = limit.most - held - sum(count for _, count in grants)
    step = limit.cycle / max(1, limit.most - held)
    flow_at = max(spent.flow_at, now - step * max(1, limit.most // 10))
    if urgency is RequestPriority.BACKFILL:
        count = max(0, min(want, free, int((now - flow_at) / step)))
        flow_at += count * step
    else:
        count = max(0, min(want, free))
        flow_at = spent.flow_at
    if count:
        slot = now - now % SLOT_LENGTH
        return RateLimitState(_add_grant(grants, slot, count), flow_at, spent.closed_until), PermitGrant(
            count, slot=slot
        )
    wait: float = _compute_wait(grants, limit, 1 - free, now)
    if urgency is RequestPriority.BACKFILL:
        wait = max(wait, flow_at + step - now) + BACKFILL_BATCH_DELAY
    return RateLimitState(grants, spent.flow_at, spent.closed_until), PermitGrant(0, max(1, int(wait) + 1))


def _is_from_future(spent: RateLimitState, now: int) -> bool:
    """Whether this was noted before a clock went back: further ahead than anything is ever noted."""
    latest = max(spent.grants[-1][0] if spent.grants else 0, spent.flow_at)
    return latest - now > MAX_CLOCK_LEAP or spent.closed_until - now > MAX_PAUSE + MAX_CLOCK_LEAP


def pause_permits(spent: RateLimitState, wait: int, now: int) -> RateLimitState:
    """Nobody gets a permit for `wait` milliseconds: the other side said so."""
    return RateLimitState(spent.grants, spent.flow_at, max(spent.closed_until, now + wait))


def return_permits(spent: RateLimitState, slot: int, count: int) -> RateLimitState:
    """What is spent once `count` permits noted in `slot` are known never to be used: they can be granted again at once.

    Whoever gives them back has let go of them before. What is noted no more was free already.
    """
    grants = tuple((at, many - count if at == slot else many) for at, many in spent.grants)
    return RateLimitState(tuple(it for it in grants if it[1] > 0), spent.flow_at, spent.closed_until)


def _add_grant(grants: tuple[tuple[int, int], ...], slot: int, count: int) -> tuple[tuple[int, int], ...]:
    """Grants of one slot are one."""
    if grants and grants[-1][0] == slot:
        return (*grants[:-1], (slot, grants[-1][1] + count))
    return (*grants, (slot, count))


def _compute_wait(grants: tuple[tuple[int, int], ...], limit: RateLimit, missing: int, now: int) -> int:
    """How long until so many of these grants are out of the window; the last of them where they are not enough."""
    free_at = now
    for at, count in grants:
        if missing <= 0:
            break
        free_at, missing = at + limit.cycle, missing - count
    return free_at - now
