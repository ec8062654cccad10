"""Read both sides completely and store the differences as findings."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import msgspec
from msgspec import Struct

from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.i18n import lazy_gettext
from instep.domain.emails import canonicalize_email
from instep.domain.events import LookupResult, Observation
from instep.domain.listing import CreationWindow, ListingPage, MirroredEntity
from instep.domain.models import ENTITY_KINDS, ClerkUser, EntityKey, EntityKind
from instep.domain.reconcile import NeedsRefetch
from instep.mirror import snapshot
from instep.mirror.repository import find_unlinked_user_ids
from instep.sync import models, plan, repository
from instep.sync.models import (
    ClerkListReader,
    EntityTotals,
    ProgressCallback,
    SyncLease,
    SyncProgress,
    SyncRefusedError,
    run_concurrently,
)
from instep.sync.plan import DELETION_KINDS, RECHECKED_KINDS, FieldOwnership, Finding, FindingKind, make_key
from instep.sync.plan import make_key as _key


def make_linking_finding(finding: Finding, ours: str) -> Finding:
    """Make the finding of a user known in Clerk by id and here by email only; applying it links the two."""
    note = "Same verified email, but no Clerk account here: linked when applied."
    return msgspec.structs.replace(finding, kind="not_linked", here=ours, note=note)


def make_unlinked_finding(here: str, email: str, clerk_id: str) -> Finding:
    """Make the finding of a user without a Clerk account whose verified email another row with an account has."""
    note = f"Another user here has this email and the Clerk ID {clerk_id}. Decide which row to keep."
    return Finding(kind="not_linked", key=_key("user", clerk_id), here=here, label=email, repair_target=None, note=note)


def make_duplicate_email_finding(email: str, users: Sequence[tuple[str, str]]) -> Finding:
    """Make the finding of several active users with one email; in Clerk an email belongs to one user."""
    note = "Same email: " + ", ".join(f"{user_id} ({clerk_id})" for user_id, clerk_id in users)
    key = _key("user", users[0][1])
    return Finding(kind="duplicate_email", key=key, here=users[0][0], label=email, repair_target=None, note=note)


def make_legacy_invited_finding(here: str, label: str) -> Finding:
    """Make the finding of a member row with status "invited"; pending invitations are kept only in Clerk."""
    note = "Pending invitations are kept in Clerk; this row is marked as removed when applied."
    return Finding(kind="legacy_invited", key=_key("membership", here), here=here, label=label, note=note)


def make_incomplete_list_finding(kind: EntityKind, total: EntityTotals) -> Finding:
    """Make the finding that Clerk's list of a kind was shorter than Clerk's count."""
    note = f"Clerk listed {total.fetched} of {total.after}: other differences can't be detected. Check again later."
    return Finding(kind="not_whole", key=_key(kind, ""), label=f"{kind}s", repair_target=None, note=note)


def make_unreadable_finding(kind: EntityKind, text: str) -> Finding:
    """Make the finding of an entity of Clerk's that can't be parsed."""
    clerk_id = text.partition(":")[0]
    return Finding(kind="unreadable", key=_key(kind, clerk_id), label=clerk_id, repair_target=None, note=text)


MAX_MIRROR_FINDINGS = 500


def list_mirror_rows(
    conn: Conn, kind: EntityKind, since: int, until: int | None, after: str
) -> tuple[list[MirroredEntity], tuple[int, str] | None]:
    """Return mirror rows of a span of time; see snapshot.list_mirror_rows."""
    return snapshot.list_mirror_rows(conn, kind, since=since, until=until, after=after)


def find_mirror_rows(
    conn: Conn, kind: EntityKind, theirs: Sequence[Observation]
) -> tuple[list[MirroredEntity], dict[str, str]]:
    """Return the present mirror rows of these entities, and our unlinked users with the same emails."""
    ours = snapshot.find_mirror_rows(conn, kind, [it.key.id for it in theirs]) if theirs else []
    known = {it.clerk_id for it in ours}
    people = [it.entity for it in theirs if isinstance(it.entity, ClerkUser) and it.key.id not in known]
    return ours, find_unlinked_user_ids(conn, [it.email for it in people if it.email and it.is_email_verified])


def find_mirror_rows_of_findings(conn: Conn, rows: Sequence[models.FindingRow]) -> dict[EntityKey, MirroredEntity]:
    """Return the present mirror rows of these findings by their keys."""
    found: dict[EntityKey, MirroredEntity] = {}
    for kind in ENTITY_KINDS:
        ids = [it.finding.key.id for it in rows if it.finding.key.kind == kind]
        found |= {make_key(kind, it.clerk_id): it for it in snapshot.find_mirror_rows(conn, kind, ids)} if ids else {}
    return found


def link_if_unlinked(finding: Finding, unlinked: dict[str, str]) -> Finding:
    """Turn the finding into a linking where a user without a Clerk account has the same verified email."""
    person = finding.observation.entity if finding.observation else None
    if not isinstance(person, ClerkUser) or not person.is_email_verified or not person.email:
        return finding
    ours = unlinked.get(canonicalize_email(person.email))
    return make_linking_finding(finding, ours) if ours else finding


def list_mirror_findings(conn: Conn) -> list[Finding]:
    """Return findings that need the database only: duplicate emails, unlinked users, rows with status "invited"."""
    twice = [
        make_duplicate_email_finding(email, [(it.id, it.label) for it in who])
        for email, who in snapshot.list_duplicate_emails(conn, MAX_MIRROR_FINDINGS)
    ]
    unlinked = [
        make_unlinked_finding(id, email, clerk_id)
        for id, email, clerk_id in snapshot.list_linkable_users(conn, MAX_MIRROR_FINDINGS)
    ]
    invited = [
        make_legacy_invited_finding(it.id, it.label)
        for it in snapshot.list_legacy_invited_members(conn, MAX_MIRROR_FINDINGS)
    ]
    return [*twice, *unlinked, *invited]


def find_labels(conn: Conn, rows: Sequence[models.FindingRow]) -> dict[int, str]:
    """Return the labels of rows that exist in the mirror only, by their numbers."""
    named: dict[int, str] = {}
    for kind in ENTITY_KINDS:
        of_kind = {row.finding.here: row.number for row in rows if row.finding.key.kind == kind and row.finding.here}
        labels = snapshot.find_labels(conn, kind, list(of_kind)) if of_kind else {}
        named |= {of_kind[id]: text for id, text in labels.items()}
    return named


MAX_CONCURRENT_WINDOWS = 12
MAX_CONCURRENT_READS = 2  # pages compared at a time: more is not faster, and each connection uses memory
MAX_FINDINGS = 100_000
WRITE_BATCH = 500
RECHECK_BATCH = 100
MAX_RECHECK_ROUNDS = 3


class _WindowResult(Struct, frozen=True):
    """Result of a window's scan: number fetched, completeness, total and number of unreadable entities."""

    fetched: int
    is_whole: bool
    total: int | None
    unreadable: int


