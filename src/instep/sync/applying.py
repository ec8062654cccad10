"""Applying a plan: each row's precondition is looked at again, and what changed meanwhile is skipped and said."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from instep.audit.joined import joined_entries, superseded_entries
from instep.audit.store import Entry, record
from instep.identity.events import Gone
from instep.identity.model import Key, Kind
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.identity.rules import Answer, AskAgain, Change, Ignored, answers_to
from instep.identity.whole import KINDS, Ours
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.mirror import snapshot, standing
from instep.mirror.apply import apply
from instep.mirror.ledger import Ledger, open_ledger
from instep.sync import plan, store
from instep.sync.looks import asks_of
from instep.sync.model import Lease, Outcome
from instep.sync.plan import AHEAD, GONE, Finding, Policy
from instep.sync.ports import Everything, Progress, Told, Writes

BATCH = 100
ROUNDS = 4
ORDER: tuple[tuple[Kind, bool], ...] = (
    ("organization", False),
    ("user", False),
    ("membership", False),
    ("membership", True),
    ("user", True),
    ("organization", True),
)
CHANGED = "It changed here after the plan was made."
BACK = "It is in Clerk again."
NOT_THERE = "Clerk does not show it any more."
FOR_A_PERSON = "Someone has to look at this one."
NO_PARENT = "Its person or its organization is neither here nor in Clerk."
WORDS = {
    "older": "The mirror has newer news of it.",
    "same": "It is the same on both sides meanwhile.",
    "gone": "It was deleted here meanwhile.",
}
End = tuple[Outcome, str | None]


@dataclass
class Taken:
    """What one transaction did: how each row ended, what must be asked first, and which organizations changed."""

    ends: dict[int, End] = field(default_factory=dict)
    asks: list[AskAgain] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)


@dataclass
class Applying:
    """Applies the rows of one plan. `actor` is who asked, `chosen` the numbers they chose (None: all)."""

    db: Db
    source: Everything
    writes: Writes
    policy: Policy
    clock: Clock
    plan_id: str
    lease: Lease
    actor: str
    told: Told
    chosen: frozenset[int] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

    async def run(self, total: int) -> dict[str, int]:
        """All rows in small transactions, parents first and deletions last; gives how they ended."""
        done = 0
        for kind, is_deleting in ORDER:
            after = 0
            while rows := await self.db.read(self._next, kind, after):
                after = rows[-1].number
                rows = [it for it in rows if (it.finding.kind in GONE) is is_deleting and self._is_chosen(it)]
                await self._batch(rows, is_deleting=is_deleting)
                done += len(rows)
                self.told(Progress(kind, done, total))
        return self.counts

    def _is_chosen(self, row: store.Row) -> bool:
        return self.chosen is None or row.number in self.chosen

    def _next(self, conn: Conn, kind: Kind, after: int) -> list[store.Row]:
        return store.list_open(conn, self.plan_id, kind, after=after, limit=BATCH)

    async def _batch(self, rows: Sequence[store.Row], *, is_deleting: bool) -> None:
        if not rows:
            return
        absent: set[Key] = set()
        if is_deleting:
            asks = await self.db.read(asks_of, [it.finding for it in rows])
            absent = await self.source.find_absent(asks)
        facts = await self._write_to_clerk(rows) | await self._read_ahead(rows)
        open_rows = rows
        for turn in range(ROUNDS):
            taken = await self.db.write(self._take, open_rows, absent, facts, turn == ROUNDS - 1)
            self._count(taken)
            if not taken.asks:
                return
            asks = list({it.key: it for it in taken.asks}.values())
            facts |= answers_to(asks, await self.writes.look(asks))
            open_rows = [it for it in open_rows if it.number not in taken.ends]

    def _count(self, taken: Taken) -> None:
        self.touched |= taken.touched
        for outcome, _ in taken.ends.values():
            self.counts[outcome] = self.counts.get(outcome, 0) + 1

    async def _write_to_clerk(self, rows: Sequence[store.Row]) -> dict[Key, Answer]:
        """Rows whose fields belong to the database are written there first; what Clerk answers is taken in."""
        answers: dict[Key, Answer] = {}
        for row in rows:
            if row.finding.mend != "clerk" or row.finding.news is None:
                continue
            if not await self.db.read(_is_as_planned, row.finding, self.policy):
                continue  # the transaction will say that it changed
            try:
                answers[row.finding.key] = Answer(await self.writes.write(row.finding))
            except (ProviderRefused, ProviderDown) as error:
                await self.db.write(self._end, {row.number: ("skipped", str(error))})
        return answers

    async def _read_ahead(self, rows: Sequence[store.Row]) -> dict[Key, Answer]:
        """Rows whose version is ahead of Clerk's are read once more: webhooks since the plan were ignored as older."""
        ahead = [it.finding for it in rows if it.finding.kind == AHEAD and it.finding.mend == "here"]
        asks = [AskAgain(it.key, it.news.entity) for it in ahead if it.news is not None]
        return answers_to(asks, await self.writes.look(asks)) if asks else {}

    def _take(
        self,
        conn: Conn,
        rows: Sequence[store.Row],
        absent: set[Key],
        facts: dict[Key, Answer],
        is_last: bool = False,
    ) -> Taken:
        """One transaction: preconditions, the law, the mirror, the audit, and how each row ended."""
        now, taken = self.clock(), Taken()
        store.hold(conn, self.lease, now=now)
        wanted = {row.number: _answer_of(row.finding, facts, now) for row in rows}
        news = [it.news for it in wanted.values() if it is not None]
        parents = [it for it in facts.values() if it.news.key not in {row.finding.key for row in rows}]
        ledger = open_ledger(conn, [*(it.news for it in parents), *news])
        for fact in parents:
            ledger.answer(fact)
        checks = _Checks(conn, [row.finding for row in rows], self.policy)
        applied: list[store.Row] = []
        for row in rows:
            verdict = self._one(conn, row, wanted[row.number], ledger, checks, absent)
            if isinstance(verdict, AskAgain) and not is_last:
                taken.asks.append(verdict)
                continue
            end: End = ("skipped", NO_PARENT) if isinstance(verdict, AskAgain) else verdict
            taken.ends[row.number] = end
            if end[0] == "applied":
                applied.append(row)
        taken.touched = apply(conn, ledger, now=now)
        entries = [self._entry(row, ledger) for row in applied]
        record(conn, [*entries, *superseded_entries(ledger), *joined_entries(ledger.joined)], now=now)
        self._end(conn, taken.ends)
        return taken

    def _one(
        self,
        conn: Conn,
        row: store.Row,
        answer: Answer | None,
        ledger: Ledger,
        checks: "_Checks",
        absent: set[Key],
    ) -> End | AskAgain:
        finding = row.finding
        if finding.kind == "legacy_invited" and finding.here:
            standing.remove(conn, finding.here, now=self.clock())
            return ("applied", None)
        if answer is None and finding.kind == AHEAD and finding.mend == "here":
            return ("skipped", NOT_THERE)
        if answer is None or finding.mend is None:
            return ("skipped", finding.note or FOR_A_PERSON)
        if isinstance(answer.news, Gone) and finding.key not in absent:
            return ("skipped", BACK)
        if finding.mend != "clerk" and (reason := checks.refuse(finding)):
            return ("skipped", reason)
        known = ledger.known.get(finding.key)
        if isinstance(answer.news, Gone):  # the row is what it was before Clerk was asked a second time
            answer = Answer(answer.news, known)
        elif known is not None and finding.kind == AHEAD:  # Clerk's side is taken, whatever the version here says
            known = replace(known, version=min(known.version, answer.news.version), digest="")
            ledger.known[finding.key] = known
            answer = Answer(answer.news, known)
        elif known is not None and finding.differences:
            ledger.known[finding.key] = replace(known, digest="")  # the row is not what its digest says
        verdict = ledger.answer(answer)
        if isinstance(verdict, AskAgain):
            return verdict
        if isinstance(verdict, Change):
            return ("applied", None)
        assert isinstance(verdict, Ignored)  # noqa: S101
        return ("skipped", WORDS.get(verdict.reason, verdict.reason))

    def _entry(self, row: store.Row, ledger: Ledger) -> Entry:
        finding, organization = row.finding, None
        details: dict[str, object] = {
            "finding": finding.kind,
            "fields": {it.field: [it.here, it.clerk] for it in finding.differences},
        }
        what = "gone" if finding.kind in GONE else "seen" if finding.version is None else "changed"
        news = ledger.news_of(finding.key)
        if news is not None:
            organization, how = ledger.about(Change(news, None))
            details |= how
        return Entry(
            actor=self.actor,
            action=f"{finding.key.kind}.{what}",
            target=finding.key.id or finding.here or "",
            organization_id=organization,
            cause=self.plan_id,
            details=details,
        )

    def _end(self, conn: Conn, ends: dict[int, End]) -> None:
        store.end(conn, self.plan_id, ends, now=self.clock())


