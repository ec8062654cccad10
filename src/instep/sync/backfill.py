"""Load everything from Clerk for the first time, and resume where an interrupted backfill stopped."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from instep.audit.entries import NewAuditEntry, build_joined_entries, build_superseded_entries
from instep.audit.repository import record_entries
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.errors import InstepError, PermanentError, describe_error
from instep.domain.events import Observation
from instep.domain.listing import CreationWindow, ListingCursor, ListingPage
from instep.domain.models import ENTITY_KINDS, EntityKey, EntityKind
from instep.domain.reconcile import Change, NeedsRefetch, RefetchResult, match_refetch_results
from instep.mirror import deferred_indexes, search
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.bulk_insert import PreparedRow, insert_new_rows, prepare_rows
from instep.mirror.repository import TABLES_BY_KIND
from instep.mirror.unit_of_work import open_unit_of_work
from instep.sync import repository
from instep.sync.models import (
    ClerkListReader,
    EntityAccess,
    ProgressCallback,
    SyncLease,
    SyncProgress,
    run_concurrently,
)

log = structlog.get_logger(__name__)
MAX_CONCURRENT_WINDOWS = 24
MAX_INDEX_BUILDERS = 2  # the longest index takes as long as the others together
# Pages of one window that may wait to be kept. Users have many windows; the others have one, and fill a transaction.
MAX_PENDING_PAGES: dict[EntityKind, int] = {"organization": 4, "user": 2, "membership": 40}
MAX_REFETCH_ROUNDS = 3


class WindowProgress(Struct):
    """Where a window is: `cursor` None and `is_done` False is its beginning."""

    window: CreationWindow
    cursor: ListingCursor | None = None
    is_done: bool = False
    fetched: int = 0


@dataclass(eq=False)
class _PendingPage:
    """A page of a window that was at `before` and is at `after` once this and everything before it is kept."""

    place: WindowProgress
    before: ListingCursor | None
    after: WindowProgress
    page: ListingPage
    ready: Sequence[PreparedRow]
    done: "asyncio.Future[None]"
    is_kept: bool = False


class WindowStep(Struct):
    """A window (the `index`-th of its kind) that is at `before` goes on to `after`."""

    kind: EntityKind
    index: int
    before: ListingCursor | None
    after: WindowProgress


class _WriterState(msgspec.Struct):
    """What the event loop knows when a transaction is handed over; the transaction runs on another thread."""

    places: dict[EntityKind, list[WindowProgress]]
    counts: "Counter[str]"
    steps: list[WindowStep]


@dataclass
class BackfillWriter:
    """Writes pages of a first sync. `places` is where every window is, by kind; `counts` what became of the rows."""

    db: Database
    writes: EntityAccess
    clock: Clock
    run_id: str
    lease: SyncLease
    actor: str
    places: dict[EntityKind, list[WindowProgress]]
    counts: "Counter[str]" = field(default_factory=Counter)
    _parts: list[_PendingPage] = field(default_factory=list)
    _in_order: dict[int, deque[_PendingPage]] = field(default_factory=lambda: defaultdict(deque))
    _writers: "set[asyncio.Task[None]]" = field(default_factory=set)
    _failure: BaseException | None = None

    def put(self, place: WindowProgress, page: ListingPage) -> "asyncio.Future[None]":
        """Hand a page over, to be awaited until it is kept: pages that wait together share a transaction."""
        ready, in_order = prepare_rows(page.items, now=self.clock()), self._in_order[id(place)]
        before = in_order[-1].after.cursor if in_order else place.cursor
        after = WindowProgress(place.window, page.cursor, page.cursor is None, page.fetched)
        part = _PendingPage(place, before, after, page, ready, asyncio.get_running_loop().create_future())
        part.done.add_done_callback(_retrieve_exception)
        if self._failure is not None:
            part.done.set_exception(self._failure)
            return part.done
        self._parts.append(part)
        in_order.append(part)
        if len(self._writers) < (1 if self.db.is_sqlite else MAX_WRITERS):
            self._writers.add(asyncio.create_task(self._write_all()))
        return part.done

    async def close(self) -> None:
        """Nothing more is written when this ends: a run that has failed while reading leaves no writer behind."""
        self._failure = self._failure or InterruptedError("The run has ended.")
        await asyncio.gather(*self._writers, return_exceptions=True)

    async def _write_all(self) -> None:
        """Write whatever waits, until nothing does. After a failure nothing more."""
        while self._parts:
            parts, self._parts = self._parts[:MAX_PAGES_PER_TRANSACTION], self._parts[MAX_PAGES_PER_TRANSACTION:]
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
        self._writers.discard(_current_task())  # at once: whoever hands over the next page must not count on this one

    async def _keep(self, parts: Sequence[_PendingPage]) -> None:
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
            part.is_kept, part.page, part.ready = True, _EMPTY_PAGE, ()
            self._move(part.place)

    async def _take(self, parts: Sequence[_PendingPage]) -> None:
        """Take pages in: what is new in one transaction; what is left of them, if anything is, in another.

        Two, since whoever writes to the mirror locks people before organizations and these before memberships, and what
        is left may be about people again: no two wait for each other in a circle (PostgreSQL).
        """
        left, counts = await self.db.write_bulk(self._insert, parts, self._so_far(parts))
        self.counts += counts
        if left:
            keys = {it.key for it in left}
            for part in parts:  # what is in already is not taken again, whatever becomes of the rest
                part.ready = [it for it in part.ready if it.observation.key in keys]
            await self._decide_remaining(parts, {})

    async def _decide_remaining(
        self,
        parts: Sequence[_PendingPage],
        facts: dict[EntityKey, RefetchResult],
        *,
        left_to_ask: int = MAX_REFETCH_ROUNDS,
    ) -> None:
        """By the law; parents that are not here are read in Clerk, and it is tried again."""
        try:
            so_far = self._so_far(parts)
            self.counts += await self.db.write_bulk(self._decide, parts, facts, left_to_ask > 0, so_far)
        except _RefetchNeededError as open_:
            facts = facts | match_refetch_results(open_.asks, await self.writes.fetch(open_.asks))
            await self._decide_remaining(parts, facts, left_to_ask=left_to_ask - 1)

    async def _one_by_one(self, part: _PendingPage) -> None:
        """A page with a row that the database does not take: that one is left out and counted."""
        self.counts["unreadable"] += len(part.page.unreadable)
        for item in part.ready:
            page = msgspec.structs.replace(part.page, items=[item.observation], unreadable=())
            try:
                await self._take([replace(part, page=page, ready=[item])])
            except PermanentError as error:
                if error.code != "database_refused":
                    raise
                self.counts["unreadable"] += 1

    def _insert(
        self, conn: Conn, parts: Sequence[_PendingPage], so_far: _WriterState
    ) -> "tuple[list[Observation], Counter[str]]":
        """One transaction for what is new; gives what is left. The windows go on where nothing is."""
        ready = [it for part in parts for it in part.ready]
        left = insert_new_rows(conn, ready)
        counts = Counter(new=len(ready) - len(left), unreadable=0 if left else _count_unreadable(parts))
        self._note(conn, counts, msgspec.structs.replace(so_far, steps=[]) if left else so_far)
        return left, counts

    def _decide(
        self,
        conn: Conn,
        parts: Sequence[_PendingPage],
        facts: dict[EntityKey, RefetchResult],
        may_ask: bool,
        so_far: _WriterState,
    ) -> "Counter[str]":
        """One transaction for what is here already, or may be someone we know, by the law. Raises _Asks."""
        left = [it.observation for part in parts for it in part.ready]
        ledger = open_unit_of_work(conn, [*(it.state for it in facts.values()), *left])
        for fact in facts.values():
            ledger.reconcile_refetched(fact)
        verdicts = [ledger.reconcile(it, is_read=True) for it in left]
        asks = {it.key: it for it in verdicts if isinstance(it, NeedsRefetch)}
        if asks and may_ask:
            raise _RefetchNeededError(list(asks.values()))
        now = self.clock()
        apply_unit_of_work(conn, ledger, now=now)
        record_entries(
            conn, [*build_superseded_entries(ledger), *build_joined_entries(ledger.local_memberships)], now=now
        )
        changed = sum(isinstance(it, Change) for it in verdicts)
        counts = Counter(changed=changed, left=len(left) - changed, unreadable=_count_unreadable(parts))
        self._note(conn, counts, so_far)
        return counts

    def _note(self, conn: Conn, counts: "Counter[str]", so_far: _WriterState) -> None:
        """At the end of a transaction, which must still have the lease: the audit, and where the windows are."""
        now, details = self.clock(), {name: counts[name] for name in ("new", "changed", "left")}
        if any(details.values()):
            entry = NewAuditEntry(
                actor=self.actor, action="sync.took", target=self.run_id, cause=self.run_id, details=details
            )
            record_entries(conn, [entry], now=now)
        repository.renew_lease(conn, self.lease, now=now)  # from here on one transaction after the other
        progress = advance_windows(repository.find_progress(conn, self.run_id), so_far.places, so_far.steps)
        noted = {"progress": progress, "counts": dict(so_far.counts + counts)}
        repository.update_run(conn, self.run_id, self.lease, noted, now=now)

    def _so_far(self, parts: Sequence[_PendingPage]) -> _WriterState:
        """What a transaction of these pages goes on from; their windows go on by them, and by what is kept already."""
        windows = {id(it.place) for it in parts}
        steps = [
            WindowStep(kind, index, part.before, part.after)
            for kind, places in self.places.items()
            for index, place in enumerate(places)
            if id(place) in windows
            for part in self._in_order[id(place)]
            if part.is_kept or part in parts
        ]
        return _WriterState({kind: list(places) for kind, places in self.places.items()}, Counter(self.counts), steps)

    def _move(self, place: WindowProgress) -> None:
        """As far as everything is kept; the last steps stay known, for a transaction that was slower."""
        in_order = self._in_order[id(place)]
        for part in in_order:
            if part.is_kept and part.before == place.cursor and not place.is_done:
                place.cursor, place.is_done, place.fetched = part.after.cursor, part.after.is_done, part.after.fetched
        while len(in_order) > MAX_PAGES_PER_TRANSACTION * MAX_WRITERS and in_order[0].is_kept:
            in_order.popleft()


@dataclass
class Backfill:
    """Takes everything of the wanted kinds in, going on where `keeper` says that an interrupted run was."""

    db: Database
    source: ClerkListReader
    keeper: BackfillWriter
    told: ProgressCallback
    kinds: Sequence[EntityKind] = ENTITY_KINDS
    totals: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def run(self) -> None:
        """Each kind in turn, parents first; what indexes were spared of goes into them when a kind is in.

        See mirror.held, and mirror.search for SQLite's. A run that fails makes them first: who knows who goes on.
        """
        await self.db.write(deferred_indexes.defer_indexes, [TABLES_BY_KIND[kind].name for kind in self.kinds])
        try:
            async with asyncio.TaskGroup() as making:
                for kind in self.kinds:
                    await self._backfill_kind(kind)
                    making.create_task(create_deferred_indexes(self.db, TABLES_BY_KIND[kind].name))
            await self.db.write(search.index_deferred_rows)
        except BaseExceptionGroup as failures:
            await self.keeper.close()
            if isinstance(failures, ExceptionGroup):
                await create_deferred_indexes(self.db)
            raise failures.exceptions[0] from None

    async def _backfill_kind(self, kind: EntityKind) -> None:
        """Its windows side by side, each page kept with its window's place."""
        all_places = self.keeper.places
        if kind not in all_places:
            all_places[kind] = [WindowProgress(window) for window in await self.source.windows(kind)]
        total, places = await self.source.count(kind), all_places[kind]
        lanes = asyncio.Semaphore(MAX_CONCURRENT_WINDOWS)
        await run_concurrently([self._window(it, total, lanes) for it in places if not it.is_done])
        fetched = sum(it.fetched for it in places)
        self.totals[kind] = {"before": total, "fetched": fetched, "after": await self.source.count(kind)}

    async def _window(self, place: WindowProgress, total: int, lanes: asyncio.Semaphore) -> None:
        kind = place.window.kind
        under_way: deque[asyncio.Future[None]] = deque()
        async with lanes:
            async for page in self.source.pages(place.window, place.cursor):
                under_way.append(self.keeper.put(place, page))
                if len(under_way) >= MAX_PENDING_PAGES[kind]:
                    await under_way.popleft()
                self.told(SyncProgress(kind, sum(it.fetched for it in self.keeper.places[kind]), total))
            for written in under_way:
                await written


