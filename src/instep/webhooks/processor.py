"""Process stored deliveries in batches: reconcile, apply and settle in one transaction."""

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, field

import structlog

from instep.audit.entries import NewAuditEntry, build_change_entry, build_joined_entries, build_superseded_entries
from instep.audit.repository import record_entries
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
UNRESOLVED_REASON = "Clerk's answers do not settle it yet."
ABSENT_IN_CLERK_REASON = "Clerk does not show {what}: looked for once more."
RETRY_DELAYS = (5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 8 * HOUR)


@dataclass
class ProcessingResult:
    """What one transaction did: deliveries that are done, questions that only Clerk can answer, what to tell whom."""

    outcomes: dict[str, str] = field(default_factory=dict)
    parked: dict[str, str] = field(default_factory=dict)
    asks: dict[str, list[NeedsRefetch]] = field(default_factory=dict)
    changes: list[tuple[Change, str | None]] = field(default_factory=list)
    audit: list[NewAuditEntry] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    touched_organization_clerk_ids: set[ClerkId] = field(default_factory=set)
    ended_session_ids: set[ClerkId] = field(default_factory=set)
    missing: dict[str, int] = field(default_factory=dict)
    is_unbound: bool = False
    roles: list[RoleChanged | RoleDeleted] = field(default_factory=list)

    @property
    def has_unread_role_changes(self) -> bool:
        """Whether something changed in the roles of the instance that no delivery says."""
        return any(isinstance(it, RoleChanged) and it.role is None for it in self.roles)


