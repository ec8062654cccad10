"""One sync at a time, over all processes: a row in the database, kept fresh while the run lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from instep.kit.clock import SECOND, Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError, described
from instep.kit.ids import new_id
from instep.sync import store
from instep.sync.model import LEASE, Busy, Lease

log = structlog.get_logger(__name__)
BUSY = "Another sync is under way. Only one runs at a time; try again when it has ended."


@asynccontextmanager
async def alone(db: Db, clock: Clock) -> AsyncIterator[Lease]:
    """Hold the right to sync. Raises Busy. A process that dies keeps it for a minute at the most."""
    lease = await db.write(_take, new_id("syn"), clock=clock)
    if lease is None:
        raise Busy(BUSY, retry_after=LEASE / SECOND)
    beat = asyncio.create_task(_keep(db, lease, clock))
    try:
        yield lease
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        await db.write(store.drop_lease, lease)


def _take(conn: Conn, holder: str, *, clock: Clock) -> Lease | None:
    return store.take_lease(conn, holder, now=clock())


async def _keep(db: Db, lease: Lease, clock: Clock) -> None:
    while True:
        await asyncio.sleep(LEASE / SECOND / 4)
        try:
            await db.write(store.hold, lease, now=clock())
        except InstepError as error:  # the run's own writes will find out
            log.warning("sync_lease", error=described(error))
