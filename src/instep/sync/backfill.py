"""Load everything from Clerk for the first time, and resume where an interrupted backfill stopped."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from instep.audit.repository import NewAuditEntry, build_joined_entries, build_superseded_entries, record_entries
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
from instep.sync.apply import ClerkWriter
from instep.sync.models import ClerkListReader, ProgressCallback, SyncLease, SyncProgress, run_concurrently

log = structlog.get_logger(__name__)
MAX_CONCURRENT_WINDOWS = 24
MAX_INDEX_BUILDERS = 2  # the longest index takes as long as the others together
# Pages of one window that may be pending. Users have many windows; other kinds have one, which fills a transaction.
MAX_PENDING_PAGES: dict[EntityKind, int] = {"organization": 4, "user": 2, "membership": 40}
MAX_REFETCH_ROUNDS = 3
MAX_PAGES_PER_TRANSACTION = 20  # half of the pending pages: while one half is written, the other is read
MAX_WRITERS = 2  # concurrent transactions on PostgreSQL: one executes while the next is sent; SQLite has one writer
_EMPTY_PAGE = ListingPage(items=(), since=0, until=None, cursor=None, fetched=0)


class WindowProgress(Struct):
    """Position within a window: `cursor` None and `is_done` False is its beginning."""

    window: CreationWindow
    cursor: ListingCursor | None = None
    is_done: bool = False
    fetched: int = 0


@dataclass(eq=False)
class _PendingPage:
    """A page that moves its window from `before` to `after` once it and all earlier pages are stored."""

    progress: WindowProgress
    before: ListingCursor | None
    after: WindowProgress
    page: ListingPage
    rows: Sequence[PreparedRow]
    done: "asyncio.Future[None]"
    is_stored: bool = False


class WindowStep(Struct):
    """Move of a window (the `index`-th of its kind) from `before` to `after`."""

    kind: EntityKind
    index: int
    before: ListingCursor | None
    after: WindowProgress


class _WriterState(msgspec.Struct):
    """Copy of the writer's state for a transaction, which runs on another thread."""

    windows: dict[EntityKind, list[WindowProgress]]
    counts: "Counter[str]"
    steps: list[WindowStep]