@dataclass(frozen=True)
class DeliveryProcessor:
    """Works the inbox. `read` turns a delivery's body into what it says; `told` hears what a transaction changed.

    Deliveries wait until it is known which Clerk instance this database belongs to; those of another are not applied.
    `read_roles` reads the roles of the instance again.
    """

    db: Database
    directory: ClerkReader
    read: Callable[[bytes], list[WebhookEvent]]
    told: Callable[[ProcessingResult], None]
    clock: Clock
    read_roles: Callable[[], Awaitable[object]] | None = None
    instance_binder: InstanceBinder = field(init=False)

    def __post_init__(self) -> None:
        """Ask the directory for the instance as well."""
        object.__setattr__(self, "instance_binder", InstanceBinder(self.db, self.directory, self.clock))

    async def run_once(self) -> int:
        """Work one batch; gives how many deliveries were taken, 0 when nothing is due.

        1 claim, decide, apply and settle in one transaction; 2 what only Clerk can answer is asked outside of it,
        and decided again; 3 a batch that fails is worked one by one, so that a poison delivery stands alone.
        """
        try:
            claimed, worked = await self.db.write(self._claim_and_work)
        except TemporaryError:
            raise
        except Exception as error:  # whatever one delivery brings, the others must not wait for it
            log.warning("inbox_batch_failed", error=_format_error(error))
            return await self._one_by_one()
        if worked.is_unbound:
            return int(await self.instance_binder.bind_if_unbound())
        self.told(worked)
        await self._read_roles(worked)
        if worked.asks:
            await self._ask_and_work(worked)
        return claimed

    async def clamp_due_times(self) -> int:
        """Have deliveries worked now that a clock which went back has put off; how many there were."""
        return await self.db.write(
            repository.clamp_due_times, now=self.clock(), lease=LEASE_DURATION, delays=RETRY_DELAYS
        )

    async def _read_roles(self, worked: ProcessingResult) -> None:
        """Read the roles where a delivery left open what changed; what fails here is done by the next look at them."""
        if self.read_roles is None or not worked.has_unread_role_changes:
            return
        try:
            await self.read_roles()
        except InstepError as error:
            log.warning("roles_not_read", error=str(error))

    def _claim_and_work(self, conn: Conn) -> tuple[int, ProcessingResult]:
        now = self.clock()
        claimed = repository.claim_due_deliveries(conn, now=now, limit=BATCH_SIZE)
        return len(claimed), self._work(conn, claimed, [], now)

    async def _one_by_one(self) -> int:
        ids = await self.db.read(repository.list_due_ids, now=self.clock(), limit=BATCH_SIZE)
        for id in ids:
            await self._work_again([id], [], is_first=True)
        return len(ids)

    async def _ask_and_work(self, worked: ProcessingResult) -> None:
        """Ask Clerk what can't be decided from here, then decide again; a few rounds, since parents come first.

        What Clerk does not show is looked for once more, later: its delivery waits for that.
        """
        asks, looking = worked.asks, RefetchState(worked.missing)
        for _ in range(MAX_REFETCH_ROUNDS):
            wanted = looking.wanted(asks)
            if not wanted:
                break
            try:
                looking.take(await self.directory.fetch(wanted), now=self.clock())
            except Exception as error:  # put off, also where the reading itself is at fault
                await self._put_off(list(asks), _format_error(error), error)
                return
            asks = await self._work_again(list(asks), list(looking.answers.values()))
            if not asks:
                return
        await self._put_off_unsettled(asks, looking)

    async def _put_off_unsettled(self, asks: RefetchRequests, looking: RefetchState) -> None:
        for id, them in asks.items():
            if reason := looking.unreadable(them):  # and the next time as well
                await self.db.write(_mark_failed, [id], reason, now=self.clock())
                continue
            missing = looking.missing(them)
            reason = ABSENT_IN_CLERK_REASON.format(what=", ".join(missing)) if missing else UNRESOLVED_REASON
            await self._put_off([id], reason, None, missing=missing)

    async def _work_again(
        self, ids: Sequence[str], answers: Sequence[RefetchResult], *, is_first: bool = False
    ) -> dict[str, list[NeedsRefetch]]:
        """Work these deliveries with what Clerk answered; gives what is still open.

        Where that fails, each starts again alone: the fault may lie in what Clerk answered to another one's question.
        """
        try:
            worked = await self.db.write(self._work_these, ids, answers)
        except TemporaryError:
            raise
        except Exception as error:
            if len(ids) == 1:
                await self._put_off(ids, _format_error(error), error)
            for id in ids if len(ids) > 1 else ():
                await self._work_again([id], [], is_first=True)
            return {}
        self.told(worked)
        await self._read_roles(worked)
        if is_first and worked.asks:
            await self._ask_and_work(worked)
        return worked.asks

    def _work_these(self, conn: Conn, ids: Sequence[str], answers: Sequence[RefetchResult]) -> ProcessingResult:
        return self._work(conn, repository.claim_deliveries(conn, ids), answers, self.clock())

    def _work(
        self, conn: Conn, claimed: Sequence[ClaimedDelivery], answers: Sequence[RefetchResult], now: int
    ) -> ProcessingResult:
        worked = ProcessingResult()
        if claimed and claimed[0].bound is None:
            return ProcessingResult(is_unbound=True)
        named = {it.id: parse_instance_id(it.body) for it in claimed}
        foreign = [it.id for it in claimed if named[it.id] not in (None, it.bound)]
        if foreign:
            log.info("deliveries_of_another_instance", count=len(foreign), instance=named[foreign[0]])
            worked.outcomes |= dict.fromkeys(foreign, FOREIGN_OUTCOME)
            claimed = [it for it in claimed if it.id not in worked.outcomes]
        said = {it.id: words for it in claimed if (words := self._read(it, worked)) is not None}
        news = [it for words in said.values() for it in words if isinstance(it, EntityState)]
        ledger = open_unit_of_work(conn, [*(it.state for it in answers), *news])
        known = {it.state.key for it in answers if _is_current_answer(worked, ledger.reconcile_refetched(it))}
        for id, words in said.items():
            _reconcile_delivery(worked, ledger, id, words, known, is_attributed=named[id] is not None)
        worked.missing = _collect_missing(claimed, worked.asks)
        worked.touched |= apply_unit_of_work(conn, ledger, now=now)
        worked.audit = [build_change_entry(it, ledger, actor="clerk", cause=id or "read") for it, id in worked.changes]
        worked.audit += [*build_superseded_entries(ledger), *build_joined_entries(ledger.local_memberships)]
        record_entries(conn, worked.audit, now=now)
        _apply_role_changes(conn, worked.roles, now)
        for session in worked.ended_session_ids:
            end_sessions_of_clerk_session(conn, session, at=now)
        repository.mark_processed(conn, worked.outcomes, now=now)
        repository.lease_deliveries(conn, list(worked.asks), until=now + LEASE_DURATION)
        for reason in set(worked.parked.values()):
            repository.mark_failed(
                conn, [id for id, why in worked.parked.items() if why == reason], now=now, reason=reason
            )
        return worked

    def _read(self, delivery: ClaimedDelivery, worked: ProcessingResult) -> list[WebhookEvent] | None:
        try:
            return self.read(delivery.body.encode())
        except PermanentError as error:
            worked.parked[delivery.id] = str(error)
            return None

    async def _put_off(
        self, ids: Sequence[str], reason: str, error: Exception | None, *, missing: dict[str, int] | None = None
    ) -> None:
        """Try again later and later, and soon what is `missing`; after the last delay a person is asked.

        What the database can't hold is not tried again: a person is asked at once.

        `missing` None: as it was before."""
        if isinstance(error, DatabaseValueError):
            log.warning("inbox_refused", deliveries=len(ids), reason=reason)
            await self.db.write(_mark_failed, ids, reason, now=self.clock())
            return
        wait = error.retry_after if isinstance(error, TemporaryError) else None
        log.info("inbox_put_off", deliveries=len(ids), reason=reason)
        await self.db.write(_reschedule, ids, reason, now=self.clock(), wait=wait, missing=missing)


