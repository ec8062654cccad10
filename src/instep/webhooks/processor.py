"""Process stored deliveries in batches: reconcile, apply and settle in one transaction."""

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import structlog

from instep.audit.repository import (
    NewAuditEntry,
    build_change_entry,
    build_joined_entries,
    build_superseded_entries,
    record_entries,
)
from instep.auth.repository import end_sessions_of_clerk_session
from instep.core.clock import HOUR, MINUTE, SECOND, Clock
from instep.core.db import Conn, Database
from instep.core.db_errors import DatabaseValueError
from instep.core.errors import InstepError, PermanentError, TemporaryError
from instep.domain.events import (
    EntityState,
    IrrelevantEvent,
    OrganizationInvitationsChanged,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
    UserRestrictions,
    WebhookEvent,
)
from instep.domain.models import ClerkId, EntityKey
from instep.domain.ports import ClerkReader
from instep.domain.reconcile import OLDER_REASON, Change, Ignored, NeedsRefetch, ReconcileDecision, RefetchResult
from instep.mirror import roles
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.instance_binding import InstanceBinder, parse_instance_id
from instep.mirror.unit_of_work import UnitOfWork, open_unit_of_work
from instep.webhooks import repository
from instep.webhooks.refetch import ABSENCE_CONFIRMATION_DELAY, RefetchRequests, RefetchState
from instep.webhooks.repository import ClaimedDelivery

log = structlog.get_logger(__name__)
BATCH_SIZE = 200
LEASE_DURATION = MINUTE
MAX_REFETCH_ROUNDS = 3
FOREIGN_OUTCOME = "foreign"
UNRESOLVED_REASON = "Clerk's responses do not settle it yet."
ABSENT_IN_CLERK_REASON = "Clerk does not show {what}. Checking once more."
RETRY_DELAYS = (5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 8 * HOUR)