@dataclass
class BackfillWriter:
    """Writes pages of a backfill. `windows` are the positions by kind; `counts` are the rows by result."""

    db: Database
    clerk: ClerkWriter
    clock: Clock
    run_id: str
    lease: SyncLease
    actor: str
    windows: dict[EntityKind, list[WindowProgress]]
    counts: "Counter[str]" = field(default_factory=Counter)
    _pending: list[_PendingPage] = field(default_factory=list)
    _queues: dict[int, deque[_PendingPage]] = field(default_factory=lambda: defaultdict(deque))
    _writers: "set[asyncio.Task[None]]" = field(default_factory=set)
    _failure: BaseException | None = None

    def submit(self, progress: WindowProgress, page: ListingPage) -> "asyncio.Future[None]":
        """Queue a page; the future resolves when it is stored. Pages that wait together share a transaction."""
        rows, queue = prepare_rows(page.items, now=self.clock()), self._queues[id(progress)]
        before = queue[-1].after.cursor if queue else progress.cursor
        after = WindowProgress(progress.window, page.cursor, page.cursor is None, page.fetched)
        pending = _PendingPage(progress, before, after, page, rows, asyncio.get_running_loop().create_future())
        pending.done.add_done_callback(_retrieve_exception)
        if self._failure is not None:
            pending.done.set_exception(self._failure)
            return pending.done
        self._pending.append(pending)
        queue.append(pending)
        if len(self._writers) < (1 if self.db.is_sqlite else MAX_WRITERS):
            self._writers.add(asyncio.create_task(self._write_all()))
        return pending.done

    async def close(self) -> None:
        """Stop writing, so that a run that failed while reading leaves no writer behind."""
        self._failure = self._failure or InterruptedError("The run has ended.")
        await asyncio.gather(*self._writers, return_exceptions=True)

    async def _write_all(self) -> None:
        """Write pending pages until there are none. After a failure nothing more is written."""
        while self._pending:
            pages, self._pending = self._pending[:MAX_PAGES_PER_TRANSACTION], self._pending[MAX_PAGES_PER_TRANSACTION:]
            try:
                if self._failure is None:
                    await self._store(pages)
            except BaseException as error:  # of any kind: no caller may wait indefinitely
                self._failure = error
            for pending in pages:
                if pending.done.cancelled():
                    continue
                if self._failure is not None:
                    pending.done.set_exception(self._failure)
                else:
                    pending.done.set_result(None)
        self._writers.discard(_current_task())  # now: a page submitted next must start a new writer

    async def _store(self, pages: Sequence[_PendingPage]) -> None:
        try:
            await self._insert_or_reconcile(pages)
        except PermanentError as error:
            if len(pages) > 1:  # the database rejects one page: store the others without it
                for pending in pages:
                    await self._store([pending])
            elif error.code == "database_refused":
                await self._store_row_by_row(pages[0])
            else:
                raise
        for pending in pages:
            pending.is_stored, pending.page, pending.rows = True, _EMPTY_PAGE, ()
            self._advance(pending.progress)

    async def _insert_or_reconcile(self, pages: Sequence[_PendingPage]) -> None:
        """Insert what is new in one transaction; reconcile the rest in another.

        Two, since writers to the mirror lock users before organizations and these before memberships, and the rest may
        contain users again: no two transactions deadlock (PostgreSQL).
        """
        left, counts = await self.db.write_bulk(self._insert, pages, self._snapshot_state(pages))
        self.counts += counts
        if left:
            keys = {it.key for it in left}
            for pending in pages:  # rows inserted already are not inserted again, even if the rest fails
                pending.rows = [it for it in pending.rows if it.observation.key in keys]
            await self._reconcile_remaining(pages, {})

    async def _reconcile_remaining(
        self,
        pages: Sequence[_PendingPage],
        refetched: dict[EntityKey, RefetchResult],
        *,
        rounds_left: int = MAX_REFETCH_ROUNDS,
    ) -> None:
        """Reconcile; fetch parents that are missing here from Clerk, and try again."""
        try:
            state = self._snapshot_state(pages)
            self.counts += await self.db.write_bulk(self._reconcile, pages, refetched, rounds_left > 0, state)
        except _RefetchNeededError as needed:
            refetched = refetched | match_refetch_results(needed.refetches, await self.clerk.refetch(needed.refetches))
            await self._reconcile_remaining(pages, refetched, rounds_left=rounds_left - 1)

    async def _store_row_by_row(self, pending: _PendingPage) -> None:
        """Store a page that has a row which the database rejects: that row is skipped and counted."""
        self.counts["unreadable"] += len(pending.page.unreadable)
        for item in pending.rows:
            page = msgspec.structs.replace(pending.page, items=[item.observation], unreadable=())
            try:
                await self._insert_or_reconcile([replace(pending, page=page, rows=[item])])
            except PermanentError as error:
                if error.code != "database_refused":
                    raise
                self.counts["unreadable"] += 1

    def _insert(
        self, conn: Conn, pages: Sequence[_PendingPage], state: _WriterState
    ) -> "tuple[list[Observation], Counter[str]]":
        """Insert new rows in one transaction; return the rest. The windows advance where there is none."""
        rows = [it for pending in pages for it in pending.rows]
        left = insert_new_rows(conn, rows)
        counts = Counter(new=len(rows) - len(left), unreadable=0 if left else _count_unreadable(pages))
        self._record_progress(conn, counts, msgspec.structs.replace(state, steps=[]) if left else state)
        return left, counts

    def _reconcile(
        self,
        conn: Conn,
        pages: Sequence[_PendingPage],
        refetched: dict[EntityKey, RefetchResult],
        can_refetch: bool,
        state: _WriterState,
    ) -> "Counter[str]":
        """Reconcile existing and possibly known rows in one transaction. Raises _RefetchNeededError."""
        left = [it.observation for pending in pages for it in pending.rows]
        unit_of_work = open_unit_of_work(conn, [*(it.state for it in refetched.values()), *left])
        for result in refetched.values():
            unit_of_work.reconcile_refetched(result)
        decisions = [unit_of_work.reconcile(it, is_read=True) for it in left]
        refetches = {it.key: it for it in decisions if isinstance(it, NeedsRefetch)}
        if refetches and can_refetch:
            raise _RefetchNeededError(list(refetches.values()))
        now = self.clock()
        apply_unit_of_work(conn, unit_of_work, now=now)
        record_entries(
            conn,
            [*build_superseded_entries(unit_of_work), *build_joined_entries(unit_of_work.local_memberships)],
            now=now,
        )
        changed = sum(isinstance(it, Change) for it in decisions)
        counts = Counter(changed=changed, left=len(left) - changed, unreadable=_count_unreadable(pages))
        self._record_progress(conn, counts, state)
        return counts

    def _record_progress(self, conn: Conn, counts: "Counter[str]", state: _WriterState) -> None:
        """Write the audit entry and the window positions at the end of a transaction, which must hold the lease."""
        now, details = self.clock(), {name: counts[name] for name in ("new", "changed", "left")}
        if any(details.values()):
            entry = NewAuditEntry(
                actor=self.actor, action="sync.took", target=self.run_id, cause=self.run_id, details=details
            )
            record_entries(conn, [entry], now=now)
        repository.renew_lease(conn, self.lease, now=now)  # serializes transactions from here on
        progress = advance_windows(repository.find_progress(conn, self.run_id), state.windows, state.steps)
        values = {"progress": progress, "counts": dict(state.counts + counts)}
        repository.update_run(conn, self.run_id, self.lease, values, now=now)

    def _snapshot_state(self, pages: Sequence[_PendingPage]) -> _WriterState:
        """Return the state that a transaction of these pages starts from, with the steps of stored and new pages."""
        moved = {id(it.progress) for it in pages}
        steps = [
            WindowStep(kind, index, pending.before, pending.after)
            for kind, windows in self.windows.items()
            for index, progress in enumerate(windows)
            if id(progress) in moved
            for pending in self._queues[id(progress)]
            if pending.is_stored or pending in pages
        ]
        return _WriterState(
            {kind: list(windows) for kind, windows in self.windows.items()}, Counter(self.counts), steps
        )

    def _advance(self, progress: WindowProgress) -> None:
        """Advance as far as everything is stored; the last steps are kept for a slower transaction."""
        queue = self._queues[id(progress)]
        for pending in queue:
            if pending.is_stored and pending.before == progress.cursor and not progress.is_done:
                progress.cursor, progress.is_done, progress.fetched = (
                    pending.after.cursor,
                    pending.after.is_done,
                    pending.after.fetched,
                )
        while len(queue) > MAX_PAGES_PER_TRANSACTION * MAX_WRITERS and queue[0].is_stored:
            queue.popleft()


