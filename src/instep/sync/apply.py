"""Apply a plan: recheck each row, enforce the deletion limit and write to the mirror or to Clerk."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from instep.audit.repository import NewAuditEntry, build_joined_entries, build_superseded_entries, record_entries
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.core.errors import PermanentError
from instep.core.i18n import LazyString, lazy_gettext
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
from instep.sync.models import ClerkListReader, FindingOutcome, ProgressCallback, SyncLease, SyncProgress
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
CHANGED_SINCE_PLAN = "It changed here after the plan was created."
BACK_IN_CLERK = "It exists in Clerk again."
NOT_IN_CLERK = "It no longer exists in Clerk."
NEEDS_REVIEW = "It needs manual review."
PARENT_MISSING = "Its user or its organization exists neither here nor in Clerk."
IGNORED_REASONS = {
    "older": "The database has a newer version of it.",
    "same": "It is in sync by now.",
    "gone": "It has been deleted here by now.",
}
RowOutcome = tuple[FindingOutcome, str | None]


@dataclass
class BatchResult:
    """Result of one transaction: outcomes by row, entities to be fetched first, and changed organizations."""

    outcomes: dict[int, RowOutcome] = field(default_factory=dict)
    refetches: list[NeedsRefetch] = field(default_factory=list)
    changed_organization_ids: set[str] = field(default_factory=set)


@dataclass
class PlanApplier:
    """Applies the rows of one plan on behalf of `actor`; `chosen` are row numbers (None: all)."""

    db: Database
    source: ClerkListReader
    writer: "ClerkWriter"
    policy: FieldOwnership
    clock: Clock
    plan_id: str
    lease: SyncLease
    actor: str
    on_progress: ProgressCallback
    chosen: frozenset[int] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    changed_organization_ids: set[str] = field(default_factory=set)

    async def run(self, total: int) -> dict[str, int]:
        """Apply all rows in small transactions, parents first and deletions last; return counts by outcome."""
        done = 0
        for kind, is_deleting in APPLY_ORDER:
            after = 0
            while rows := await self.db.read(self._list_open_rows, kind, after):
                after = rows[-1].number
                rows = [it for it in rows if (it.finding.kind in DELETION_KINDS) is is_deleting and self._is_chosen(it)]
                await self._process_batch(rows, is_deleting=is_deleting)
                done += len(rows)
                self.on_progress(SyncProgress(kind, done, total))
        return self.counts

    def _is_chosen(self, row: models.FindingRow) -> bool:
        return self.chosen is None or row.number in self.chosen

    def _list_open_rows(self, conn: Conn, kind: EntityKind, after: int) -> list[models.FindingRow]:
        return repository.list_open_findings(conn, self.plan_id, kind, after=after, limit=APPLY_BATCH)

    async def _process_batch(self, rows: Sequence[models.FindingRow], *, is_deleting: bool) -> None:
        if not rows:
            return
        absent: set[EntityKey] = set()
        if is_deleting:
            refetches = await self.db.read(build_refetches, [it.finding for it in rows])
            absent = await self.source.find_absent(refetches)
        refetched = await self._write_to_clerk(rows) | await self._refetch_version_ahead(rows)
        open_rows = rows
        for turn in range(MAX_REFETCH_ROUNDS):
            result = await self.db.write(
                self._apply_batch, open_rows, absent, refetched, turn == MAX_REFETCH_ROUNDS - 1
            )
            self._count(result)
            if not result.refetches:
                return
            refetches = list({it.key: it for it in result.refetches}.values())
            refetched |= match_refetch_results(refetches, await self.writer.refetch(refetches))
            open_rows = [it for it in open_rows if it.number not in result.outcomes]

    def _count(self, result: BatchResult) -> None:
        self.changed_organization_ids |= result.changed_organization_ids
        for outcome, _ in result.outcomes.values():
            self.counts[outcome] = self.counts.get(outcome, 0) + 1

    async def _write_to_clerk(self, rows: Sequence[models.FindingRow]) -> dict[EntityKey, RefetchResult]:
        """Write rows whose fields belong to the database to Clerk; return Clerk's answers, to be applied here."""
        answers: dict[EntityKey, RefetchResult] = {}
        for row in rows:
            if row.finding.repair_target != "clerk" or row.finding.observation is None:
                continue
            if not await self.db.read(_is_unchanged_since_plan, row.finding, self.policy):
                continue  # the transaction reports that it changed
            try:
                answers[row.finding.key] = RefetchResult(await self.writer.write(row.finding))
            except (ClerkRejectedError, ClerkUnavailableError) as error:
                await self.db.write(self._save_outcomes, {row.number: ("skipped", str(error))})
        return answers

    async def _refetch_version_ahead(self, rows: Sequence[models.FindingRow]) -> dict[EntityKey, RefetchResult]:
        """Fetch rows with a version ahead of Clerk again: webhooks since the plan were ignored as older."""
        ahead = [it.finding for it in rows if it.finding.kind == VERSION_AHEAD and it.finding.repair_target == "here"]
        refetches = [NeedsRefetch(it.key, it.observation.entity) for it in ahead if it.observation is not None]
        return match_refetch_results(refetches, await self.writer.refetch(refetches)) if refetches else {}

    def _apply_batch(
        self,
        conn: Conn,
        rows: Sequence[models.FindingRow],
        absent: set[EntityKey],
        refetched: dict[EntityKey, RefetchResult],
        is_last: bool,
    ) -> BatchResult:
        """Apply rows in one transaction: preconditions, reconciliation, mirror, audit and outcomes."""
        now, result = self.clock(), BatchResult()
        repository.renew_lease(conn, self.lease, now=now)
        answers = {row.number: _choose_answer(row.finding, refetched, now) for row in rows}
        states = [it.state for it in answers.values() if it is not None]
        parents = [it for it in refetched.values() if it.state.key not in {row.finding.key for row in rows}]
        unit_of_work = open_unit_of_work(conn, [*(it.state for it in parents), *states])
        for parent in parents:
            unit_of_work.reconcile_refetched(parent)
        checks = _Preconditions(conn, [row.finding for row in rows], self.policy)
        applied: list[models.FindingRow] = []
        for row in rows:
            decision = self._apply_row(conn, row, answers[row.number], unit_of_work, checks, absent)
            if isinstance(decision, NeedsRefetch) and not is_last:
                result.refetches.append(decision)
                continue
            end: RowOutcome = ("skipped", PARENT_MISSING) if isinstance(decision, NeedsRefetch) else decision
            result.outcomes[row.number] = end
            if end[0] == "applied":
                applied.append(row)
        result.changed_organization_ids = apply_unit_of_work(conn, unit_of_work, now=now)
        entries = [self._build_audit_entry(row, unit_of_work) for row in applied]
        record_entries(
            conn,
            [*entries, *build_superseded_entries(unit_of_work), *build_joined_entries(unit_of_work.local_memberships)],
            now=now,
        )
        self._save_outcomes(conn, result.outcomes)
        return result

    def _apply_row(
        self,
        conn: Conn,
        row: models.FindingRow,
        answer: RefetchResult | None,
        unit_of_work: UnitOfWork,
        checks: "_Preconditions",
        absent: set[EntityKey],
    ) -> RowOutcome | NeedsRefetch:
        finding = row.finding
        if finding.kind == "legacy_invited" and finding.here:
            membership_status.remove_membership(conn, finding.here, now=self.clock())
            return ("applied", None)
        if answer is None and finding.kind == VERSION_AHEAD and finding.repair_target == "here":
            return ("skipped", NOT_IN_CLERK)
        if answer is None or finding.repair_target is None:
            return ("skipped", finding.note or NEEDS_REVIEW)
        if isinstance(answer.state, Tombstone) and finding.key not in absent:
            return ("skipped", BACK_IN_CLERK)
        if finding.repair_target != "clerk" and (reason := checks.refuse(finding)):
            return ("skipped", reason)
        known = unit_of_work.known.get(finding.key)
        if isinstance(answer.state, Tombstone):  # compared with the row as it was before Clerk was queried again
            answer = RefetchResult(answer.state, known)
        elif known is not None and finding.kind == VERSION_AHEAD:  # Clerk's state wins regardless of the version here
            known = replace(known, version=min(known.version, answer.state.version), digest="")
            unit_of_work.known[finding.key] = known
            answer = RefetchResult(answer.state, known)
        elif known is not None and finding.differences:
            unit_of_work.known[finding.key] = replace(known, digest="")  # the row does not match its digest
        decision = unit_of_work.reconcile_refetched(answer)
        if isinstance(decision, NeedsRefetch):
            return decision
        if isinstance(decision, Change):
            return ("applied", None)
        assert isinstance(decision, Ignored)  # noqa: S101
        return ("skipped", IGNORED_REASONS.get(decision.reason, decision.reason))

    def _build_audit_entry(self, row: models.FindingRow, unit_of_work: UnitOfWork) -> NewAuditEntry:
        finding, organization_id = row.finding, None
        details: dict[str, object] = {
            "finding": finding.kind,
            "fields": {it.field: [it.here, it.clerk] for it in finding.differences},
        }
        verb = "gone" if finding.kind in DELETION_KINDS else "seen" if finding.version is None else "changed"
        state = unit_of_work.last_state_of(finding.key)
        if state is not None:
            organization_id, more = unit_of_work.describe_change(Change(state, None))
            details |= more
        return NewAuditEntry(
            actor=self.actor,
            action=f"{finding.key.kind}.{verb}",
            target=finding.key.id or finding.here or "",
            organization_id=organization_id,
            cause=self.plan_id,
            details=details,
        )

    def _save_outcomes(self, conn: Conn, outcomes: dict[int, RowOutcome]) -> None:
        repository.set_outcomes(conn, self.plan_id, outcomes, now=self.clock())