@dataclass
class Scan:
    """One full comparison. `on_progress` gets the progress, `refetch` reads single entities from Clerk.

    `is_check`: it reports everything it found, and refuses nothing.
    """

    db: Database
    source: ClerkListReader
    policy: FieldOwnership
    clock: Clock
    run_id: str
    lease: SyncLease
    started_at: int
    on_progress: ProgressCallback
    refetch: Callable[[Sequence[NeedsRefetch]], Awaitable[list[LookupResult]]]
    is_check: bool = False
    totals: dict[str, EntityTotals] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _count: int = 0
    _overflow: dict[tuple[FindingKind, EntityKind], int] = field(default_factory=dict)
    _unsaved: list[tuple[int, Finding]] = field(default_factory=list)
    _matched_ids: set[str] = field(default_factory=set)
    _done: int = 0
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_READS))

    async def run(self) -> dict[str, int]:
        """Compare everything; return the number of findings of each kind.

        1. Scan each kind in windows and compare it with the mirror page by page. 2. Add what can be found in the
        database alone. 3. Recheck what Clerk did not list, and what a change during the scan would look like.

        Raises SyncRefusedError where a list is incomplete or too much differs to be stored; a check reports that
        instead.
        """
        for kind in ENTITY_KINDS:
            self.totals[kind] = await self._walk(kind)
            if not self.totals[kind].is_whole:  # possibly too many changes meanwhile: retry once
                await self._discard(kind)
                self.totals[kind] = await self._walk(kind)
        await self._add(await self.db.read(list_mirror_findings))
        await self._report_incomplete_lists()
        await self._flush()
        await self._recheck_findings()
        found = await self.db.read(repository.count_findings, self.run_id)
        totals: dict[str, int] = {}
        for (what, _), number in [*found.items(), *self._overflow.items()]:
            totals[what] = totals.get(what, 0) + number
        return totals

    async def _walk(self, kind: EntityKind) -> EntityTotals:
        before = await self.source.count(kind)
        self._done = 0
        slots = asyncio.Semaphore(MAX_CONCURRENT_WINDOWS)
        windows = await self.source.windows(kind)
        most = before if sum(not it.is_open for it in windows) > 1 else None
        results = await run_concurrently([self._walk_window(window, before, most, slots) for window in windows])
        after = await self.source.count(kind)
        fetched = sum(it.fetched for it in results)
        is_whole = all(it.is_whole for it in results)
        if any(it.total is None for it in results):  # the provider does not count by window
            is_whole = is_whole and fetched >= after
        unreadable = sum(it.unreadable for it in results)
        return EntityTotals(before=before, fetched=fetched, after=after, is_whole=is_whole, unreadable=unreadable)

    async def _walk_window(
        self, window: CreationWindow, total: int, most: int | None, slots: asyncio.Semaphore
    ) -> "_WindowResult":
        """Scan one window and compare it. Complete: not fewer fetched than there are at the end, and no gap.

        Where one window of several has `most` of them, the provider's counts ignore windows.
        """
        fetched, is_sure, unreadable, there = 0, True, 0, None
        async with slots:
            async for page in self.source.pages(window):
                await self._compare_page(window, page)
                self._done += page.fetched - fetched
                fetched, is_sure, there = page.fetched, is_sure and page.is_contiguous, page.total
                unreadable += len(page.unreadable)
                self.on_progress(SyncProgress(window.kind, self._done, total))
        if window.is_open:
            there = fetched
        elif window.kind == "user":
            there = await self.source.count_within(window)
            there = None if there is not None and most is not None and there >= most else there
        return _WindowResult(fetched, is_sure and (there is None or fetched >= there), there, unreadable)

    async def _discard(self, kind: EntityKind) -> None:
        await self._flush()
        await self.db.write(repository.delete_findings_of_kind, self.run_id, kind)
        self._overflow = {key: number for key, number in self._overflow.items() if key[1] != kind}

    async def _compare_page(self, window: CreationWindow, page: ListingPage) -> None:
        """Compare a page with the mirror rows of the same span; compare what differs again with the present rows."""
        kind, comparison = window.kind, plan.Comparison(page.items, self.policy, kind=window.kind)
        found: list[Finding] = []
        since, after = page.since, ""
        while True:
            async with self._reading:
                ours, more = await self.db.read(list_mirror_rows, kind, since, page.until, after)
            found += comparison.take(ours)
            await self._add_suspects([it for it in found if it.observation is None])
            found = [it for it in found if it.observation is not None]
            if more is None:
                break
            since, after = more
        found += comparison.rest()
        found += [make_unreadable_finding(kind, text) for text in page.unreadable]
        if found:
            await self._add(await self._compare_with_present_rows(kind, found))

    async def _add_suspects(self, gone: Sequence[Finding]) -> None:
        """Add the rows that Clerk did not list, unless they were created here after the scan started."""
        if gone:
            await self._add([it for it in gone if (it.wrote_at or 0) < self.started_at])

    async def _compare_with_present_rows(self, kind: EntityKind, found: Sequence[Finding]) -> list[Finding]:
        """Compare again with the mirror's present rows: deliveries arrive meanwhile, and a row may have moved."""
        theirs = [it.observation for it in found if it.observation is not None]
        ours, unlinked = await self.db.read(find_mirror_rows, kind, theirs)
        by_id = {our.clerk_id: our for our in ours}
        rest = [it for it in found if it.observation is None]
        for their in theirs:
            our = by_id.get(their.key.id)
            if our is None:
                rest.append(link_if_unlinked(plan.make_missing_here_finding(their), unlinked))
                continue
            self._matched_ids.add(our.clerk_id)
            if finding := plan.compare_contents(their, our, self.policy):
                rest.append(finding)
        return rest

    async def _add(self, found: Sequence[Finding]) -> None:
        capacity = max(MAX_FINDINGS - self._count, 0)
        for finding in found[:capacity]:
            self._unsaved.append((next(self._numbers), finding))
        self._count += len(found)
        if self._count > MAX_FINDINGS and not self.is_check:
            text = lazy_gettext(
                "More than %(count)s rows differ. Import everything instead: instep sync apply --first",
                count=MAX_FINDINGS,
            )
            raise SyncRefusedError(text, code="too_many")
        for finding in found[capacity:]:
            key = (finding.kind, finding.key.kind)
            self._overflow[key] = self._overflow.get(key, 0) + 1
        if len(self._unsaved) >= WRITE_BATCH:
            await self._flush()

    async def _flush(self) -> None:
        unsaved, self._unsaved = self._unsaved, []
        await self.db.write(self._write, unsaved)

    def _write(self, conn: Conn, unsaved: Sequence[tuple[int, Finding]]) -> None:
        repository.renew_lease(conn, self.lease, now=self.clock())
        repository.save_findings(conn, self.run_id, unsaved)

    async def _report_incomplete_lists(self) -> None:
        """Report Clerk's incomplete lists: a check as findings, any other run by refusing."""
        parts = {kind: self.totals[kind] for kind in ENTITY_KINDS if not self.totals[kind].is_whole}
        if parts and not self.is_check:
            text = lazy_gettext(
                "Clerk's lists are incomplete (%(lists)s), so missing rows can't be detected. Nothing was changed.",
                lists=", ".join(f"{it.fetched} of {it.after} {kind}s" for kind, it in parts.items()),
            )
            raise SyncRefusedError(text, code="not_whole")
        await self._add([make_incomplete_list_finding(kind, it) for kind, it in parts.items()])

    async def _recheck_findings(self) -> None:
        """Verify suspected deletions, and findings that a delivery during the scan would look like.

        A suspect is dropped if it was found in another window or Clerk has it after all, the others if both sides are
        equal by now.
        """
        await self._drop_matched_suspects()
        for kinds, look in ((DELETION_KINDS, self._recheck_in_clerk), (RECHECKED_KINDS, self._recheck_on_both_sides)):
            after = 0
            while rows := await self.db.read(
                repository.list_findings_to_recheck, self.run_id, after=after, limit=RECHECK_BATCH, kinds=kinds
            ):
                await look(rows)
                after = rows[-1].number

    async def _recheck_on_both_sides(self, rows: Sequence[models.FindingRow]) -> None:
        """Read these rows on both sides, ours before Clerk's; repeat a few times where ours changed meanwhile."""
        confirmed: list[tuple[int, Finding]] = []
        left = list(rows)
        for turn in range(MAX_RECHECK_ROUNDS):
            before = await self.db.read(find_mirror_rows_of_findings, left)
            refetches = [
                NeedsRefetch(it.finding.key, it.finding.observation.entity) for it in left if it.finding.observation
            ]
            theirs = {it.key: it for it in await self.refetch(refetches) if isinstance(it, Observation)}
            now = await self.db.read(find_mirror_rows_of_findings, left)
            changing = []
            for row in left:
                our, their = now.get(row.finding.key), theirs.get(row.finding.key)
                finding = plan.compare_contents(their, our, self.policy) if our and their else None
                if finding is not None and before.get(row.finding.key) != our and turn < MAX_RECHECK_ROUNDS - 1:
                    changing.append(row)
                elif finding is not None:
                    confirmed.append((row.number, finding))
            left = changing
            if not left:
                break
        await self.db.write(self._save_rechecked_findings, [row.number for row in rows], confirmed)

    def _save_rechecked_findings(
        self, conn: Conn, numbers: Sequence[int], confirmed: Sequence[tuple[int, Finding]]
    ) -> None:
        repository.renew_lease(conn, self.lease, now=self.clock())
        repository.delete_findings(conn, self.run_id, numbers)
        repository.save_findings(conn, self.run_id, confirmed)

    async def _drop_matched_suspects(self) -> None:
        after = 0
        while self._matched_ids and (
            rows := await self.db.read(repository.list_findings_to_recheck, self.run_id, after=after, limit=WRITE_BATCH)
        ):
            met = [row.number for row in rows if row.finding.key.id in self._matched_ids]
            await self.db.write(repository.delete_findings, self.run_id, met)
            after = rows[-1].number

    async def _recheck_in_clerk(self, rows: Sequence[models.FindingRow]) -> None:
        refetches = await self.db.read(repository.build_refetches, [row.finding for row in rows])
        absent = await self.source.find_absent(refetches)
        there = [row.number for row in rows if row.finding.key not in absent]
        labels = await self.db.read(find_labels, [row for row in rows if row.finding.key in absent])
        await self.db.write(self._save_confirmed_deletions, there, labels)

    def _save_confirmed_deletions(self, conn: Conn, there: Sequence[int], labels: dict[int, str]) -> None:
        repository.renew_lease(conn, self.lease, now=self.clock())
        repository.delete_findings(conn, self.run_id, there)
        repository.set_labels(conn, self.run_id, labels)
