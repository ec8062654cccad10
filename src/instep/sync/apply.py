"""Apply a plan: recheck each row, enforce the deletion limit and write to the mirror or to Clerk."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from instep.audit.entries import NewAuditEntry, build_joined_entries, build_superseded_entries
from instep.audit.repository import record_entries
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.errors import PermanentError
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.events import LookupResult, Observation, Tombstone
from instep.domain.listing import MirroredEntity
from instep.domain.models import ENTITY_KINDS, ClerkMembership, ClerkUserUpdate, EntityKey, EntityKind
from instep.domain.ports import ClerkReader, OrganizationsApi, UsersApi
from instep.domain.reconcile import Change, Ignored, NeedsRefetch, RefetchResult, match_refetch_results
from instep.mirror import membership_status, snapshot
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.unit_of_work import UnitOfWork, open_unit_of_work
from instep.sync import models, plan, repository
from instep.sync.models import ClerkListReader, EntityAccess, FindingOutcome, ProgressCallback, SyncLease, SyncProgress
from instep.sync.plan import DELETION_KINDS, VERSION_AHEAD, FieldOwnership, Finding
from instep.sync.repository import build_refetches

APPLY_BATCH = 100
MAX_REFETCH_ROUNDS = 4
APPLY_ORDER: tuple[tuple[EntityKind, bool], ...] = (
    ("organization", False),
    ("user", False),
    ("membership", False),
    ("membership", True),
    ("user", True),
    ("organization", True),
)
CHANGED_SINCE_PLAN = "It changed here after the plan was made."
BACK_IN_CLERK = "It is in Clerk again."
NOT_IN_CLERK = "Clerk does not show it any more."
NEEDS_REVIEW = "Someone has to look at this one."
PARENT_MISSING = "Its person or its organization is neither here nor in Clerk."
IGNORED_REASONS = {
    "older": "The mirror has newer news of it.",
    "same": "It is the same on both sides meanwhile.",
    "gone": "It was deleted here meanwhile.",
}
RowOutcome = tuple[FindingOutcome, str | None]


@dataclass
class BatchResult:
    """What one transaction did: how each row ended, what must be asked first, and which organizations changed."""

    ends: dict[int, RowOutcome] = field(default_factory=dict)
    asks: list[NeedsRefetch] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)


@dataclass
class PlanApplier:
    """Applies the rows of one plan. `actor` is who asked, `chosen` the numbers they chose (None: all)."""

    db: Database
    source: ClerkListReader
    writes: EntityAccess
    policy: FieldOwnership
    clock: Clock
    plan_id: str
    lease: SyncLease
    actor: str
    told: ProgressCallback
    chosen: frozenset[int] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

    async def run(self, total: int) -> dict[str, int]:
        """All rows in small transactions, parents first and deletions last; gives how they ended."""
        done = 0
        for kind, is_deleting in APPLY_ORDER:
            after = 0
            while rows := await self.db.read(self._next, kind, after):
                after = rows[-1].number
                rows = [it for it in rows if (it.finding.kind in DELETION_KINDS) is is_deleting and self._is_chosen(it)]
                await self._batch(rows, is_deleting=is_deleting)
                done += len(rows)
                self.told(SyncProgress(kind, done, total))
        return self.counts

    def _is_chosen(self, row: models.FindingRow) -> bool:
        return self.chosen is None or row.number in self.chosen

    def _next(self, conn: Conn, kind: EntityKind, after: int) -> list[models.FindingRow]:
        return repository.list_open_findings(conn, self.plan_id, kind, after=after, limit=APPLY_BATCH)

    async def _batch(self, rows: Sequence[models.FindingRow], *, is_deleting: bool) -> None:
        if not rows:
            return
        absent: set[EntityKey] = set()
        if is_deleting:
            asks = await self.db.read(build_refetches, [it.finding for it in rows])
            absent = await self.source.find_absent(asks)
        facts = await self._write_to_clerk(rows) | await self._refetch_version_ahead(rows)
        open_rows = rows
        for turn in range(MAX_REFETCH_ROUNDS):
            taken = await self.db.write(self._take, open_rows, absent, facts, turn == MAX_REFETCH_ROUNDS - 1)
            self._count(taken)
            if not taken.asks:
                return
            asks = list({it.key: it for it in taken.asks}.values())
            facts |= match_refetch_results(asks, await self.writes.fetch(asks))
            open_rows = [it for it in open_rows if it.number not in taken.ends]

    def _count(self, taken: BatchResult) -> None:
        self.touched |= taken.touched
        for outcome, _ in taken.ends.values():
            self.counts[outcome] = self.counts.get(outcome, 0) + 1

    async def _write_to_clerk(self, rows: Sequence[models.FindingRow]) -> dict[EntityKey, RefetchResult]:
        """Rows whose fields belong to the database are written there first; what Clerk answers is taken in."""
        answers: dict[EntityKey, RefetchResult] = {}
        for row in rows:
            if row.finding.mend != "clerk" or row.finding.news is None:
                continue
            if not await self.db.read(_is_unchanged_since_plan, row.finding, self.policy):
                continue  # the transaction will say that it changed
            try:
                answers[row.finding.key] = RefetchResult(await self.writes.write(row.finding))
            except (ClerkRejectedError, ClerkUnavailableError) as error:
                await self.db.write(self._end, {row.number: ("skipped", str(error))})
        return answers

    async def _refetch_version_ahead(self, rows: Sequence[models.FindingRow]) -> dict[EntityKey, RefetchResult]:
        """Rows whose version is ahead of Clerk's are read once more: webhooks since the plan were ignored as older."""
        ahead = [it.finding for it in rows if it.finding.kind == VERSION_AHEAD and it.finding.mend == "here"]
        asks = [NeedsRefetch(it.key, it.news.entity) for it in ahead if it.news is not None]
        return match_refetch_results(asks, await self.writes.fetch(asks)) if asks else {}

    def _take(
        self,
        conn: Conn,
        rows: Sequence[models.FindingRow],
        absent: set[EntityKey],
        facts: dict[EntityKey, RefetchResult],
        is_last: bool = False,
    ) -> BatchResult:
        """One transaction: preconditions, the law, the mirror, the audit, and how each row ended."""
        now, taken = self.clock(), BatchResult()
        repository.renew_lease(conn, self.lease, now=now)
        wanted = {row.number: _choose_answer(row.finding, facts, now) for row in rows}
        news = [it.state for it in wanted.values() if it is not None]
        parents = [it for it in facts.values() if it.state.key not in {row.finding.key for row in rows}]
        ledger = open_unit_of_work(conn, [*(it.state for it in parents), *news])
        for fact in parents:
            ledger.reconcile_refetched(fact)
        checks = _Preconditions(conn, [row.finding for row in rows], self.policy)
        applied: list[models.FindingRow] = []
        for row in rows:
            verdict = self._one(conn, row, wanted[row.number], ledger, checks, absent)
            if isinstance(verdict, NeedsRefetch) and not is_last:
                taken.asks.append(verdict)
                continue
            end: RowOutcome = ("skipped", PARENT_MISSING) if isinstance(verdict, NeedsRefetch) else verdict
            taken.ends[row.number] = end
            if end[0] == "applied":
                applied.append(row)
        taken.touched = apply_unit_of_work(conn, ledger, now=now)
        entries = [self._entry(row, ledger) for row in applied]
        record_entries(
            conn,
            [*entries, *build_superseded_entries(ledger), *build_joined_entries(ledger.local_memberships)],
            now=now,
        )
        self._end(conn, taken.ends)
        return taken

    def _one(
        self,
        conn: Conn,
        row: models.FindingRow,
        answer: RefetchResult | None,
        ledger: UnitOfWork,
        checks: "_Preconditions",
        absent: set[EntityKey],
    ) -> RowOutcome | NeedsRefetch:
        finding = row.finding
        if finding.kind == "legacy_invited" and finding.here:
            membership_status.remove_membership(conn, finding.here, now=self.clock())
            return ("applied", None)
        if answer is None and finding.kind == VERSION_AHEAD and finding.mend == "here":
            return ("skipped", NOT_IN_CLERK)
        if answer is None or finding.mend is None:
            return ("skipped", finding.note or NEEDS_REVIEW)
        if isinstance(answer.state, Tombstone) and finding.key not in absent:
            return ("skipped", BACK_IN_CLERK)
        if finding.mend != "clerk" and (reason := checks.refuse(finding)):
            return ("skipped", reason)
        known = ledger.known.get(finding.key)
        if isinstance(answer.state, Tombstone):  # the row is what it was before Clerk was asked a second time
            answer = RefetchResult(answer.state, known)
        elif (
            known is not None and finding.kind == VERSION_AHEAD
        ):  # Clerk's side is taken, whatever the version here says
            known = replace(known, version=min(known.version, answer.state.version), digest="")
            ledger.known[finding.key] = known
            answer = RefetchResult(answer.state, known)
        elif known is not None and finding.differences:
            ledger.known[finding.key] = replace(known, digest="")  # the row is not what its digest says
        verdict = ledger.reconcile_refetched(answer)
        if isinstance(verdict, NeedsRefetch):
            return verdict
        if isinstance(verdict, Change):
            return ("applied", None)
        assert isinstance(verdict, Ignored)  # noqa: S101
        return ("skipped", IGNORED_REASONS.get(verdict.reason, verdict.reason))

    def _entry(self, row: models.FindingRow, ledger: UnitOfWork) -> NewAuditEntry:
        finding, organization = row.finding, None
        details: dict[str, object] = {
            "finding": finding.kind,
            "fields": {it.field: [it.here, it.clerk] for it in finding.differences},
        }
        what = "gone" if finding.kind in DELETION_KINDS else "seen" if finding.version is None else "changed"
        news = ledger.last_state_of(finding.key)
        if news is not None:
            organization, how = ledger.describe_change(Change(news, None))
            details |= how
        return NewAuditEntry(
            actor=self.actor,
            action=f"{finding.key.kind}.{what}",
            target=finding.key.id or finding.here or "",
            organization_id=organization,
            cause=self.plan_id,
            details=details,
        )

    def _end(self, conn: Conn, ends: dict[int, RowOutcome]) -> None:
        repository.set_outcomes(conn, self.plan_id, ends, now=self.clock())