class _Preconditions:
    """Preconditions of some rows, checked against the mirror within the present transaction."""

    def __init__(self, conn: Conn, found: Sequence[Finding], policy: FieldOwnership) -> None:
        self._policy = policy
        self._ours: dict[str, MirroredEntity] = {}
        for kind in ENTITY_KINDS:
            ids = [it.key.id for it in found if it.key.kind == kind]
            self._ours |= {it.clerk_id: it for it in snapshot.find_mirror_rows(conn, kind, ids)} if ids else {}

    def refuse(self, finding: Finding) -> str | None:
        """Return the reason for which a row must not be applied; None where it is as planned."""
        our = self._ours.get(finding.key.id)
        if finding.version is None:
            return CHANGED_SINCE_PLAN if our is not None else None
        if our is None or (our.version, our.digest) != (finding.version, finding.digest):
            return CHANGED_SINCE_PLAN
        if our.is_deleted and (finding.observation is None or our.absent_at is None):
            return CHANGED_SINCE_PLAN
        if finding.observation is None:
            return CHANGED_SINCE_PLAN if our.is_kept else None
        now = plan.find_differences(finding.observation, our, self._policy)
        return None if now is not None and list(now.differences) == list(finding.differences) else CHANGED_SINCE_PLAN


def _is_unchanged_since_plan(conn: Conn, finding: Finding, policy: FieldOwnership) -> bool:
    return _Preconditions(conn, [finding], policy).refuse(finding) is None