@dataclass
class ProcessingResult:
    """Results of one transaction: outcomes by delivery, requests that only Clerk can answer, and changes to publish.

    `outcomes`, `failed` (reasons) and `refetch_requests` are by delivery id. `changes` have the id of the delivery that
    led to them, None for a refetch. `touched` are ids of changed organizations.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    refetch_requests: dict[str, list[NeedsRefetch]] = field(default_factory=dict)
    changes: list[tuple[Change, str | None]] = field(default_factory=list)
    audit: list[NewAuditEntry] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    touched_organization_clerk_ids: set[ClerkId] = field(default_factory=set)
    ended_session_ids: set[ClerkId] = field(default_factory=set)
    absent_since: dict[str, int] = field(default_factory=dict)
    is_unbound: bool = False
    role_changes: list[RoleChanged | RoleDeleted] = field(default_factory=list)

    @property
    def has_unread_role_changes(self) -> bool:
        """True if roles changed without their new state being in a delivery."""
        return any(isinstance(change, RoleChanged) and change.role is None for change in self.role_changes)


@dataclass(frozen=True)
class DeliveryProcessor:
    """Process stored deliveries.

    `parse` returns the events in a delivery's body. `on_change` receives the result of each transaction. `read_roles`
    reads the roles of the instance. Deliveries wait until the database is bound to a Clerk instance; those of another
    instance are not applied.
    """

    db: Database
    clerk: ClerkReader
    parse: Callable[[bytes], list[WebhookEvent]]
    on_change: Callable[[ProcessingResult], None]
    clock: Clock
    read_roles: Callable[[], Awaitable[object]] | None = None
    instance_binder: InstanceBinder = field(init=False)

    def __post_init__(self) -> None:
        """Create the binder, which reads the instance id from Clerk."""
        object.__setattr__(self, "instance_binder", InstanceBinder(self.db, self.clerk, self.clock))

    async def run_once(self) -> int:
        """Process one batch. Return the number of claimed deliveries, 0 if none is due.

        1. Claim, reconcile, apply and mark as processed in one transaction.
        2. Refetch from Clerk what could not be decided, outside of the transaction, and reconcile again.
        3. If the batch fails, process each delivery alone, so that a poison delivery fails alone.
        """
        try:
            claimed, result = await self.db.write(self._claim_and_process)
        except TemporaryError:
            raise
        except Exception as error:  # no delivery may block the others, whatever its failure
            log.warning("delivery_batch_failed", error=_format_error(error))
            return await self._process_one_by_one()
        if result.is_unbound:
            return int(await self.instance_binder.bind_if_unbound())
        self.on_change(result)
        await self._read_roles_if_changed(result)
        if result.refetch_requests:
            await self._refetch_and_process(result)
        return claimed

    async def clamp_due_times(self) -> int:
        """Make deliveries due that were scheduled before the clock was set back. Return their number."""
        return await self.db.write(
            repository.clamp_due_times, now=self.clock(), lease=LEASE_DURATION, delays=RETRY_DELAYS
        )

    async def _read_roles_if_changed(self, result: ProcessingResult) -> None:
        """Read the roles if a delivery did not contain their new state. A failure is logged: the next read fixes it."""
        if self.read_roles is None or not result.has_unread_role_changes:
            return
        try:
            await self.read_roles()
        except InstepError as error:
            log.warning("role_refresh_failed", error=str(error))

    def _claim_and_process(self, conn: Conn) -> tuple[int, ProcessingResult]:
        now = self.clock()
        claimed = repository.claim_due_deliveries(conn, now=now, limit=BATCH_SIZE)
        return len(claimed), self._process(conn, claimed, [], now)

    async def _process_one_by_one(self) -> int:
        delivery_ids = await self.db.read(repository.list_due_ids, now=self.clock(), limit=BATCH_SIZE)
        for delivery_id in delivery_ids:
            await self._process_again([delivery_id], [], is_first=True)
        return len(delivery_ids)

    async def _refetch_and_process(self, result: ProcessingResult) -> None:
        """Refetch undecided entities and process again; for several rounds, since parents come first.

        A delivery with an entity that Clerk does not have waits until a later read confirms the absence.
        """
        requests, state = result.refetch_requests, RefetchState(result.absent_since)
        for _ in range(MAX_REFETCH_ROUNDS):
            pending = state.list_pending(requests)
            if not pending:
                break
            try:
                state.add_results(await self.clerk.fetch(pending), now=self.clock())
            except Exception as error:  # reschedule, also for a failure of the reader itself
                await self._reschedule(list(requests), _format_error(error), error)
                return
            requests = await self._process_again(list(requests), list(state.results.values()))
            if not requests:
                return
        await self._reschedule_undecided(requests, state)

    async def _reschedule_undecided(self, requests: Mapping[str, list[NeedsRefetch]], state: RefetchState) -> None:
        for delivery_id, needed in requests.items():
            if reason := state.find_unreadable_reason(needed):  # a retry would read the same
                await self.db.write(_mark_failed, [delivery_id], reason, now=self.clock())
                continue
            absent = state.list_absent(needed)
            reason = ABSENT_IN_CLERK_REASON.format(what=", ".join(absent)) if absent else UNRESOLVED_REASON
            await self._reschedule([delivery_id], reason, None, absent_since=absent)

    async def _process_again(
        self, delivery_ids: Sequence[str], results: Sequence[RefetchResult], *, is_first: bool = False
    ) -> dict[str, list[NeedsRefetch]]:
        """Process deliveries with these refetch results. Return the requests that are still undecided.

        If it fails, each delivery starts again alone: the cause may be the refetch result of another one.
        """
        try:
            result = await self.db.write(self._process_claimed, delivery_ids, results)
        except TemporaryError:
            raise
        except Exception as error:
            if len(delivery_ids) == 1:
                await self._reschedule(delivery_ids, _format_error(error), error)
                return {}
            for delivery_id in delivery_ids:
                await self._process_again([delivery_id], [], is_first=True)
            return {}
        self.on_change(result)
        await self._read_roles_if_changed(result)
        if is_first and result.refetch_requests:
            await self._refetch_and_process(result)
        return result.refetch_requests

    def _process_claimed(
        self, conn: Conn, delivery_ids: Sequence[str], results: Sequence[RefetchResult]
    ) -> ProcessingResult:
        return self._process(conn, repository.claim_deliveries(conn, delivery_ids), results, self.clock())

    def _process(
        self, conn: Conn, claimed: Sequence[ClaimedDelivery], refetched: Sequence[RefetchResult], now: int
    ) -> ProcessingResult:
        result = ProcessingResult()
        if claimed and claimed[0].bound is None:
            return ProcessingResult(is_unbound=True)
        instances = {each.id: parse_instance_id(each.body) for each in claimed}
        foreign = [each.id for each in claimed if instances[each.id] not in (None, each.bound)]
        if foreign:
            log.info("foreign_deliveries_ignored", count=len(foreign), instance=instances[foreign[0]])
            result.outcomes |= dict.fromkeys(foreign, FOREIGN_OUTCOME)
            claimed = [each for each in claimed if each.id not in result.outcomes]
        events = {each.id: parsed for each in claimed if (parsed := self._parse(each, result)) is not None}
        states = [event for parsed in events.values() for event in parsed if isinstance(event, EntityState)]
        unit = open_unit_of_work(conn, [*(each.state for each in refetched), *states])
        settled = {each.state.key for each in refetched if _is_current_result(result, unit.reconcile_refetched(each))}
        for delivery_id, parsed in events.items():
            has_instance = instances[delivery_id] is not None
            _reconcile_delivery(result, unit, delivery_id, parsed, settled, has_instance=has_instance)
        result.absent_since = _collect_absent(claimed, result.refetch_requests)
        result.touched |= apply_unit_of_work(conn, unit, now=now)
        self._record_audit(conn, result, unit, now=now)
        _apply_role_changes(conn, result.role_changes, now)
        for session_id in result.ended_session_ids:
            end_sessions_of_clerk_session(conn, session_id, at=now)
        repository.mark_processed(conn, result.outcomes, now=now)
        repository.lease_deliveries(conn, list(result.refetch_requests), until=now + LEASE_DURATION)
        for reason in set(result.failed.values()):
            failed = [delivery_id for delivery_id, why in result.failed.items() if why == reason]
            repository.mark_failed(conn, failed, now=now, reason=reason)
        return result

    def _record_audit(self, conn: Conn, result: ProcessingResult, unit: UnitOfWork, *, now: int) -> None:
        result.audit = [
            build_change_entry(change, unit, actor="clerk", cause=delivery_id or "read")
            for change, delivery_id in result.changes
        ]
        result.audit += [*build_superseded_entries(unit), *build_joined_entries(unit.local_memberships)]
        record_entries(conn, result.audit, now=now)

    def _parse(self, delivery: ClaimedDelivery, result: ProcessingResult) -> list[WebhookEvent] | None:
        try:
            return self.parse(delivery.body.encode())
        except PermanentError as error:
            result.failed[delivery.id] = str(error)
            return None

    async def _reschedule(
        self,
        delivery_ids: Sequence[str],
        reason: str,
        error: Exception | None,
        *,
        absent_since: dict[str, int] | None = None,
    ) -> None:
        """Schedule the next attempt, with growing delays; soon for an absence. After the last delay: mark as failed.

        Values that the database cannot store are not retried. `absent_since` None: keep the stored ones.
        """
        if isinstance(error, DatabaseValueError):
            log.warning("deliveries_rejected_by_database", deliveries=len(delivery_ids), reason=reason)
            await self.db.write(_mark_failed, delivery_ids, reason, now=self.clock())
            return
        wait = error.retry_after if isinstance(error, TemporaryError) else None
        log.info("deliveries_rescheduled", deliveries=len(delivery_ids), reason=reason)
        await self.db.write(_reschedule, delivery_ids, reason, now=self.clock(), wait=wait, absent_since=absent_since)


def _format_error(error: Exception) -> str:
    """Return the message of a failure, with the type of an unexpected one."""
    return str(error) if isinstance(error, InstepError) else f"{type(error).__name__}: {error}"


def _collect_absent(claimed: Sequence[ClaimedDelivery], requests: RefetchRequests) -> dict[str, int]:
    """Return the entities that undecided deliveries did not find earlier, and since when."""
    absent: dict[str, int] = {}
    for delivery in claimed:
        for name, since in (delivery.missing or {}).items() if delivery.id in requests else ():
            absent[name] = min(since, absent.get(name, since))
    return absent


def _mark_failed(conn: Conn, delivery_ids: Sequence[str], reason: str, *, now: int) -> None:
    """Mark deliveries as failed that a retry cannot fix."""
    claimed = repository.claim_deliveries(conn, delivery_ids)
    repository.mark_failed(conn, [each.id for each in claimed], now=now, reason=reason)


def _reschedule(
    conn: Conn,
    delivery_ids: Sequence[str],
    reason: str,
    *,
    now: int,
    wait: float | None,
    absent_since: dict[str, int] | None,
) -> None:
    # Clerk responds while an absence is confirmed, so only the second read has to be awaited.
    longest = ABSENCE_CONFIRMATION_DELAY if absent_since else RETRY_DELAYS[-1]
    for delivery in repository.claim_deliveries(conn, delivery_ids):
        if delivery.attempts >= len(RETRY_DELAYS):
            repository.mark_failed(conn, [delivery.id], now=now, reason=reason)
        else:
            delay = max(min(RETRY_DELAYS[delivery.attempts], longest), int((wait or 0) * SECOND))
            missing = delivery.missing if absent_since is None else absent_since
            repository.reschedule_deliveries(conn, [delivery.id], until=now + delay, reason=reason, missing=missing)


def _reconcile_delivery(
    result: ProcessingResult,
    unit: UnitOfWork,
    delivery_id: str,
    events: Sequence[WebhookEvent],
    settled: Set[EntityKey],
    *,
    has_instance: bool,
) -> None:
    """Reconcile all events of a delivery; its outcome is the strongest of theirs.

    A delivery that names no instance (not `has_instance`) does not prove to be of ours: its entities are refetched.
    """
    outcome = "nothing to keep"
    for event in events:
        if isinstance(event, EntityState):
            if has_instance:
                decision = unit.reconcile(event)
            else:
                decision = NeedsRefetch(event.key, event.entity, unit.known.get(event.key))
            if isinstance(decision, NeedsRefetch) and decision.key in settled:
                decision = Ignored("settled by reading Clerk")
            outcome = _record_decision(result, decision, delivery_id) or outcome
        elif isinstance(event, UserRestrictions):
            request = unit.check_restrictions(event)
            if request is not None and request.key not in settled:
                _record_decision(result, request, delivery_id)
        elif isinstance(event, OrganizationInvitationsChanged):
            result.touched_organization_clerk_ids.add(event.organization)
            outcome = "pages refreshed"
        elif isinstance(event, RoleChanged | RoleDeleted):
            result.role_changes.append(event)
            outcome = "roles changed"
        elif isinstance(event, SessionEnded):
            result.ended_session_ids.add(event.session)
            outcome = "session ended"
        elif isinstance(event, IrrelevantEvent):
            outcome = "not kept"
    if delivery_id not in result.refetch_requests:
        has_changed = result.changes and result.changes[-1][1] == delivery_id
        result.outcomes[delivery_id] = "changed" if has_changed else outcome


def _apply_role_changes(conn: Conn, changes: Sequence[RoleChanged | RoleDeleted], now: int) -> None:
    for change in changes:
        if isinstance(change, RoleDeleted):
            roles.mark_role_deleted(conn, change.id, now=now)
        elif change.role is not None:
            roles.upsert_role(conn, change.role)


def _is_current_result(result: ProcessingResult, decision: ReconcileDecision) -> bool:
    """Record the decision on a refetch. Return False if it is older than the mirror, so that it settles nothing."""
    if isinstance(decision, NeedsRefetch):
        return False
    return _record_decision(result, decision, None) != OLDER_REASON


def _record_decision(result: ProcessingResult, decision: ReconcileDecision, delivery_id: str | None) -> str | None:
    """Add a decision to the result. Return its outcome, None if it needs a refetch."""
    if isinstance(decision, NeedsRefetch):
        if delivery_id is not None:
            result.refetch_requests.setdefault(delivery_id, []).append(decision)
        return None
    if isinstance(decision, Ignored):
        return decision.reason
    if not decision.is_deletion_confirmed:
        result.changes.append((decision, delivery_id))
    return "changed"