async def create_deferred_indexes(db: Database, table: str | None = None) -> None:
    """Make the indexes (of one table) that were held back, side by side where the database can.

    What can't be made is logged and waits for the next time: only speed depends on it, and `instep doctor` says so.
    """
    makers = asyncio.Semaphore(MAX_INDEX_BUILDERS)
    await asyncio.gather(
        *(_create_index(db, it, makers) for it in await db.read(deferred_indexes.list_deferred_indexes, table))
    )


async def _create_index(db: Database, name: str, makers: asyncio.Semaphore) -> None:
    async with makers:
        try:
            await db.write(deferred_indexes.create_deferred_index, name)
        except InstepError as error:
            log.warning("index_not_made", index=name, error=describe_error(error))


MAX_PAGES_PER_TRANSACTION = 20


"""Pages that share a transaction at the most: while one half of what may wait is written, the other half is read."""


MAX_WRITERS = 2


"""Transactions side by side on PostgreSQL, which works on one while the other is handed over; SQLite has one writer."""


_EMPTY_PAGE = ListingPage(items=(), since=0, until=None, cursor=None, fetched=0)


class _RefetchNeededError(Exception):
    """Something must be asked before this can be kept."""

    def __init__(self, asks: Sequence[NeedsRefetch]) -> None:
        super().__init__()
        self.asks = asks