def _choose_answer(finding: Finding, refetched: dict[EntityKey, RefetchResult], now: int) -> RefetchResult | None:
    """Choose the state to apply: what was fetched since, else what the plan contains."""
    if finding.repair_target == "clerk" or finding.kind == VERSION_AHEAD or finding.key in refetched:
        return refetched.get(finding.key)
    if finding.kind in DELETION_KINDS:
        return RefetchResult(Tombstone(finding.key, absent_at=now))
    return (
        RefetchResult(finding.observation)
        if finding.observation is not None and finding.repair_target == "here"
        else None
    )


def explain_deletion_excess(
    conn: Conn, plan_id: str, *, chosen: Sequence[int] | None, allowed: int | None
) -> LazyString | None:
    """Return the message that a plan, or its chosen rows, would delete too much; None where it would not.

    `allowed` is the explicit allowance per kind; None: the greater of 10 and 1 % of the active rows.
    """
    deletions = repository.count_open_deletions(conn, plan_id, chosen)
    suspected: list[EntityKind] = [
        kind for kind in ENTITY_KINDS if deletions.get(kind, 0) > plan.compute_deletion_limit(0, allowed)
    ]
    living = {kind: snapshot.count_mirror_rows(conn, kind) for kind in suspected}
    over = plan.find_kind_over_limit({kind: deletions[kind] for kind in suspected}, living, allowed)
    if over is None:
        return None
    values = {"count": deletions[over], "limit": plan.compute_deletion_limit(living[over], allowed)}
    texts: dict[EntityKind, LazyString] = {
        "user": lazy_gettext(
            "%(count)s users would be deleted here, more than %(limit)s. To allow it: --allow-gone %(count)s", **values
        ),
        "organization": lazy_gettext(
            "%(count)s organizations would be deleted here, more than %(limit)s. To allow it: --allow-gone %(count)s",
            **values,
        ),
        "membership": lazy_gettext(
            "%(count)s memberships would be deleted here, more than %(limit)s. To allow it: --allow-gone %(count)s",
            **values,
        ),
    }
    return texts[over]


