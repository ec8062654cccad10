"""Looking at everything on both sides and keeping what differs; nothing is changed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from msgspec import Struct

from instep.identity.events import Found, Seen
from instep.identity.model import Kind
from instep.identity.rules import AskAgain
from instep.identity.whole import KINDS, Page, Window
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.sync import lone, looks, plan, store
from instep.sync.lanes import side_by_side
from instep.sync.model import Lease, SyncRefused, Total
from instep.sync.plan import DOUBTFUL, GONE, Finding, FindingKind, Policy
from instep.sync.ports import Everything, Progress, Told

LANES = 12
READING = 2


"""Pages that are compared with the mirror at a time: more would not be faster, and each connection keeps memory."""


KEPT = 100_000
BATCH = 500
LOOKS = 100
ROUNDS = 3
NOT_WHOLE = "Clerk's lists are not whole ({what}): nothing can be said to be missing there. Nothing was changed."
MANY = "More than {most} rows differ. Take everything in at once instead: instep sync apply --first"


class _Walked(Struct, frozen=True):
    """How a window was walked: how many were read, whether that was all, how many there are, how many unreadable."""

    fetched: int
    is_whole: bool
    total: int | None
    unreadable: int


@dataclass
class Scan:
    """One look at everything. `told` hears how far it is, `look` reads single things in Clerk.

    `is_check`: it reports whatever it could see, and refuses nothing.
    """

    db: Db
    source: Everything
    policy: Policy
    clock: Clock
    run_id: str
    lease: Lease
    started_at: int
    told: Told
    look: Callable[[Sequence[AskAgain]], Awaitable[list[Found]]]
    is_check: bool = False
    totals: dict[str, Total] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _kept: int = 0
    _surplus: dict[tuple[FindingKind, Kind], int] = field(default_factory=dict)
    _waiting: list[tuple[int, Finding]] = field(default_factory=list)
    _met: set[str] = field(default_factory=set)
    _done: int = 0
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READING))

    async def run(self) -> dict[str, int]:
        """Look at everything; gives how many findings there are of each kind.

        1 each kind is walked, and compared with the mirror stretch by stretch; 2 what only the database can tell;
        3 whatever Clerk did not show, and whatever a change meanwhile would look like too, is looked at a second time.
        Raises SyncRefused where a list is not whole, or too much differs to be kept; a check says so instead.
        """
        for kind in KINDS:
            self.totals[kind] = await self._walk(kind)
            if not self.totals[kind].is_whole:  # perhaps too much went on meanwhile: once more
                await self._forget(kind)
                self.totals[kind] = await self._walk(kind)
        await self._keep(await self.db.read(looks.list_ours_alone))
        await self._say_parts()
        await self._flush()
        await self._second_look()
        found = await self.db.read(store.count_findings, self.run_id)
        totals: dict[str, int] = {}
        for (what, _), number in [*found.items(), *self._surplus.items()]:
            totals[what] = totals.get(what, 0) + number
        return totals

    async def _walk(self, kind: Kind) -> Total:
        before = await self.source.count(kind)
        self._done = 0
        lanes = asyncio.Semaphore(LANES)
        windows = await self.source.windows(kind)
        most = before if sum(not it.is_open for it in windows) > 1 else None
        walked = await side_by_side([self._window(window, before, most, lanes) for window in windows])
        after = await self.source.count(kind)
        fetched = sum(it.fetched for it in walked)
        is_whole = all(it.is_whole for it in walked)
        if any(it.total is None for it in walked):  # a provider that does not count by windows
            is_whole = is_whole and fetched >= after
        unreadable = sum(it.unreadable for it in walked)
        return Total(before=before, fetched=fetched, after=after, is_whole=is_whole, unreadable=unreadable)

    async def _window(self, window: Window, total: int, most: int | None, lanes: asyncio.Semaphore) -> "_Walked":
        """Walk one window and compare it. Whole: not fewer were read than there are at the end, and without a gap.

        One window of several that has `most` of them: the provider's counts do not heed windows.
        """
        fetched, is_sure, unreadable, there = 0, True, 0, None
        async with lanes:
            async for page in self.source.pages(window):
                await self._page(window, page)
                self._done += page.fetched - fetched
                fetched, is_sure, there = page.fetched, is_sure and page.is_sure, page.total
                unreadable += len(page.unreadable)
                self.told(Progress(window.kind, self._done, total))
        if window.is_open:
            there = fetched
        elif window.kind == "user":
            there = await self.source.count_within(window)
            there = None if there is not None and most is not None and there >= most else there
        return _Walked(fetched, is_sure and (there is None or fetched >= there), there, unreadable)

    async def _forget(self, kind: Kind) -> None:
        await self._flush()
        await self.db.write(store.drop_about, self.run_id, kind)
        self._surplus = {key: number for key, number in self._surplus.items() if key[1] != kind}

    async def _page(self, window: Window, page: Page) -> None:
        """Compare a page with the mirror's rows of the same stretch; whatever differs is looked at once more."""
        kind, comparison = window.kind, plan.Comparison(page.items, self.policy, kind=window.kind)
        found: list[Finding] = []
        since, after = page.since, ""
        while True:
            async with self._reading:
                ours, more = await self.db.read(looks.list_ours, kind, since, page.until, after)
            found += comparison.take(ours)
            await self._suspect([it for it in found if it.news is None])
            found = [it for it in found if it.news is not None]
            if more is None:
                break
            since, after = more
        found += comparison.rest()
        found += [lone.unreadable(kind, text) for text in page.unreadable]
        if found:
            await self._keep(await self._look_here(kind, found))

    async def _suspect(self, gone: Sequence[Finding]) -> None:
        """What Clerk did not show, unless it came here after we had begun."""
        if gone:
            await self._keep([it for it in gone if (it.wrote_at or 0) < self.started_at])

    async def _look_here(self, kind: Kind, found: Sequence[Finding]) -> list[Finding]:
        """The mirror's present state decides: deliveries arrive meanwhile, and a row may stand at another time."""
        theirs = [it.news for it in found if it.news is not None]
        ours, unlinked = await self.db.read(looks.find_here, kind, theirs)
        by_id = {our.clerk_id: our for our in ours}
        rest = [it for it in found if it.news is None]
        for their in theirs:
            our = by_id.get(their.key.id)
            if our is None:
                rest.append(looks.maybe_linked(plan.only_there(their), unlinked))
                continue
            self._met.add(our.clerk_id)
            if finding := plan.compared(their, our, self.policy):
                rest.append(finding)
        return rest

    async def _keep(self, found: Sequence[Finding]) -> None:
        room = max(KEPT - self._kept, 0)
        for finding in found[:room]:
            self._waiting.append((next(self._numbers), finding))
        self._kept += len(found)
        if self._kept > KEPT and not self.is_check:
            raise SyncRefused(MANY.format(most=KEPT), code="too_many")
        for finding in found[room:]:
            key = (finding.kind, finding.key.kind)
            self._surplus[key] = self._surplus.get(key, 0) + 1
        if len(self._waiting) >= BATCH:
            await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        await self.db.write(self._write, waiting)

    def _write(self, conn: Conn, waiting: Sequence[tuple[int, Finding]]) -> None:
        store.hold(conn, self.lease, now=self.clock())
        store.keep(conn, self.run_id, waiting)

    async def _say_parts(self) -> None:
        """Say which lists of Clerk's were not whole: a check among its findings, anything else by refusing to go on."""
        parts = {kind: self.totals[kind] for kind in KINDS if not self.totals[kind].is_whole}
        if parts and not self.is_check:
            what = ", ".join(f"{it.fetched} of {it.after} {kind}s" for kind, it in parts.items())
            raise SyncRefused(NOT_WHOLE.format(what=what), code="not_whole")
        await self._keep([lone.not_whole(kind, it) for kind, it in parts.items()])

    async def _second_look(self) -> None:
        """Whatever is about to be called gone: not if it stood at another time, not if Clerk has it after all.

        And whatever a delivery that came during the scan would look like too: not if it is the same by now.
        """
        await self._forget_met()
        for kinds, look in ((GONE, self._look_there), (DOUBTFUL, self._look_at_both)):
            after = 0
            while rows := await self.db.read(store.list_suspects, self.run_id, after=after, limit=LOOKS, kinds=kinds):
                await look(rows)
                after = rows[-1].number

    async def _look_at_both(self, rows: Sequence[store.Row]) -> None:
        """Read these rows on both sides, ours before Clerk's; again where ours changed meanwhile, a few times."""
        turned_out: list[tuple[int, Finding]] = []
        left = list(rows)
        for turn in range(ROUNDS):
            before = await self.db.read(looks.find_rows, left)
            asks = [AskAgain(it.finding.key, it.finding.news.entity) for it in left if it.finding.news]
            theirs = {it.key: it for it in await self.look(asks) if isinstance(it, Seen)}
            now = await self.db.read(looks.find_rows, left)
            changing = []
            for row in left:
                our, their = now.get(row.finding.key), theirs.get(row.finding.key)
                finding = plan.compared(their, our, self.policy) if our and their else None
                if finding is not None and before.get(row.finding.key) != our and turn < ROUNDS - 1:
                    changing.append(row)
                elif finding is not None:
                    turned_out.append((row.number, finding))
            left = changing
            if not left:
                break
        await self.db.write(self._settle_both, [row.number for row in rows], turned_out)

    def _settle_both(self, conn: Conn, numbers: Sequence[int], turned_out: Sequence[tuple[int, Finding]]) -> None:
        store.hold(conn, self.lease, now=self.clock())
        store.drop(conn, self.run_id, numbers)
        store.keep(conn, self.run_id, turned_out)

    async def _forget_met(self) -> None:
        after = 0
        while self._met and (rows := await self.db.read(store.list_suspects, self.run_id, after=after, limit=BATCH)):
            met = [row.number for row in rows if row.finding.key.id in self._met]
            await self.db.write(store.drop, self.run_id, met)
            after = rows[-1].number

    async def _look_there(self, rows: Sequence[store.Row]) -> None:
        asks = await self.db.read(looks.asks_of, [row.finding for row in rows])
        absent = await self.source.find_absent(asks)
        there = [row.number for row in rows if row.finding.key not in absent]
        labels = await self.db.read(looks.labels, [row for row in rows if row.finding.key in absent])
        await self.db.write(self._settle_looks, there, labels)

    def _settle_looks(self, conn: Conn, there: Sequence[int], labels: dict[int, str]) -> None:
        store.hold(conn, self.lease, now=self.clock())
        store.drop(conn, self.run_id, there)
        store.label(conn, self.run_id, labels)