@dataclass
class Backfill:
    """Imports everything of the given kinds, resuming at the window positions of `writer`."""

    db: Database
    source: ClerkListReader
    writer: BackfillWriter
    on_progress: ProgressCallback
    kinds: Sequence[EntityKind] = ENTITY_KINDS
    totals: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def run(self) -> None:
        """Import each kind in turn, parents first; create a kind's deferred indexes when it is imported.

        See mirror.deferred_indexes, and mirror.search for SQLite's. A run that fails creates them first, since it may
        not be resumed.
        """
        await self.db.write(deferred_indexes.defer_indexes, [TABLES_BY_KIND[kind].name for kind in self.kinds])
        try:
            async with asyncio.TaskGroup() as index_builds:
                for kind in self.kinds:
                    await self._backfill_kind(kind)
                    index_builds.create_task(create_deferred_indexes(self.db, TABLES_BY_KIND[kind].name))
            await self.db.write(search.index_deferred_rows)
        except BaseExceptionGroup as failures:
            await self.writer.close()
            if isinstance(failures, ExceptionGroup):
                await create_deferred_indexes(self.db)
            raise failures.exceptions[0] from None

    async def _backfill_kind(self, kind: EntityKind) -> None:
        """Import the windows of a kind concurrently; each page is stored with its window's position."""
        all_windows = self.writer.windows
        if kind not in all_windows:
            all_windows[kind] = [WindowProgress(window) for window in await self.source.windows(kind)]
        total, windows = await self.source.count(kind), all_windows[kind]
        slots = asyncio.Semaphore(MAX_CONCURRENT_WINDOWS)
        await run_concurrently([self._window(it, total, slots) for it in windows if not it.is_done])
        fetched = sum(it.fetched for it in windows)
        self.totals[kind] = {"before": total, "fetched": fetched, "after": await self.source.count(kind)}

    async def _window(self, progress: WindowProgress, total: int, slots: asyncio.Semaphore) -> None:
        kind = progress.window.kind
        submitted: deque[asyncio.Future[None]] = deque()
        async with slots:
            async for page in self.source.pages(progress.window, progress.cursor):
                submitted.append(self.writer.submit(progress, page))
                if len(submitted) >= MAX_PENDING_PAGES[kind]:
                    await submitted.popleft()
                self.on_progress(SyncProgress(kind, sum(it.fetched for it in self.writer.windows[kind]), total))
            for written in submitted:
                await written


