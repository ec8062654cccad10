"""Read both sides completely and store the differences as findings."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import msgspec
from msgspec import Struct

from instep.core.clock import Clock
from instep.core.db import Conn, Database
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
    """Someone whom only Clerk knows by id, and whom we know by the address: taking them in links the two."""
    note = "The same verified address, without a Clerk account here: linked when applied."
    return msgspec.structs.replace(finding, kind="not_linked", here=ours, note=note)


def make_unlinked_finding(here: str, email: str, clerk_id: str) -> Finding:
    """A person without a Clerk account whose verified address another row has, which has one."""
    note = f"Another person here has this address and Clerk's {clerk_id}. Someone has to say which row stays."
    return Finding(kind="not_linked", key=_key("user", clerk_id), here=here, label=email, mend=None, note=note)


def make_duplicate_email_finding(email: str, who: Sequence[tuple[str, str]]) -> Finding:
    """One address, several living people: in Clerk an address belongs to one."""
    note = "The same address: " + ", ".join(f"{id} ({clerk_id})" for id, clerk_id in who)
    key = _key("user", who[0][1])
    return Finding(kind="duplicate_email", key=key, here=who[0][0], label=email, mend=None, note=note)


def make_legacy_invited_finding(here: str, label: str) -> Finding:
    """A member's row that says "invited": pending invitations live in Clerk alone."""
    note = "Pending invitations live in Clerk; this row is marked as removed when applied."
    return Finding(kind="legacy_invited", key=_key("membership", here), here=here, label=label, note=note)


def make_incomplete_list_finding(kind: EntityKind, total: EntityTotals) -> Finding:
    """Return the finding that Clerk's list of a kind was shorter than Clerk's count."""
    note = f"Clerk listed {total.fetched} of {total.after}: whatever else differs can't be seen. Check again later."
    return Finding(kind="not_whole", key=_key(kind, ""), label=f"{kind}s", mend=None, note=note)


def make_unreadable_finding(kind: EntityKind, text: str) -> Finding:
    """A row of Clerk's that can't be read."""
    id = text.partition(":")[0]
    return Finding(kind="unreadable", key=_key(kind, id), label=id, mend=None, note=text)


MAX_MIRROR_FINDINGS = 500


def list_mirror_rows(
    conn: Conn, kind: EntityKind, since: int, until: int | None, after: str
) -> tuple[list[MirroredEntity], tuple[int, str] | None]:
    """See snapshot.list_ours."""
    return snapshot.list_mirror_rows(conn, kind, since=since, until=until, after=after)


def find_mirror_rows(
    conn: Conn, kind: EntityKind, theirs: Sequence[Observation]
) -> tuple[list[MirroredEntity], dict[str, str]]:
    """The rows of these as they stand now, and our unlinked people of the same addresses."""
    ours = snapshot.find_mirror_rows(conn, kind, [it.key.id for it in theirs]) if theirs else []
    known = {it.clerk_id for it in ours}
    people = [it.entity for it in theirs if isinstance(it.entity, ClerkUser) and it.key.id not in known]
    return ours, find_unlinked_user_ids(conn, [it.email for it in people if it.email and it.is_email_verified])


def find_mirror_rows_of_findings(conn: Conn, rows: Sequence[models.FindingRow]) -> dict[EntityKey, MirroredEntity]:
    """Return the mirror's rows of these findings as they stand now, by what they are about."""
    found: dict[EntityKey, MirroredEntity] = {}
    for kind in ENTITY_KINDS:
        ids = [it.finding.key.id for it in rows if it.finding.key.kind == kind]
        found |= {make_key(kind, it.clerk_id): it for it in snapshot.find_mirror_rows(conn, kind, ids)} if ids else {}
    return found


def link_if_unlinked(finding: Finding, unlinked: dict[str, str]) -> Finding:
    """Someone whom we know by the address, without a Clerk account: linked, not made anew."""
    person = finding.news.entity if finding.news else None
    if not isinstance(person, ClerkUser) or not person.is_email_verified or not person.email:
        return finding
    ours = unlinked.get(canonicalize_email(person.email))
    return make_linking_finding(finding, ours) if ours else finding


def list_mirror_findings(conn: Conn) -> list[Finding]:
    """What only the database can tell: addresses twice, people that were never linked, rows that say "invited"."""
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
    """What to call rows that only the mirror knows, by their numbers."""
    named: dict[int, str] = {}
    for kind in ENTITY_KINDS:
        of_kind = {row.finding.here: row.number for row in rows if row.finding.key.kind == kind and row.finding.here}
        labels = snapshot.find_labels(conn, kind, list(of_kind)) if of_kind else {}
        named |= {of_kind[id]: text for id, text in labels.items()}
    return named


MAX_CONCURRENT_WINDOWS = 12
MAX_CONCURRENT_READS = 2


"""Pages that are compared with the mirror at a time: more would not be faster, and each connection keeps memory."""


