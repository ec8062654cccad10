"""Taking everything in at once: the first sync of an empty database, and of one that is far behind.

Every window keeps its place in the transaction that writes its page: whatever ends the process costs the pages that
were read and not written yet, half a second's work. Deliveries may arrive meanwhile: what is here already is decided by
the law, and the rest is inserted in bulk.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from instep.identity.model import Kind
from instep.identity.whole import KINDS
from instep.kit.db import Db
from instep.kit.errors import InstepError, described
from instep.mirror import held, search
from instep.mirror.store import TABLES
from instep.sync.keeping import Keeper
from instep.sync.lanes import side_by_side
from instep.sync.places import Place
from instep.sync.ports import Everything, Progress, Told

log = structlog.get_logger(__name__)
LANES = 24
MAKERS = 2  # the longest index takes as long as the others together
# Pages of one window that may wait to be kept. Users have many windows; the others have one, and fill a transaction.
AT_ONCE: dict[Kind, int] = {"organization": 4, "user": 2, "membership": 40}


@dataclass
class First:
    """Takes everything of the wanted kinds in, going on where `keeper` says that an interrupted run was."""

    db: Db
    source: Everything
    keeper: Keeper
    told: Told
    kinds: Sequence[Kind] = KINDS
    totals: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def run(self) -> None:
        """Each kind in turn, parents first; what indexes were spared of goes into them when a kind is in.

        See mirror.held, and mirror.search for SQLite's. A run that fails makes them first: who knows who goes on.
        """
        await self.db.write(held.hold, [TABLES[kind].name for kind in self.kinds])
        try:
            async with asyncio.TaskGroup() as making:
                for kind in self.kinds:
                    await self._take_kind(kind)
                    making.create_task(make_held(self.db, TABLES[kind].name))
            await self.db.write(search.release)
        except BaseExceptionGroup as failures:
            await self.keeper.close()
            if isinstance(failures, ExceptionGroup):
                await make_held(self.db)
            raise failures.exceptions[0] from None

    async def _take_kind(self, kind: Kind) -> None:
        """Its windows side by side, each page kept with its window's place."""
        all_places = self.keeper.places
        if kind not in all_places:
            all_places[kind] = [Place(window) for window in await self.source.windows(kind)]
        total, places = await self.source.count(kind), all_places[kind]
        lanes = asyncio.Semaphore(LANES)
        await side_by_side([self._window(it, total, lanes) for it in places if not it.is_done])
        fetched = sum(it.fetched for it in places)
        self.totals[kind] = {"before": total, "fetched": fetched, "after": await self.source.count(kind)}

    async def _window(self, place: Place, total: int, lanes: asyncio.Semaphore) -> None:
        kind = place.window.kind
        under_way: deque[asyncio.Future[None]] = deque()
        async with lanes:
            async for page in self.source.pages(place.window, place.cursor):
                under_way.append(self.keeper.put(place, page))
                if len(under_way) >= AT_ONCE[kind]:
                    await under_way.popleft()
                self.told(Progress(kind, sum(it.fetched for it in self.keeper.places[kind]), total))
            for written in under_way:
                await written


async def make_held(db: Db, table: str | None = None) -> None:
    """Make the indexes (of one table) that were held back, side by side where the database can.

    What can't be made is logged and waits for the next time: only speed depends on it, and `instep doctor` says so.
    """
    makers = asyncio.Semaphore(MAKERS)
    await asyncio.gather(*(_make(db, it, makers) for it in await db.read(held.list_held, table)))


async def _make(db: Db, name: str, makers: asyncio.Semaphore) -> None:
    async with makers:
        try:
            await db.write(held.make, name)
        except InstepError as error:
            log.warning("index_not_made", index=name, error=described(error))