class _Preconditions:
    """The preconditions of some rows, against the mirror as this transaction sees it."""

    def __init__(self, conn: Conn, found: Sequence[Finding], policy: FieldOwnership) -> None:
        self._policy = policy
        self._ours: dict[str, MirroredEntity] = {}
        for kind in ENTITY_KINDS:
            ids = [it.key.id for it in found if it.key.kind == kind]
            self._ours |= {it.clerk_id: it for it in snapshot.find_mirror_rows(conn, kind, ids)} if ids else {}

    def refuse(self, finding: Finding) -> str | None:
        """Why this row must not be mended any more; None where it stands as it was planned."""
        our = self._ours.get(finding.key.id)
        if finding.version is None:
            return CHANGED_SINCE_PLAN if our is not None else None
        if our is None or (our.version, our.digest) != (finding.version, finding.digest):
            return CHANGED_SINCE_PLAN
        if our.is_deleted and (finding.news is None or our.absent_at is None):
            return CHANGED_SINCE_PLAN
        if finding.news is None:
            return CHANGED_SINCE_PLAN if our.is_kept else None
        now = plan.find_differences(finding.news, our, self._policy)
        return None if now is not None and list(now.differences) == list(finding.differences) else CHANGED_SINCE_PLAN


def _is_unchanged_since_plan(conn: Conn, finding: Finding, policy: FieldOwnership) -> bool:
    return _Preconditions(conn, [finding], policy).refuse(finding) is None