def _format_error(error: Exception) -> str:
    """What is shown of a failure; one that nobody foresaw says its kind."""
    return str(error) if isinstance(error, InstepError) else f"{type(error).__name__}: {error}"


def _collect_missing(claimed: Sequence[ClaimedDelivery], asks: RefetchRequests) -> dict[str, int]:
    """What Clerk did not show before to those that still ask, and since when."""
    missing: dict[str, int] = {}
    for it in claimed:
        for name, since in (it.missing or {}).items() if it.id in asks else ():
            missing[name] = min(since, missing.get(name, since))
    return missing


def _mark_failed(conn: Conn, ids: Sequence[str], reason: str, *, now: int) -> None:
    """Leave these to a person: trying again gives the same."""
    repository.mark_failed(conn, [it.id for it in repository.claim_deliveries(conn, ids)], now=now, reason=reason)


def _reschedule(
    conn: Conn, ids: Sequence[str], reason: str, *, now: int, wait: float | None, missing: dict[str, int] | None
) -> None:
    for it in repository.claim_deliveries(conn, ids):
        if it.attempts >= len(RETRY_DELAYS):
            repository.mark_failed(conn, [it.id], now=now, reason=reason)
        else:
            longest = (
                ABSENCE_CONFIRMATION_DELAY if missing else RETRY_DELAYS[-1]
            )  # Clerk answers: only an absence has to be looked at again
            delay = max(min(RETRY_DELAYS[it.attempts], longest), int((wait or 0) * SECOND))
            kept = it.missing if missing is None else missing
            repository.reschedule_deliveries(conn, [it.id], until=now + delay, reason=reason, missing=kept)


def _reconcile_delivery(
    worked: ProcessingResult,
    ledger: UnitOfWork,
    id: str,
    words: Sequence[WebhookEvent],
    known: Set[EntityKey],
    *,
    is_attributed: bool,
) -> None:
    """Decide everything one delivery says; its outcome is the strongest of what it did.

    One that names no instance (not `is_attributed`) is no evidence of ours: Clerk is read for what it is about.
    """
    outcome = "nothing to keep"
    for word in words:
        if isinstance(word, EntityState):
            asked = NeedsRefetch(word.key, word.entity, ledger.known.get(word.key))
            verdict = ledger.reconcile(word) if is_attributed else asked
            if isinstance(verdict, NeedsRefetch) and verdict.key in known:
                verdict = Ignored("settled by reading Clerk")
            outcome = _record_verdict(worked, verdict, id) or outcome
        elif isinstance(word, UserRestrictions):
            ask = ledger.check_restrictions(word)
            if ask is not None and ask.key not in known:
                _record_verdict(worked, ask, id)
        elif isinstance(word, OrganizationInvitationsChanged):
            worked.touched_organization_clerk_ids.add(word.organization)
            outcome = "pages refreshed"
        elif isinstance(word, RoleChanged | RoleDeleted):
            worked.roles.append(word)
            outcome = "roles changed"
        elif isinstance(word, SessionEnded):
            worked.ended_session_ids.add(word.session)
            outcome = "session ended"
        elif isinstance(word, IrrelevantEvent):
            outcome = "not kept"
    if id not in worked.asks:
        worked.outcomes[id] = "changed" if worked.changes and worked.changes[-1][1] == id else outcome


def _apply_role_changes(conn: Conn, said: Sequence[RoleChanged | RoleDeleted], now: int) -> None:
    for it in said:
        if isinstance(it, RoleDeleted):
            roles.mark_role_deleted(conn, it.id, now=now)
        elif it.role is not None:
            roles.upsert_role(conn, it.role)


def _is_current_answer(worked: ProcessingResult, verdict: ReconcileDecision) -> bool:
    """Note what Clerk answered; whether it answered for the present: older than what we have, it settles nothing."""
    if isinstance(verdict, NeedsRefetch):
        return False
    return _record_verdict(worked, verdict, None) != OLDER_REASON


def _record_verdict(worked: ProcessingResult, verdict: ReconcileDecision, id: str | None) -> str | None:
    if isinstance(verdict, NeedsRefetch):
        if id is not None:
            worked.asks.setdefault(id, []).append(verdict)
        return None
    if isinstance(verdict, Ignored):
        return verdict.reason
    if not verdict.is_deletion_confirmed:
        worked.changes.append((verdict, id))
    return "changed"