class _Checks:
    """The preconditions of some rows, against the mirror as this transaction sees it."""

    def __init__(self, conn: Conn, found: Sequence[Finding], policy: Policy) -> None:
        self._policy = policy
        self._ours: dict[str, Ours] = {}
        for kind in KINDS:
            ids = [it.key.id for it in found if it.key.kind == kind]
            self._ours |= {it.clerk_id: it for it in snapshot.find_ours(conn, kind, ids)} if ids else {}

    def refuse(self, finding: Finding) -> str | None:
        """Why this row must not be mended any more; None where it stands as it was planned."""
        our = self._ours.get(finding.key.id)
        if finding.version is None:
            return CHANGED if our is not None else None
        if our is None or (our.version, our.digest) != (finding.version, finding.digest):
            return CHANGED
        if our.is_gone and (finding.news is None or our.absent_at is None):
            return CHANGED
        if finding.news is None:
            return CHANGED if our.is_kept else None
        now = plan.differing(finding.news, our, self._policy)
        return None if now is not None and list(now.differences) == list(finding.differences) else CHANGED


def _is_as_planned(conn: Conn, finding: Finding, policy: Policy) -> bool:
    return _Checks(conn, [finding], policy).refuse(finding) is None


def _answer_of(finding: Finding, facts: dict[Key, Answer], now: int) -> Answer | None:
    """What is to be decided of a row: what was read since, else what the plan says."""
    if finding.mend == "clerk" or finding.kind == AHEAD or finding.key in facts:
        return facts.get(finding.key)
    if finding.kind in GONE:
        return Answer(Gone(finding.key, absent_at=now))
    return Answer(finding.news) if finding.news is not None and finding.mend == "here" else None
