"""Keeping the pages of a first sync: many in a transaction, each with the place that its window has reached."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from instep.audit.joined import joined_entries, superseded_entries
from instep.audit.store import Entry, record
from instep.identity.events import Seen
from instep.identity.model import Key, Kind
from instep.identity.rules import Answer, AskAgain, Change, answers_to
from instep.identity.whole import Cursor, Page
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import PermanentError
from instep.mirror.apply import apply
from instep.mirror.bulk import Ready, insert_new, make_ready
from instep.mirror.ledger import open_ledger
from instep.sync import store
from instep.sync.model import Lease
from instep.sync.places import Place, Step, go_on
from instep.sync.ports import Writes

TOGETHER = 20


"""Pages that share a transaction at the most: while one half of what may wait is written, the other half is read."""


WRITERS = 2


"""Transactions side by side on PostgreSQL, which works on one while the other is handed over; SQLite has one writer."""


ROUNDS = 3


@dataclass(eq=False)
class _Part:
    """A page of a window that was at `before` and is at `after` once this and everything before it is kept."""

    place: Place
    before: Cursor | None
    after: Place
    page: Page
    ready: Sequence[Ready]
    done: "asyncio.Future[None]"
    is_kept: bool = False


_NOTHING = Page(items=(), since=0, until=None, cursor=None, fetched=0)


class _SoFar(msgspec.Struct):
    """What the event loop knows when a transaction is handed over; the transaction runs on another thread."""

    places: dict[Kind, list[Place]]
    counts: "Counter[str]"
    steps: list[Step]


@dataclass
class Keeper:
    """Writes pages of a first sync. `places` is where every window is, by kind; `counts` what became of the rows."""

    db: Db
    writes: Writes
    clock: Clock
    run_id: str
    lease: Lease
    actor: str
    places: dict[Kind, list[Place]]
    counts: "Counter[str]" = field(default_factory=Counter)
    _parts: list[_Part] = field(default_factory=list)
    _in_order: dict[int, deque[_Part]] = field(default_factory=lambda: defaultdict(deque))
    _writers: "set[asyncio.Task[None]]" = field(default_factory=set)
    _failure: BaseException | None = None

    def put(self, place: Place, page: Page) -> "asyncio.Future[None]":
        """Hand a page over, to be awaited until it is kept: pages that wait together share a transaction."""
        ready, in_order = make_ready(page.items, now=self.clock()), self._in_order[id(place)]
        before = in_order[-1].after.cursor if in_order else place.cursor
        after = Place(place.window, page.cursor, page.cursor is None, page.fetched)
        part = _Part(place, before, after, page, ready, asyncio.get_running_loop().create_future())
        part.done.add_done_callback(_heard)
        if self._failure is not None:
            part.done.set_exception(self._failure)
            return part.done
        self._parts.append(part)
        in_order.append(part)
        if len(self._writers) < (1 if self.db.is_sqlite else WRITERS):
            self._writers.add(asyncio.create_task(self._write_all()))
        return part.done

    async def close(self) -> None:
        """Nothing more is written when this ends: a run that has failed while reading leaves no writer behind."""
        self._failure = self._failure or InterruptedError("The run has ended.")
        await asyncio.gather(*self._writers, return_exceptions=True)

    async def _write_all(self) -> None:
        """Write whatever waits, until nothing does. After a failure nothing more."""
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
        self._writers.discard(_myself())  # at once: whoever hands over the next page must not count on this one

    async def _keep(self, parts: Sequence[_Part]) -> None:
        try:
            await self._take(parts)
        except PermanentError as error:
            if len(parts) > 1:  # one page that the database does not take: the others are kept without it
                for part in parts:
                    await self._keep([part])
            elif error.code == "database_refused":
                await self._one_by_one(parts[0])
            else:
                raise
        for part in parts:
            part.is_kept, part.page, part.ready = True, _NOTHING, ()
            self._move(part.place)

    async def _take(self, parts: Sequence[_Part]) -> None:
        """Take pages in: what is new in one transaction; what is left of them, if anything is, in another.

        Two, since whoever writes to the mirror locks people before organizations and these before memberships, and what
        is left may be about people again: no two wait for each other in a circle (PostgreSQL).
        """
        left, counts = await self.db.write_bulk(self._insert, parts, self._so_far(parts))
        self.counts += counts
        if left:
            keys = {it.key for it in left}
            for part in parts:  # what is in already is not taken again, whatever becomes of the rest
                part.ready = [it for it in part.ready if it.news.key in keys]
            await self._take_left(parts, {})

    async def _take_left(self, parts: Sequence[_Part], facts: dict[Key, Answer], *, left_to_ask: int = ROUNDS) -> None:
        """By the law; parents that are not here are read in Clerk, and it is tried again."""
        try:
            so_far = self._so_far(parts)
            self.counts += await self.db.write_bulk(self._decide, parts, facts, left_to_ask > 0, so_far)
        except _Asks as open_:
            facts = facts | answers_to(open_.asks, await self.writes.look(open_.asks))
            await self._take_left(parts, facts, left_to_ask=left_to_ask - 1)

    async def _one_by_one(self, part: _Part) -> None:
        """A page with a row that the database does not take: that one is left out and counted."""
        self.counts["unreadable"] += len(part.page.unreadable)
        for item in part.ready:
            page = msgspec.structs.replace(part.page, items=[item.news], unreadable=())
            try:
                await self._take([replace(part, page=page, ready=[item])])
            except PermanentError as error:
                if error.code != "database_refused":
                    raise
                self.counts["unreadable"] += 1

    def _insert(self, conn: Conn, parts: Sequence[_Part], so_far: _SoFar) -> "tuple[list[Seen], Counter[str]]":
        """One transaction for what is new; gives what is left. The windows go on where nothing is."""
        ready = [it for part in parts for it in part.ready]
        left = insert_new(conn, ready)
        counts = Counter(new=len(ready) - len(left), unreadable=0 if left else _unreadable(parts))
        self._note(conn, counts, msgspec.structs.replace(so_far, steps=[]) if left else so_far)
        return left, counts

    def _decide(
        self, conn: Conn, parts: Sequence[_Part], facts: dict[Key, Answer], may_ask: bool, so_far: _SoFar
    ) -> "Counter[str]":
        """One transaction for what is here already, or may be someone we know, by the law. Raises _Asks."""
        left = [it.news for part in parts for it in part.ready]
        ledger = open_ledger(conn, [*(it.news for it in facts.values()), *left])
        for fact in facts.values():
            ledger.answer(fact)
        verdicts = [ledger.take(it, is_read=True) for it in left]
        asks = {it.key: it for it in verdicts if isinstance(it, AskAgain)}
        if asks and may_ask:
            raise _Asks(list(asks.values()))
        now = self.clock()
        apply(conn, ledger, now=now)
        record(conn, [*superseded_entries(ledger), *joined_entries(ledger.joined)], now=now)
        changed = sum(isinstance(it, Change) for it in verdicts)
        counts = Counter(changed=changed, left=len(left) - changed, unreadable=_unreadable(parts))
        self._note(conn, counts, so_far)
        return counts

    def _note(self, conn: Conn, counts: "Counter[str]", so_far: _SoFar) -> None:
        """At the end of a transaction, which must still have the lease: the audit, and where the windows are."""
        now, details = self.clock(), {name: counts[name] for name in ("new", "changed", "left")}
        if any(details.values()):
            entry = Entry(actor=self.actor, action="sync.took", target=self.run_id, cause=self.run_id, details=details)
            record(conn, [entry], now=now)
        store.hold(conn, self.lease, now=now)  # from here on one transaction after the other
        progress = go_on(store.find_progress(conn, self.run_id), so_far.places, so_far.steps)
        noted = {"progress": progress, "counts": dict(so_far.counts + counts)}
        store.note(conn, self.run_id, self.lease, noted, now=now)

    def _so_far(self, parts: Sequence[_Part]) -> _SoFar:
        """What a transaction of these pages goes on from; their windows go on by them, and by what is kept already."""
        windows = {id(it.place) for it in parts}
        steps = [
            Step(kind, index, part.before, part.after)
            for kind, places in self.places.items()
            for index, place in enumerate(places)
            if id(place) in windows
            for part in self._in_order[id(place)]
            if part.is_kept or part in parts
        ]
        return _SoFar({kind: list(places) for kind, places in self.places.items()}, Counter(self.counts), steps)

    def _move(self, place: Place) -> None:
        """As far as everything is kept; the last steps stay known, for a transaction that was slower."""
        in_order = self._in_order[id(place)]
        for part in in_order:
            if part.is_kept and part.before == place.cursor and not place.is_done:
                place.cursor, place.is_done, place.fetched = part.after.cursor, part.after.is_done, part.after.fetched
        while len(in_order) > TOGETHER * WRITERS and in_order[0].is_kept:
            in_order.popleft()


class _Asks(Exception):
    """Something must be asked before this can be kept."""

    def __init__(self, asks: Sequence[AskAgain]) -> None:
        super().__init__()
        self.asks = asks


def _unreadable(parts: Sequence[_Part]) -> int:
    return sum(len(part.page.unreadable) for part in parts)


def _myself() -> "asyncio.Task[None]":
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (only ever asked within one)
    return task


def _heard(written: "asyncio.Future[None]") -> None:
    """Nobody may be waiting for it any more."""
    if not written.cancelled():
        written.exception()
