"""Periodic tasks of a process: the scheduled sync check, freshness, roles and the cleanup of expired data."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from msgspec import Struct

from instep.auth.repository import delete_stale_sessions
from instep.core.clock import DAY, HOUR, SECOND, Clock, is_recent
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, describe_error
from instep.mirror.instance_binding import find_fact, set_fact
from instep.webhooks.repository import delete_processed_before

log = structlog.get_logger(__name__)
RETENTION = 30 * DAY
CLEANUP_INTERVAL = DAY
CLEANUP_BATCH_SIZE = 5_000
CLEANED_UP_AT_FACT = "cleaned_up_at"


class PeriodicTask(Struct, frozen=True):
    """A task that a process runs every `every` seconds; a failure is logged, and the next run comes as usual.

    `first`: seconds until the first run, where that is not `every`. Every replica runs its own tasks, so a task that
    must run once for all of them decides by the database whether it is due.
    """

    name: str
    every: float
    run: Callable[[], Awaitable[object]]
    first: float | None = None


async def run_periodically(task: PeriodicTask) -> None:
    """Run a task until cancelled."""
    wait = task.every if task.first is None else task.first
    while True:
        await asyncio.sleep(wait)
        wait = task.every
        try:
            await task.run()
        except InstepError as error:
            log.warning("periodic_task_postponed", task=task.name, error=describe_error(error))
        except Exception:
            log.exception("periodic_task_failed", task=task.name)


@dataclass(frozen=True)
class ExpiredDataCleanup:
    """Delete deliveries that were processed, and sessions that ended, more than 30 days ago."""

    db: Database
    clock: Clock

    def make_task(self) -> PeriodicTask:
        """Return the task, which looks every hour whether a day has passed since the last cleanup."""
        return PeriodicTask("cleanup", HOUR / SECOND, self.run)

    async def run(self) -> None:
        """Delete in small transactions, once a day for all replicas.

        Until then a replay from Clerk's dashboard may use an id again.
        """
        if not await self.db.write(claim_cleanup, self.clock()):
            return
        before = self.clock() - RETENTION
        sessions = await self.db.write(delete_stale_sessions, before=before)
        deliveries = 0
        while count := await self.db.write(delete_processed_before, before=before, limit=CLEANUP_BATCH_SIZE):
            deliveries += count
        log.info("expired_data_deleted", sessions=sessions, deliveries=deliveries)


def claim_cleanup(conn: Conn, now: int) -> bool:
    """Return whether a cleanup is due, and if so record that it begins now (Unix milliseconds).

    Two replicas that claim at the same moment may both clean up, which is harmless: each row is deleted once.
    """
    last = int(find_fact(conn, CLEANED_UP_AT_FACT) or 0)
    if is_recent(last, now, CLEANUP_INTERVAL):
        return False
    set_fact(conn, CLEANED_UP_AT_FACT, str(now))
    return True
