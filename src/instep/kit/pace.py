"""The pace that all replicas keep together: how many calls may go out now, by what has gone out. Pure arithmetic.

A permit that is granted at `at` is used until `at + LASTS` at the latest, and what it lets go out has arrived `TRANSIT`
later. So nobody counts more than `most` arrivals in any `window` if no more than `most` permits are granted in any
`window + LASTS + TRANSIT`. Grants are noted by the slot of `SLOT` milliseconds that they fall into, and count as if
made at its end. Times are Unix milliseconds of one clock, the one that the state is kept by.
"""

from enum import IntEnum

from msgspec import Struct

LASTS = 150
TRANSIT = 100
SLOT = 20
GATHERED = 60
LEAP = 60_000
LONGEST_CLOSED = 3_600_000


class Urgency(IntEnum):
    """Who goes first: a change that somebody waits for, a reading that a delivery waits for, or everything else."""

    EDIT = 0
    REFETCH = 1
    BACKFILL = 2


class Limit(Struct, frozen=True):
    """At most `most` calls in any `window` (milliseconds)."""

    most: int
    window: int = 10_000

    @property
    def cycle(self) -> int:
        """How long after the beginning of its slot a permit may be granted again."""
        return self.window + LASTS + TRANSIT + SLOT

    def held_back(self, urgency: Urgency) -> int:
        """How many permits are left for what is more urgent."""
        return {Urgency.EDIT: 0, Urgency.REFETCH: self.most // 400, Urgency.BACKFILL: max(1, self.most // 200)}[urgency]


class Spent(Struct, frozen=True):
    """What was granted: (slot, how many), oldest first; how far a backfill's even flow is; until when all is closed."""

    grants: tuple[tuple[int, int], ...] = ()
    flow_at: float = 0.0
    closed_until: int = 0


class Granted(Struct, frozen=True):
    """So many permits, noted in `slot`; where none, to be asked for again in `wait` milliseconds."""

    count: int
    wait: int = 0
    is_closed: bool = False
    slot: int = 0


def reserve(spent: Spent, limit: Limit, urgency: Urgency, want: int, now: int) -> tuple[Spent, Granted]:
    """Up to `want` permits, and what is spent then.

    A backfill flows evenly, so that whoever is more urgent finds room at any moment and not when a window is over. It
    waits for `GATHERED` more than it has to, so that few questions are asked; what has flowed meanwhile is not lost.
    """
    if _is_of_the_future(spent, now):
        spent = Spent(closed_until=now + limit.cycle)  # what was noted tells nothing: as if all had just been granted
    now = max(now, spent.grants[-1][0]) if spent.grants else now
    if now < spent.closed_until:
        return spent, Granted(0, spent.closed_until - now, is_closed=True)
    grants = tuple(it for it in spent.grants if it[0] > now - limit.cycle)
    held = limit.held_back(urgency)
    free = limit.most - held - sum(count for _, count in grants)
    step = limit.cycle / max(1, limit.most - held)
    flow_at = max(spent.flow_at, now - step * max(1, limit.most // 10))
    if urgency is Urgency.BACKFILL:
        count = max(0, min(want, free, int((now - flow_at) / step)))
        flow_at += count * step
    else:
        count = max(0, min(want, free))
        flow_at = spent.flow_at
    if count:
        slot = now - now % SLOT
        return Spent(_with(grants, slot, count), flow_at, spent.closed_until), Granted(count, slot=slot)
    wait: float = _until_free(grants, limit, 1 - free, now)
    if urgency is Urgency.BACKFILL:
        wait = max(wait, flow_at + step - now) + GATHERED
    return Spent(grants, spent.flow_at, spent.closed_until), Granted(0, max(1, int(wait) + 1))


def _is_of_the_future(spent: Spent, now: int) -> bool:
    """Whether this was noted before a clock went back: further ahead than anything is ever noted."""
    latest = max(spent.grants[-1][0] if spent.grants else 0, spent.flow_at)
    return latest - now > LEAP or spent.closed_until - now > LONGEST_CLOSED + LEAP


def close(spent: Spent, wait: int, now: int) -> Spent:
    """Nobody gets a permit for `wait` milliseconds: the other side said so."""
    return Spent(spent.grants, spent.flow_at, max(spent.closed_until, now + wait))


def give_back(spent: Spent, slot: int, count: int) -> Spent:
    """What is spent once `count` permits noted in `slot` are known never to be used: they can be granted again at once.

    Whoever gives them back has let go of them before. What is noted no more was free already.
    """
    grants = tuple((at, many - count if at == slot else many) for at, many in spent.grants)
    return Spent(tuple(it for it in grants if it[1] > 0), spent.flow_at, spent.closed_until)


def _with(grants: tuple[tuple[int, int], ...], slot: int, count: int) -> tuple[tuple[int, int], ...]:
    """Grants of one slot are one."""
    if grants and grants[-1][0] == slot:
        return (*grants[:-1], (slot, grants[-1][1] + count))
    return (*grants, (slot, count))


def _until_free(grants: tuple[tuple[int, int], ...], limit: Limit, missing: int, now: int) -> int:
    """How long until so many of these grants are out of the window; the last of them where they are not enough."""
    free_at = now
    for at, count in grants:
        if missing <= 0:
            break
        free_at, missing = at + limit.cycle, missing - count
    return free_at - now