async def create_deferred_indexes(db: Database, table: str | None = None) -> None:
    """Create the deferred indexes (of one table), concurrently where the database can.

    A failure is logged and retried the next time: only speed depends on it, and `instep doctor` reports it.
    """
    slots = asyncio.Semaphore(MAX_INDEX_BUILDERS)
    await asyncio.gather(
        *(_create_index(db, it, slots) for it in await db.read(deferred_indexes.list_deferred_indexes, table))
    )


async def _create_index(db: Database, name: str, slots: asyncio.Semaphore) -> None:
    async with slots:
        try:
            await db.write(deferred_indexes.create_deferred_index, name)
        except InstepError as error:
            log.warning("index_creation_failed", index=name, error=describe_error(error))


class _RefetchNeededError(Exception):
    """Entities must be fetched from Clerk before this can be stored."""

    def __init__(self, refetches: Sequence[NeedsRefetch]) -> None:
        super().__init__()
        self.refetches = refetches


def _count_unreadable(pages: Sequence[_PendingPage]) -> int:
    return sum(len(pending.page.unreadable) for pending in pages)


def _current_task() -> "asyncio.Task[None]":
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (only called within a task)
    return task


def _retrieve_exception(written: "asyncio.Future[None]") -> None:
    """Mark the exception as retrieved, since nothing may await the future any more."""
    if not written.cancelled():
        written.exception()


def advance_windows(
    kept: dict[str, Any], first: Mapping[EntityKind, Sequence[WindowProgress]], steps: Sequence[WindowStep]
) -> dict[str, Any]:
    """Return the position of every window after these steps, starting from the stored ones.

    `first` has the kinds that are not stored yet. No page is passed while an earlier one is missing: a step counts only
    for a window that is at its beginning.
    """
    windows = {kind: list(windows) for kind, windows in first.items()} | decode_window_progress(kept)
    for step in steps:
        it = windows[step.kind][step.index]
        if it.cursor == step.before and not it.is_done:
            windows[step.kind][step.index] = step.after
    plain: dict[str, Any] = msgspec.to_builtins(windows)
    return plain


def decode_window_progress(progress: dict[str, Any]) -> dict[EntityKind, list[WindowProgress]]:
    """Decode the stored window positions of an interrupted run."""
    return msgspec.convert(progress, dict[EntityKind, list[WindowProgress]])
