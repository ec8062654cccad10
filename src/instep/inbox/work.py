"""Deliveries at work: claimed in batches, decided by the law, applied and settled in one transaction."""

from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, field

import structlog

from instep.access.store import end_sessions_of
from instep.audit.joined import change_entry, joined_entries, superseded_entries
from instep.audit.store import Entry, record
from instep.identity.events import BarSeen, News, NotForUs, RoleChanged, RoleGone, Said, SessionEnded, Touched
from instep.identity.model import ClerkId, Key
from instep.identity.ports import Directory
from instep.identity.rules import OLDER, Answer, AskAgain, Change, Ignored, Verdict
from instep.inbox import store
from instep.inbox.instance import Binding, instance_of
from instep.inbox.looking import PATIENCE, Asks, Looking
from instep.inbox.store import Claimed
from instep.kit.clock import HOUR, MINUTE, SECOND, Clock
from instep.kit.db import Conn, Db, ValueRefusedError
from instep.kit.errors import InstepError, PermanentError, TemporaryError
from instep.mirror import roles
from instep.mirror.apply import apply
from instep.mirror.ledger import Ledger, open_ledger

log = structlog.get_logger(__name__)
BATCH = 200
LEASE = MINUTE
ROUNDS = 3
FOREIGN = "foreign"
NOT_SETTLED = "Clerk's answers do not settle it yet."
NOT_SHOWN = "Clerk does not show {what}: looked for once more."
DELAYS = (5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 8 * HOUR)


@dataclass
class Worked:
    """What one transaction did: deliveries that are done, questions that only Clerk can answer, what to tell whom."""

    outcomes: dict[str, str] = field(default_factory=dict)
    parked: dict[str, str] = field(default_factory=dict)
    asks: dict[str, list[AskAgain]] = field(default_factory=dict)
    changes: list[tuple[Change, str | None]] = field(default_factory=list)
    audit: list[Entry] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    touched_in_clerk: set[ClerkId] = field(default_factory=set)
    ended_sessions: set[ClerkId] = field(default_factory=set)
    missing: dict[str, int] = field(default_factory=dict)
    is_unbound: bool = False
    roles: list[RoleChanged | RoleGone] = field(default_factory=list)

    @property
    def must_read_roles(self) -> bool:
        """Whether something changed in the roles of the instance that no delivery says."""
        return any(isinstance(it, RoleChanged) and it.role is None for it in self.roles)


