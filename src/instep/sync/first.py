"""Taking everything in at once: the first sync of an empty database, and of one that is far behind.

Every window keeps its place in the transaction that writes its page: whatever ends the process costs one page of each
window at the most. Deliveries may arrive meanwhile: what is here already is decided by the law, and the rest is
inserted in bulk.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from instep.audit.joined import joined_entries
from instep.audit.store import Entry, record
from instep.identity.events import Seen
from instep.identity.model import Key, Kind
from instep.identity.rules import Answer, AskAgain, Change, answers_to
from instep.identity.whole import KINDS, Cursor, Page, Window
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import PermanentError
from instep.mirror import search
from instep.mirror.apply import apply
from instep.mirror.bulk import insert_new
from instep.mirror.ledger import open_ledger
from instep.sync import store
from instep.sync.lanes import side_by_side
from instep.sync.model import Lease
from instep.sync.ports import Everything, Progress, Told, Writes

LANES = 24
TOGETHER = 12
"""Pages that share a transaction at the most: while one half of the lanes is written, the other half is read."""
ROUNDS = 3
# Pages of one window that may wait to be kept. Users have many windows; the others have one, and fill a transaction.
AT_ONCE: dict[Kind, int] = {"organization": 4, "user": 1, "membership": 24}


class Place(msgspec.Struct):
    """Where a window is: `cursor` None and `is_done` False is its beginning."""

    window: Window
    cursor: Cursor | None = None
    is_done: bool = False
    fetched: int = 0


@dataclass
class _Part:
    place: Place
    page: Page
    done: "asyncio.Future[None]"


@dataclass
class First:
    """Takes everything of the wanted kinds in. `places` is where an interrupted run was, by kind."""

    db: Db
    source: Everything
    writes: Writes
    clock: Clock
    run_id: str
    lease: Lease
    actor: str
    told: Told
    kinds: Sequence[Kind] = KINDS
    places: dict[str, list[Place]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    totals: dict[str, dict[str, Any]] = field(default_factory=dict)
    _parts: list[_Part] = field(default_factory=list)
    _writer: "asyncio.Task[None] | None" = None
    _failure: BaseException | None = None

    async def run(self) -> None:
        """Each kind in turn, parents first: its windows side by side, each page kept with its window's place.

        What the index of search was spared of (see mirror.search.hold) goes into it at the end.
        """
        for kind in self.kinds:
            if kind not in self.places:
                windows = await self.source.windows(kind)
                self.places[kind] = [Place(window) for window in windows]
            total = await self.source.count(kind)
            lanes = asyncio.Semaphore(LANES)
            places = self.places[kind]
            await side_by_side([self._window(it, total, lanes) for it in places if not it.is_done])
            fetched = sum(it.fetched for it in places)
            self.totals[kind] = {"before": total, "fetched": fetched, "after": await self.source.count(kind)}
        await self.db.write(search.release)

    async def _window(self, place: Place, total: int, lanes: asyncio.Semaphore) -> None:
        kind = place.window.kind
        under_way: deque[asyncio.Future[None]] = deque()
        async with lanes:
            async for page in self.source.pages(place.window, place.cursor):
                under_way.append(self._write(place, page))
                if len(under_way) >= AT_ONCE[kind]:
                    await under_way.popleft()
                self.told(Progress(kind, sum(it.fetched for it in self.places[kind]), total))
            for written in under_way:
                await written

    def _write(self, place: Place, page: Page) -> "asyncio.Future[None]":
        """Hand a page to the writer, to be awaited until it is kept: pages that wait together share a transaction."""
        part = _Part(place, page, asyncio.get_running_loop().create_future())
        part.done.add_done_callback(_heard)
        if self._failure is not None:
            part.done.set_exception(self._failure)
            return part.done
        self._parts.append(part)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return part.done

    async def _write_all(self) -> None:
        """Write whatever waits, until nothing does. After a failure nothing more: a later page must not move a window
        past an earlier one that was not kept."""
        while self._parts:
            parts, self._parts = self._parts[:TOGETHER], self._parts[TOGETHER:]
            try:
                if self._failure is None:
                    await self._keep(parts)
            except BaseException as error:  # whatever it is, nobody may wait for ever
                self._failure = error
            for part in parts:
                if part.done.cancelled():
                    continue
                if self._failure is not None:
                    part.done.set_exception(self._failure)
                else:
                    part.done.set_result(None)
        self._writer = None

    async def _keep(self, parts: Sequence[_Part]) -> None:
        try:
            await self._take(parts, {})
        except PermanentError as error:
            if len(parts) > 1:  # one page that the database does not take: the others are kept without it
                for part in parts:
                    await self._keep([part])
            elif error.code == "database_refused":
                await self._one_by_one(parts[0])
            else:
                raise

    async def _take(self, parts: Sequence[_Part], facts: dict[Key, Answer], *, left_to_ask: int = ROUNDS) -> None:
        """Take pages in; parents that are not here are read in Clerk, and it is tried again."""
        try:
            counts = await self.db.write_bulk(self._insert, parts, facts, left_to_ask > 0)
        except _Asks as open_:
            facts = facts | answers_to(open_.asks, await self.writes.look(open_.asks))
            await self._take(parts, facts, left_to_ask=left_to_ask - 1)
            return
        self.counts = counts
        for part in parts:
            _move(part.place, part.page)

    async def _one_by_one(self, part: _Part) -> None:
        """A page with a row that the database does not take: that one is left out and counted."""
        for item in part.page.items:
            alone = _Part(part.place, msgspec.structs.replace(part.page, items=[item], unreadable=()), part.done)
            try:
                await self._take([alone], {})
            except PermanentError as error:
                if error.code != "database_refused":
                    raise
                self.counts["unreadable"] = self.counts.get("unreadable", 0) + 1

    def _insert(self, conn: Conn, parts: Sequence[_Part], facts: dict[Key, Answer], may_ask: bool) -> dict[str, int]:
        """One transaction: the pages, the audit, and the windows' places. Raises _Asks, and then nothing is kept."""
        now = self.clock()
        news = [it for part in parts for it in part.page.items]
        left = insert_new(conn, news, now=now)
        changed = self._decide(conn, left, facts, may_ask) if left else 0
        details = {"new": len(news) - len(left), "changed": changed, "left": len(left) - changed}
        if news:
            entry = Entry(actor=self.actor, action="sync.took", target=self.run_id, cause=self.run_id, details=details)
            record(conn, [entry], now=now)
        unreadable = sum(len(part.page.unreadable) for part in parts)
        counts = Counter(self.counts) + Counter({**details, "unreadable": unreadable})
        store.note(conn, self.run_id, self.lease, {"progress": self._progress(parts), "counts": dict(counts)}, now=now)
        return dict(counts)

    def _decide(self, conn: Conn, left: Sequence[Seen], facts: dict[Key, Answer], may_ask: bool) -> int:
        """What is here already, or may be someone we know, by the law; gives how many were written."""
        ledger = open_ledger(conn, [*(it.news for it in facts.values()), *left])
        for fact in facts.values():
            ledger.answer(fact)
        verdicts = [ledger.take(it, is_read=True) for it in left]
        asks = {it.key: it for it in verdicts if isinstance(it, AskAgain)}
        if asks and may_ask:
            raise _Asks(list(asks.values()))
        now = self.clock()
        apply(conn, ledger, now=now)
        record(conn, joined_entries(ledger.joined), now=now)
        return sum(isinstance(it, Change) for it in verdicts)

    def _progress(self, parts: Sequence[_Part]) -> dict[str, Any]:
        """Where every window is once these pages are kept."""
        moved = {id(part.place): part for part in parts}
        kept: dict[str, list[Place]] = {}
        for kind, places in self.places.items():
            kept[kind] = [_moved(it, moved[id(it)].page) if id(it) in moved else it for it in places]
        plain: dict[str, Any] = msgspec.to_builtins(kept)
        return plain


class _Asks(Exception):
    """Something must be asked before this can be kept."""

    def __init__(self, asks: Sequence[AskAgain]) -> None:
        super().__init__()
        self.asks = asks


def _heard(written: "asyncio.Future[None]") -> None:
    """Nobody may be waiting for it any more."""
    if not written.cancelled():
        written.exception()


def _move(place: Place, page: Page) -> None:
    place.cursor, place.is_done, place.fetched = page.cursor, page.cursor is None, page.fetched


def _moved(place: Place, page: Page) -> Place:
    return Place(place.window, page.cursor, page.cursor is None, page.fetched)


def places_of(progress: dict[str, Any]) -> dict[str, list[Place]]:
    """Where an interrupted run was."""
    return msgspec.convert(progress, dict[str, list[Place]])