def _choose_answer(finding: Finding, facts: dict[EntityKey, RefetchResult], now: int) -> RefetchResult | None:
    """What is to be decided of a row: what was read since, else what the plan says."""
    if finding.mend == "clerk" or finding.kind == VERSION_AHEAD or finding.key in facts:
        return facts.get(finding.key)
    if finding.kind in DELETION_KINDS:
        return RefetchResult(Tombstone(finding.key, absent_at=now))
    return RefetchResult(finding.news) if finding.news is not None and finding.mend == "here" else None


DELETION_LIMIT_EXCEEDED = (
    "{count} {things} would be deleted here, more than {most}. If that is right: --allow-gone {count}"
)


def explain_deletion_excess(
    conn: Conn, plan_id: str, *, chosen: Sequence[int] | None, allowed: int | None
) -> str | None:
    """Return why a plan, or the chosen rows of it, would delete too much; None where it would not.

    `allowed` is how many deletions of each kind a person allowed; None: the greater of 10 and 1 % of what lives.
    """
    gone = repository.count_open_deletions(conn, plan_id, chosen)
    suspected: list[EntityKind] = [
        kind for kind in ENTITY_KINDS if gone.get(kind, 0) > plan.compute_deletion_limit(0, allowed)
    ]
    living = {kind: snapshot.count_mirror_rows(conn, kind) for kind in suspected}
    over = plan.find_kind_over_limit({kind: gone[kind] for kind in suspected}, living, allowed)
    if over is None:
        return None
    return DELETION_LIMIT_EXCEEDED.format(
        count=gone[over], things=f"{over}s", most=plan.compute_deletion_limit(living[over], allowed)
    )


PROFILE_FIELDS = ("first_name", "last_name", "username", "external_id")


class SyncClerkApi(ClerkReader, OrganizationsApi, UsersApi, Protocol):
    """All that a provider can do."""


@dataclass(frozen=True)
class ClerkWriter:
    """Single things: read, and written. Writing the same twice changes nothing more."""

    provider: SyncClerkApi

    async def fetch(self, asks: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """See identity.ports.Directory.look."""
        return await self.provider.fetch(asks)

    async def write(self, finding: Finding) -> Observation:
        """Write the fields that belong to the database; gives the thing as Clerk has it then.

        Raises ClerkRejectedError and ClerkUnavailableError: the row is then skipped, and found again by the next check.
        """
        news = finding.news
        ours = {it.field: it.here for it in finding.differences if it.owner == "database"}
        if news is None or not ours:
            raise PermanentError("There is nothing to write.", code="nothing_to_write")
        if isinstance(news.entity, ClerkMembership):
            return await self.provider.set_role(news.entity.organization, news.entity.user, ours["role"])
        changed: Observation | None = None
        profile = {name: ours[name] or "" for name in PROFILE_FIELDS if name in ours}
        if profile:
            changed = await self.provider.update_user(news.key.id, ClerkUserUpdate(**profile))
        if "public_metadata" in ours:
            changed = await self.provider.merge_public_metadata(
                news.key.id, _build_metadata_patch(finding, ours["public_metadata"])
            )
        if changed is None:
            raise PermanentError("These fields can't be written to Clerk.", code="not_writable")
        return changed


def _build_metadata_patch(finding: Finding, wanted: dict[str, object]) -> dict[str, object]:
    """What to merge so that the metadata become `wanted`: keys that only Clerk has are taken away."""
    there = next(it.clerk for it in finding.differences if it.field == "public_metadata")
    return {**dict.fromkeys(there or {}), **wanted}