MAX_FINDINGS = 100_000
WRITE_BATCH = 500
RECHECK_BATCH = 100
MAX_RECHECK_ROUNDS = 3
INCOMPLETE_LIST = "Clerk's lists are not whole ({what}): nothing can be said to be missing there. Nothing was changed."
TOO_MANY_DIFFERENCES = "More than {most} rows differ. Take everything in at once instead: instep sync apply --first"


class _WindowResult(Struct, frozen=True):
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

    db: Database
    source: ClerkListReader
    policy: FieldOwnership
    clock: Clock
    run_id: str
    lease: SyncLease
    started_at: int
    told: ProgressCallback
    look: Callable[[Sequence[NeedsRefetch]], Awaitable[list[LookupResult]]]
    is_check: bool = False
    totals: dict[str, EntityTotals] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _kept: int = 0
    _surplus: dict[tuple[FindingKind, EntityKind], int] = field(default_factory=dict)
    _waiting: list[tuple[int, Finding]] = field(default_factory=list)
    _matched_ids: set[str] = field(default_factory=set)
    _done: int = 0
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_READS))

    async def run(self) -> dict[str, int]:
        """Look at everything; gives how many findings there are of each kind.

        1 each kind is walked, and compared with the mirror stretch by stretch; 2 what only the database can tell;
        3 whatever Clerk did not show, and whatever a change meanwhile would look like too, is looked at a second time.
        Raises SyncRefusedError where a list is not whole, or too much differs to be kept; a check says so instead.
        """
        for kind in ENTITY_KINDS:
            self.totals[kind] = await self._walk(kind)
            if not self.totals[kind].is_whole:  # perhaps too much went on meanwhile: once more
                await self._forget(kind)
                self.totals[kind] = await self._walk(kind)
        await self._keep(await self.db.read(list_mirror_findings))
        await self._report_incomplete_lists()
        await self._flush()
        await self._recheck_findings()
        found = await self.db.read(repository.count_findings, self.run_id)
        totals: dict[str, int] = {}
        for (what, _), number in [*found.items(), *self._surplus.items()]:
            totals[what] = totals.get(what, 0) + number
        return totals

    async def _walk(self, kind: EntityKind) -> EntityTotals:
        before = await self.source.count(kind)
        self._done = 0
        lanes = asyncio.Semaphore(MAX_CONCURRENT_WINDOWS)
        windows = await self.source.windows(kind)
        most = before if sum(not it.is_open for it in windows) > 1 else None
        walked = await run_concurrently([self._window(window, before, most, lanes) for window in windows])
        after = await self.source.count(kind)
        fetched = sum(it.fetched for it in walked)
        is_whole = all(it.is_whole for it in walked)
        if any(it.total is None for it in walked):  # a provider that does not count by windows
            is_whole = is_whole and fetched >= after
        unreadable = sum(it.unreadable for it in walked)
        return EntityTotals(before=before, fetched=fetched, after=after, is_whole=is_whole, unreadable=unreadable)

    async def _window(
        self, window: CreationWindow, total: int, most: int | None, lanes: asyncio.Semaphore
    ) -> "_WindowResult":
        """Walk one window and compare it. Whole: not fewer were read than there are at the end, and without a gap.

        One window of several that has `most` of them: the provider's counts do not heed windows.
        """
        fetched, is_sure, unreadable, there = 0, True, 0, None
        async with lanes:
            async for page in self.source.pages(window):
                await self._page(window, page)
                self._done += page.fetched - fetched
                fetched, is_sure, there = page.fetched, is_sure and page.is_contiguous, page.total
                unreadable += len(page.unreadable)
                self.told(SyncProgress(window.kind, self._done, total))
        if window.is_open:
            there = fetched
        elif window.kind == "user":
            there = await self.source.count_within(window)
            there = None if there is not None and most is not None and there >= most else there
        return _WindowResult(fetched, is_sure and (there is None or fetched >= there), there, unreadable)

    async def _forget(self, kind: EntityKind) -> None:
        await self._flush()
        await self.db.write(repository.delete_findings_of_kind, self.run_id, kind)
        self._surplus = {key: number for key, number in self._surplus.items() if key[1] != kind}

    async def _page(self, window: CreationWindow, page: ListingPage) -> None:
        """Compare a page with the mirror's rows of the same stretch; whatever differs is looked at once more."""
        kind, comparison = window.kind, plan.Comparison(page.items, self.policy, kind=window.kind)
        found: list[Finding] = []
        since, after = page.since, ""
        while True:
            async with self._reading:
                ours, more = await self.db.read(list_mirror_rows, kind, since, page.until, after)
            found += comparison.take(ours)
            await self._suspect([it for it in found if it.news is None])
            found = [it for it in found if it.news is not None]
            if more is None:
                break
            since, after = more
        found += comparison.rest()
        found += [make_unreadable_finding(kind, text) for text in page.unreadable]
        if found:
            await self._keep(await self._look_here(kind, found))

    async def _suspect(self, gone: Sequence[Finding]) -> None:
        """What Clerk did not show, unless it came here after we had begun."""
        if gone:
            await self._keep([it for it in gone if (it.wrote_at or 0) < self.started_at])

    async def _look_here(self, kind: EntityKind, found: Sequence[Finding]) -> list[Finding]:
        """The mirror's present state decides: deliveries arrive meanwhile, and a row may stand at another time."""
        theirs = [it.news for it in found if it.news is not None]
        ours, unlinked = await self.db.read(find_mirror_rows, kind, theirs)
        by_id = {our.clerk_id: our for our in ours}
        rest = [it for it in found if it.news is None]
        for their in theirs:
            our = by_id.get(their.key.id)
            if our is None:
                rest.append(link_if_unlinked(plan.make_missing_here_finding(their), unlinked))
                continue
            self._matched_ids.add(our.clerk_id)
            if finding := plan.compare_contents(their, our, self.policy):
                rest.append(finding)
        return rest

    async def _keep(self, found: Sequence[Finding]) -> None:
        room = max(MAX_FINDINGS - self._kept, 0)
        for finding in found[:room]:
            self._waiting.append((next(self._numbers), finding))
        self._kept += len(found)
        if self._kept > MAX_FINDINGS and not self.is_check:
            raise SyncRefusedError(TOO_MANY_DIFFERENCES.format(most=MAX_FINDINGS), code="too_many")
        for finding in found[room:]:
            key = (finding.kind, finding.key.kind)
            self._surplus[key] = self._surplus.get(key, 0) + 1
        if len(self._waiting) >= WRITE_BATCH:
            await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        await self.db.write(self._write, waiting)

    def _write(self, conn: Conn, waiting: Sequence[tuple[int, Finding]]) -> None:
        repository.renew_lease(conn, self.lease, now=self.clock())
        repository.save_findings(conn, self.run_id, waiting)

    async def _report_incomplete_lists(self) -> None:
        """Say which lists of Clerk's were not whole: a check among its findings, anything else by refusing to go on."""
        parts = {kind: self.totals[kind] for kind in ENTITY_KINDS if not self.totals[kind].is_whole}
        if parts and not self.is_check:
            what = ", ".join(f"{it.fetched} of {it.after} {kind}s" for kind, it in parts.items())
            raise SyncRefusedError(INCOMPLETE_LIST.format(what=what), code="not_whole")
        await self._keep([make_incomplete_list_finding(kind, it) for kind, it in parts.items()])

    async def _recheck_findings(self) -> None:
        """Whatever is about to be called gone: not if it stood at another time, not if Clerk has it after all.

        And whatever a delivery that came during the scan would look like too: not if it is the same by now.
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
        """Read these rows on both sides, ours before Clerk's; again where ours changed meanwhile, a few times."""
        turned_out: list[tuple[int, Finding]] = []
        left = list(rows)
        for turn in range(MAX_RECHECK_ROUNDS):
            before = await self.db.read(find_mirror_rows_of_findings, left)
            asks = [NeedsRefetch(it.finding.key, it.finding.news.entity) for it in left if it.finding.news]
            theirs = {it.key: it for it in await self.look(asks) if isinstance(it, Observation)}
            now = await self.db.read(find_mirror_rows_of_findings, left)
            changing = []
            for row in left:
                our, their = now.get(row.finding.key), theirs.get(row.finding.key)
                finding = plan.compare_contents(their, our, self.policy) if our and their else None
                if finding is not None and before.get(row.finding.key) != our and turn < MAX_RECHECK_ROUNDS - 1:
                    changing.append(row)
                elif finding is not None:
                    turned_out.append((row.number, finding))
            left = changing
            if not left:
                break
        await self.db.write(self._save_rechecked_findings, [row.number for row in rows], turned_out)

    def _save_rechecked_findings(
        self, conn: Conn, numbers: Sequence[int], turned_out: Sequence[tuple[int, Finding]]
    ) -> None:
        repository.renew_lease(conn, self.lease, now=self.clock())
        repository.delete_findings(conn, self.run_id, numbers)
        repository.save_findings(conn, self.run_id, turned_out)

    async def _drop_matched_suspects(self) -> None:
        after = 0
        while self._matched_ids and (
            rows := await self.db.read(repository.list_findings_to_recheck, self.run_id, after=after, limit=WRITE_BATCH)
        ):
            met = [row.number for row in rows if row.finding.key.id in self._matched_ids]
            await self.db.write(repository.delete_findings, self.run_id, met)
            after = rows[-1].number

    async def _recheck_in_clerk(self, rows: Sequence[models.FindingRow]) -> None:
        asks = await self.db.read(repository.build_refetches, [row.finding for row in rows])
        absent = await self.source.find_absent(asks)
        there = [row.number for row in rows if row.finding.key not in absent]
        labels = await self.db.read(find_labels, [row for row in rows if row.finding.key in absent])
        await self.db.write(self._save_confirmed_deletions, there, labels)

    def _save_confirmed_deletions(self, conn: Conn, there: Sequence[int], labels: dict[int, str]) -> None:
        repository.renew_lease(conn, self.lease, now=self.clock())
        repository.delete_findings(conn, self.run_id, there)
        repository.set_labels(conn, self.run_id, labels)
