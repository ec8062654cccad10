"""Telling how far a run is: whoever waits for it, and once a second the database, for pages of any process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from instep.kit.clock import SECOND, Clock
from instep.kit.db import Db
from instep.kit.errors import InstepError, described
from instep.sync import store
from instep.sync.model import Lease
from instep.sync.ports import Progress, Told

log = structlog.get_logger(__name__)
EVERY = SECOND


@dataclass
class Telling:
    """Hears how far a run is, and tells it on. `news` is told each time that the database knows more."""

    db: Db
    clock: Clock
    run_id: str
    lease: Lease
    told: Told
    news: Callable[[], None]
    _last: Progress | None = None
    _kept: Progress | None = None
    _begun_at: int = 0
    _begun_with: int = 0

    def __call__(self, progress: Progress) -> None:
        """It is as far as this now."""
        if self._last is None or self._last.kind != progress.kind:
            self._begun_at, self._begun_with = self.clock(), progress.done
        self._last = progress
        self.told(progress)

    @asynccontextmanager
    async def telling(self) -> AsyncIterator[None]:
        """Keep it once a second for as long as this lasts."""
        task = asyncio.create_task(self._forever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def keep(self) -> None:
        """Keep how far it is, unless that is kept already: what, how many of how many, since when, and from where."""
        last = self._last
        if last is None or last is self._kept:
            return
        stage = {
            "kind": last.kind,
            "done": last.done,
            "total": last.total,
            "begun_at": self._begun_at,
            "begun_with": self._begun_with,
        }
        await self.db.write(store.note, self.run_id, self.lease, {"stage": stage}, now=self.clock())
        self._kept = last
        self.news()

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY / SECOND)
            try:
                await self.keep()
            except InstepError as error:  # the run's own writes will find out
                log.warning("sync_stage", run=self.run_id, error=described(error))