@dataclass(frozen=True)
class Work:
    """Works the inbox. `read` turns a delivery's body into what it says; `told` hears what a transaction changed.

    Deliveries wait until it is known which Clerk instance this database belongs to; those of another are not applied.
    `read_roles` reads the roles of the instance again.
    """

    db: Db
    directory: Directory
    read: Callable[[bytes], list[Said]]
    told: Callable[[Worked], None]
    clock: Clock
    read_roles: Callable[[], Awaitable[object]] | None = None
    binding: Binding = field(init=False)

    def __post_init__(self) -> None:
        """Ask the directory for the instance as well."""
        object.__setattr__(self, "binding", Binding(self.db, self.directory, self.clock))

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
            log.warning("inbox_batch_failed", error=_reason(error))
            return await self._one_by_one()
        if worked.is_unbound:
            return int(await self.binding.learn())
        self.told(worked)
        await self._read_roles(worked)
        if worked.asks:
            await self._ask_and_work(worked)
        return claimed

    async def pull_in(self) -> int:
        """Have deliveries worked now that a clock which went back has put off; how many there were."""
        return await self.db.write(store.pull_in, now=self.clock(), lease=LEASE, delays=DELAYS)

    async def _read_roles(self, worked: Worked) -> None:
        """Read the roles where a delivery left open what changed; what fails here is done by the next look at them."""
        if self.read_roles is None or not worked.must_read_roles:
            return
        try:
            await self.read_roles()
        except InstepError as error:
            log.warning("roles_not_read", error=str(error))

    def _claim_and_work(self, conn: Conn) -> tuple[int, Worked]:
        now = self.clock()
        claimed = store.claim_due(conn, now=now, limit=BATCH)
        return len(claimed), self._work(conn, claimed, [], now)

    async def _one_by_one(self) -> int:
        ids = await self.db.read(store.list_due, now=self.clock(), limit=BATCH)
        for id in ids:
            await self._work_again([id], [], is_first=True)
        return len(ids)

    async def _ask_and_work(self, worked: Worked) -> None:
        """Ask Clerk what can't be decided from here, then decide again; a few rounds, since parents come first.

        What Clerk does not show is looked for once more, later: its delivery waits for that.
        """
        asks, looking = worked.asks, Looking(worked.missing)
        for _ in range(ROUNDS):
            wanted = looking.wanted(asks)
            if not wanted:
                break
            try:
                looking.take(await self.directory.look(wanted), now=self.clock())
            except Exception as error:  # put off, also where the reading itself is at fault
                await self._put_off(list(asks), _reason(error), error)
                return
            asks = await self._work_again(list(asks), list(looking.answers.values()))
            if not asks:
                return
        await self._put_off_unsettled(asks, looking)

    async def _put_off_unsettled(self, asks: Asks, looking: Looking) -> None:
        for id, them in asks.items():
            if reason := looking.unreadable(them):  # and the next time as well
                await self.db.write(_fail, [id], reason, now=self.clock())
                continue
            missing = looking.missing(them)
            reason = NOT_SHOWN.format(what=", ".join(missing)) if missing else NOT_SETTLED
            await self._put_off([id], reason, None, missing=missing)

    async def _work_again(
        self, ids: Sequence[str], answers: Sequence[Answer], *, is_first: bool = False
    ) -> dict[str, list[AskAgain]]:
        """Work these deliveries with what Clerk answered; gives what is still open.

        Where that fails, each starts again alone: the fault may lie in what Clerk answered to another one's question.
        """
        try:
            worked = await self.db.write(self._work_these, ids, answers)
        except TemporaryError:
            raise
        except Exception as error:
            if len(ids) == 1:
                await self._put_off(ids, _reason(error), error)
            for id in ids if len(ids) > 1 else ():
                await self._work_again([id], [], is_first=True)
            return {}
        self.told(worked)
        await self._read_roles(worked)
        if is_first and worked.asks:
            await self._ask_and_work(worked)
        return worked.asks

    def _work_these(self, conn: Conn, ids: Sequence[str], answers: Sequence[Answer]) -> Worked:
        return self._work(conn, store.claim(conn, ids), answers, self.clock())

    def _work(self, conn: Conn, claimed: Sequence[Claimed], answers: Sequence[Answer], now: int) -> Worked:
        worked = Worked()
        if claimed and claimed[0].bound is None:
            return Worked(is_unbound=True)
        named = {it.id: instance_of(it.body) for it in claimed}
        foreign = [it.id for it in claimed if named[it.id] not in (None, it.bound)]
        if foreign:
            log.info("deliveries_of_another_instance", count=len(foreign), instance=named[foreign[0]])
            worked.outcomes |= dict.fromkeys(foreign, FOREIGN)
            claimed = [it for it in claimed if it.id not in worked.outcomes]
        said = {it.id: words for it in claimed if (words := self._read(it, worked)) is not None}
        news = [it for words in said.values() for it in words if isinstance(it, News)]
        ledger = open_ledger(conn, [*(it.news for it in answers), *news])
        known = {it.news.key for it in answers if _is_present(worked, ledger.answer(it))}
        for id, words in said.items():
            _take(worked, ledger, id, words, known, is_attributed=named[id] is not None)
        worked.missing = _missing(claimed, worked.asks)
        worked.touched |= apply(conn, ledger, now=now)
        worked.audit = [change_entry(it, ledger, actor="clerk", cause=id or "read") for it, id in worked.changes]
        worked.audit += [*superseded_entries(ledger), *joined_entries(ledger.joined)]
        record(conn, worked.audit, now=now)
        _take_roles(conn, worked.roles, now)
        for session in worked.ended_sessions:
            end_sessions_of(conn, session, at=now)
        store.settle(conn, worked.outcomes, now=now)
        store.lease(conn, list(worked.asks), until=now + LEASE)
        for reason in set(worked.parked.values()):
            store.park(conn, [id for id, why in worked.parked.items() if why == reason], now=now, reason=reason)
        return worked

    def _read(self, delivery: Claimed, worked: Worked) -> list[Said] | None:
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
        if isinstance(error, ValueRefusedError):
            log.warning("inbox_refused", deliveries=len(ids), reason=reason)
            await self.db.write(_fail, ids, reason, now=self.clock())
            return
        wait = error.retry_after if isinstance(error, TemporaryError) else None
        log.info("inbox_put_off", deliveries=len(ids), reason=reason)
        await self.db.write(_put_off, ids, reason, now=self.clock(), wait=wait, missing=missing)