PROFILE_FIELDS = ("first_name", "last_name", "username", "external_id")


class SyncClerkApi(ClerkReader, OrganizationsApi, UsersApi, Protocol):
    """All three ports to Clerk."""


@dataclass(frozen=True)
class ClerkWriter:
    """Reads and writes single entities in Clerk. Writing the same twice changes nothing more."""

    provider: SyncClerkApi

    async def refetch(self, refetches: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """Return the present state of these entities; see domain.ports.ClerkReader."""
        return await self.provider.fetch(refetches)

    async def write(self, finding: Finding) -> Observation:
        """Write the fields that belong to the database; return the entity as Clerk has it then.

        Raises ClerkRejectedError and ClerkUnavailableError: the row is then skipped, and found again by the next check.
        """
        observation = finding.observation
        ours = {it.field: it.here for it in finding.differences if it.owner == "database"}
        if observation is None or not ours:
            raise PermanentError(lazy_gettext("There is nothing to write."), code="nothing_to_write")
        if isinstance(observation.entity, ClerkMembership):
            return await self.provider.set_role(observation.entity.organization, observation.entity.user, ours["role"])
        changed: Observation | None = None
        profile = {name: ours[name] or "" for name in PROFILE_FIELDS if name in ours}
        if profile:
            changed = await self.provider.update_user(observation.key.id, ClerkUserUpdate(**profile))
        if "public_metadata" in ours:
            changed = await self.provider.merge_public_metadata(
                observation.key.id, _build_metadata_patch(finding, ours["public_metadata"])
            )
        if changed is None:
            raise PermanentError(lazy_gettext("These fields can't be written to Clerk."), code="not_writable")
        return changed


def _build_metadata_patch(finding: Finding, answers: dict[str, object]) -> dict[str, object]:
    """Return the merge patch that makes the metadata equal to `wanted`: keys that only Clerk has are removed."""
    there = next(it.clerk for it in finding.differences if it.field == "public_metadata")
    return {**dict.fromkeys(there or {}), **answers}