def _count_unreadable(parts: Sequence[_PendingPage]) -> int:
    return sum(len(part.page.unreadable) for part in parts)


def _current_task() -> "asyncio.Task[None]":
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (only ever asked within one)
    return task


def _retrieve_exception(written: "asyncio.Future[None]") -> None:
    """Nobody may be waiting for it any more."""
    if not written.cancelled():
        written.exception()


def advance_windows(
    kept: dict[str, Any], first: Mapping[EntityKind, Sequence[WindowProgress]], steps: Sequence[WindowStep]
) -> dict[str, Any]:
    """Where every window is after these steps, from where the database has it (`first`: kinds it does not know yet).

    No page is passed of which one before is not kept: a step counts only for a window that is where it begins.
    """
    places = {kind: list(places) for kind, places in first.items()} | decode_window_progress(kept)
    for step in steps:
        it = places[step.kind][step.index]
        if it.cursor == step.before and not it.is_done:
            places[step.kind][step.index] = step.after
    plain: dict[str, Any] = msgspec.to_builtins(places)
    return plain


def decode_window_progress(progress: dict[str, Any]) -> dict[EntityKind, list[WindowProgress]]:
    """Where an interrupted run was."""
    return msgspec.convert(progress, dict[EntityKind, list[WindowProgress]])