def _reason(error: Exception) -> str:
    """What is shown of a failure; one that nobody foresaw says its kind."""
    return str(error) if isinstance(error, InstepError) else f"{type(error).__name__}: {error}"


def _missing(claimed: Sequence[Claimed], asks: Asks) -> dict[str, int]:
    """What Clerk did not show before to those that still ask, and since when."""
    missing: dict[str, int] = {}
    for it in claimed:
        for name, since in (it.missing or {}).items() if it.id in asks else ():
            missing[name] = min(since, missing.get(name, since))
    return missing


def _fail(conn: Conn, ids: Sequence[str], reason: str, *, now: int) -> None:
    """Leave these to a person: trying again gives the same."""
    store.park(conn, [it.id for it in store.claim(conn, ids)], now=now, reason=reason)


def _put_off(
    conn: Conn, ids: Sequence[str], reason: str, *, now: int, wait: float | None, missing: dict[str, int] | None
) -> None:
    for it in store.claim(conn, ids):
        if it.attempts >= len(DELAYS):
            store.park(conn, [it.id], now=now, reason=reason)
        else:
            longest = PATIENCE if missing else DELAYS[-1]  # Clerk answers: only an absence has to be looked at again
            delay = max(min(DELAYS[it.attempts], longest), int((wait or 0) * SECOND))
            kept = it.missing if missing is None else missing
            store.put_off(conn, [it.id], until=now + delay, reason=reason, missing=kept)


def _take(
    worked: Worked, ledger: Ledger, id: str, words: Sequence[Said], known: Set[Key], *, is_attributed: bool
) -> None:
    """Decide everything one delivery says; its outcome is the strongest of what it did.

    One that names no instance (not `is_attributed`) is no evidence of ours: Clerk is read for what it is about.
    """
    outcome = "nothing to keep"
    for word in words:
        if isinstance(word, News):
            asked = AskAgain(word.key, word.entity, ledger.known.get(word.key))
            verdict = ledger.take(word) if is_attributed else asked
            if isinstance(verdict, AskAgain) and verdict.key in known:
                verdict = Ignored("settled by reading Clerk")
            outcome = _note(worked, verdict, id) or outcome
        elif isinstance(word, BarSeen):
            ask = ledger.doubts(word)
            if ask is not None and ask.key not in known:
                _note(worked, ask, id)
        elif isinstance(word, Touched):
            worked.touched_in_clerk.add(word.organization)
            outcome = "pages refreshed"
        elif isinstance(word, RoleChanged | RoleGone):
            worked.roles.append(word)
            outcome = "roles changed"
        elif isinstance(word, SessionEnded):
            worked.ended_sessions.add(word.session)
            outcome = "session ended"
        elif isinstance(word, NotForUs):
            outcome = "not kept"
    if id not in worked.asks:
        worked.outcomes[id] = "changed" if worked.changes and worked.changes[-1][1] == id else outcome


def _take_roles(conn: Conn, said: Sequence[RoleChanged | RoleGone], now: int) -> None:
    for it in said:
        if isinstance(it, RoleGone):
            roles.end_one(conn, it.id, now=now)
        elif it.role is not None:
            roles.put_one(conn, it.role)


def _is_present(worked: Worked, verdict: Verdict) -> bool:
    """Note what Clerk answered; whether it answered for the present: older than what we have, it settles nothing."""
    if isinstance(verdict, AskAgain):
        return False
    return _note(worked, verdict, None) != OLDER


def _note(worked: Worked, verdict: Verdict, id: str | None) -> str | None:
    if isinstance(verdict, AskAgain):
        if id is not None:
            worked.asks.setdefault(id, []).append(verdict)
        return None
    if isinstance(verdict, Ignored):
        return verdict.reason
    if not verdict.is_confirmed:
        worked.changes.append((verdict, id))
    return "changed"
