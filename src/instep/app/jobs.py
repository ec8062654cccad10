"""What runs by the clock, once for all replicas: the check of both sides, and forgetting what is too old."""

from dataclasses import dataclass

import structlog

from instep.access.store import forget_sessions
from instep.app.syncing import Syncing
from instep.app.timer import Job
from instep.inbox.store import forget_settled
from instep.kit.clock import DAY, MINUTE, SECOND, Clock
from instep.kit.db import Db

log = structlog.get_logger(__name__)
KEPT_FOR = 30 * DAY
BATCH = 5_000
MOST_MINUTES = 10


@dataclass(frozen=True)
class Forgetting:
    """Deliveries that were settled, and sessions that were over, more than 30 days ago."""

    db: Db
    clock: Clock

    async def __call__(self) -> None:
        """Delete them, in small transactions; a replay from Clerk's dashboard may use an id again within that time."""
        before = self.clock() - KEPT_FOR
        sessions = await self.db.write(forget_sessions, before=before)
        deliveries = 0
        while count := await self.db.write(forget_settled, before=before, limit=BATCH):
            deliveries += count
        log.info("forgotten", sessions=sessions, deliveries=deliveries)


def make_jobs(db: Db, clock: Clock, syncing: Syncing) -> list[Job]:
    """Every job of this installation."""
    often = _often(syncing.every)
    return [
        Job("instep-sync-check", f"*/{often} * * * *", syncing.check_when_due, longest=often * MINUTE // SECOND),
        Job("instep-forget", "17 3 * * *", Forgetting(db, clock)),
    ]


def _often(every: int) -> int:
    """Return every how many minutes to look whether a check is due that runs `every` so many milliseconds.

    Six times as often, between every minute and every ten: an idle database is left alone meanwhile.
    """
    minutes = every // MINUTE if every else MOST_MINUTES
    return max(1, min(MOST_MINUTES, minutes // 6))
