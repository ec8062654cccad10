"""Syncing: check, plan, apply, the first sync, and what changed lately. One at a time, each kept as a run."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from instep.audit.joined import change_entry, joined_entries
from instep.audit.store import record
from instep.identity.events import Seen
from instep.identity.model import Kind
from instep.identity.rules import Answer, AskAgain, Change, answers_to
from instep.identity.whole import KINDS
from instep.kit.clock import DAY, SECOND, Clock, is_ahead
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError, PermanentError, described
from instep.kit.ids import new_id
from instep.kit.log import impersonator_of
from instep.mirror import snapshot
from instep.mirror.apply import apply
from instep.mirror.ledger import open_ledger
from instep.sync import store
from instep.sync.applying import Applying
from instep.sync.first import First, make_held
from instep.sync.keeping import Keeper
from instep.sync.lease import alone
from instep.sync.limit import find_excess
from instep.sync.model import PLAN_LASTS, Lease, Run, RunKind, SyncRefused
from instep.sync.places import places_of
from instep.sync.plan import Policy
from instep.sync.ports import Everything, Told, Writes
from instep.sync.roles import RoleReader
from instep.sync.scan import Scan
from instep.sync.telling import Telling

log = structlog.get_logger(__name__)
FINDINGS_LAST = 14 * DAY
MARGIN = 600 * SECOND
GOES_ON = DAY
BROKE = "It broke; the log says why."
WRONG_INSTANCE = "The secret key belongs to {there}, and this database to {here}. Nothing was read or changed."
OTHER_INSTANCE = "This plan was made for another Clerk instance. Make a new one."


def _nobody(_: object) -> None:
    pass


def _unkept(_conn: Conn, instance_id: str, *, now: int) -> str:
    return instance_id


def _never(_conn: Conn) -> int:
    return 0


@dataclass(frozen=True)
class Sync:
    """Everything that sync does.

    `instance` finds the Clerk instance that this database belongs to (None: not known yet), `bind` keeps the secret
    key's then, `rebound_at` says when it last became another one. `touched` hears which organizations changed, `news`
    that a run began, went on or ended. `newest_event` is when the newest delivery came that was applied. Each method
    takes `run_id`, the run that somebody asked a worker for.
    """

    db: Db
    source: Everything
    writes: Writes
    clock: Clock
    policy: Policy = field(default_factory=Policy)
    instance: Callable[[Conn], str | None] = _nobody
    bind: Callable[..., str] = _unkept
    rebound_at: Callable[[Conn], int] = _never
    newest_event: Callable[[Conn], int | None] = _nobody
    touched: Callable[[set[str]], None] = _nobody
    news: Callable[[], None] = lambda: None
    roles: RoleReader | None = None

    async def check(self, *, actor: str, told: Told = _nobody, run_id: str | None = None) -> Run:
        """Say what differs, and change nothing, however much it is.

        Raises SyncRefused (another instance's key), Busy, ProviderDown, ProviderRefused.
        """
        async with alone(self.db, self.clock) as lease, self._run("check", actor, lease, run_id) as run:
            return await self._scan(run, lease, told)

    async def plan(
        self, *, actor: str, allow_gone: int | None = None, told: Told = _nobody, run_id: str | None = None
    ) -> Run:
        """Keep what would be changed, sealed by a hash and good for 15 minutes. Raises as `check`, and SyncRefused
        where Clerk's lists are not whole or more than 100,000 rows differ.

        `allow_gone` is how many deletions of each kind applying it may make. A plan of more is made, and says so.
        """
        wish = {} if allow_gone is None else {"allow_gone": allow_gone}
        async with alone(self.db, self.clock) as lease, self._run("plan", actor, lease, run_id, wish=wish) as run:
            return await self._scan(run, lease, told, allow_gone)

    async def apply(
        self,
        plan_id: str,
        *,
        actor: str,
        chosen: Sequence[int] | None = None,
        allow_gone: int | None = None,
        told: Told = _nobody,
        run_id: str | None = None,
    ) -> Run:
        """Apply a plan, or the chosen rows of it. `allow_gone` takes the place of what the plan was made with.

        1 the plan must be whole, as it was kept, and young, and may not delete more than is allowed; 2 each row's
        precondition is looked at again, and a deletion also in Clerk; 3 small transactions, each with its audit.
        Raises SyncRefused, Busy, ProviderDown.
        """
        async with alone(self.db, self.clock) as lease:
            plan = await self._good_plan(plan_id)
            async with self._run("apply", actor, lease, run_id, plan_id=plan_id) as run:
                await self._check_instance()
                allowed = plan.wish.get("allow_gone") if allow_gone is None else allow_gone
                excess = await self.db.read(find_excess, plan_id, chosen=chosen, allowed=allowed)
                if excess:
                    raise SyncRefused(excess, code="fuse")
                tell = self._telling(run, lease, told)
                applying = Applying(
                    db=self.db,
                    source=self.source,
                    writes=self.writes,
                    policy=self.policy,
                    clock=self.clock,
                    plan_id=plan_id,
                    lease=lease,
                    actor=actor,
                    told=tell,
                    chosen=None if chosen is None else frozenset(chosen),
                )
                async with tell.telling():
                    counts = await applying.run(plan.differences if chosen is None else len(chosen))
                self.touched(applying.touched)
                return await self._end(run, lease, counts=counts)

    async def first(
        self, *, actor: str, kinds: Sequence[Kind] = KINDS, told: Told = _nobody, run_id: str | None = None
    ) -> Run:
        """Take everything of these kinds in, going on where an interrupted run stopped. Deletes nothing."""
        async with alone(self.db, self.clock) as lease:
            left = await self._find_interrupted()
            progress = left.progress if left else {}
            async with self._run("first", actor, lease, run_id, progress=progress) as run:
                await self._check_instance()
                tell = self._telling(run, lease, told)
                keeper = Keeper(
                    db=self.db,
                    writes=self.writes,
                    clock=self.clock,
                    run_id=run.id,
                    lease=lease,
                    actor=actor,
                    places=places_of(run.progress),
                )
                first = First(db=self.db, source=self.source, keeper=keeper, told=tell, kinds=kinds)
                async with tell.telling():
                    await first.run()
                return await self._end(run, lease, counts=dict(keeper.counts), totals=first.totals)

    async def is_empty(self) -> bool:
        """Whether nothing of Clerk's is here yet, or the first sync was interrupted."""
        if await self.db.read(snapshot.is_empty):
            return True
        return await self._find_interrupted() is not None

    async def _find_interrupted(self) -> Run | None:
        """What may be gone on with; a run of another instance may not."""
        since = max(self.clock() - GOES_ON, await self.db.read(self.rebound_at))
        return await self.db.read(_find_interrupted, since=since)

    async def changed(self, *, actor: str, since: int | None = None, run_id: str | None = None) -> Run:
        """Take in the users whom Clerk changed since then, or since the newest event that was applied."""
        async with alone(self.db, self.clock) as lease, self._run("changed", actor, lease, run_id) as run:
            await self._check_instance()
            newest = await self.db.read(self.newest_event) if since is None else since
            if newest is None:
                raise SyncRefused("Nothing was ever applied here. Run: instep sync apply", code="no_event")
            return await self._end(run, lease, counts=await self._take_changed(run, lease, newest - MARGIN))

    async def _take_changed(self, run: Run, lease: Lease, since: int) -> dict[str, int]:
        seen = written = 0
        while page := await self.source.list_changed(offset=seen):
            recent = [it for it in page if it.version >= since]
            written += await self._take_users(recent, run, lease)
            seen += len(page)
            if len(recent) < len(page):
                break
        return {"looked_at": seen, "applied": written}

    async def _take_users(self, news: Sequence[Seen], run: Run, lease: Lease) -> int:
        """Take these in; whoever was called gone because Clerk did not show them is read once more for that."""
        asks, written = await self.db.write(self._decide, [Answer(it) for it in news], run, lease)
        if not asks:
            return written
        answers = answers_to(asks, await self.writes.look(asks))
        return written + (await self.db.write(self._decide, list(answers.values()), run, lease))[1]

    def _decide(self, conn: Conn, answers: Sequence[Answer], run: Run, lease: Lease) -> tuple[list[AskAgain], int]:
        now = self.clock()
        store.hold(conn, lease, now=now)
        ledger = open_ledger(conn, [it.news for it in answers])
        verdicts = [ledger.answer(it) for it in answers]
        changed = [it for it in verdicts if isinstance(it, Change)]
        self.touched(apply(conn, ledger, now=now))
        entries = [change_entry(it, ledger, actor=run.actor, cause=run.id, action="changed") for it in changed]
        record(conn, [*entries, *joined_entries(ledger.joined)], now=now)
        return [it for it in verdicts if isinstance(it, AskAgain)], len(changed)

    async def _scan(self, run: Run, lease: Lease, told: Told, allow_gone: int | None = None) -> Run:
        await self._check_instance()
        tell = self._telling(run, lease, told)
        scan = Scan(
            db=self.db,
            source=self.source,
            policy=self.policy,
            clock=self.clock,
            run_id=run.id,
            lease=lease,
            started_at=run.started_at,
            told=tell,
            look=self.writes.look,
            is_check=run.kind == "check",
        )
        try:
            async with tell.telling():
                counts = await scan.run()
        finally:
            totals = msgspec.to_builtins(scan.totals)
            await self.db.write(store.note, run.id, lease, {"totals": totals}, now=self.clock())
        sealed: dict[str, object] = {}
        if run.kind == "plan":
            now = self.clock()
            sealed = {"hash": await self.db.read(store.digest, run.id), "expires_at": now + PLAN_LASTS}
            excess = await self.db.read(find_excess, run.id, chosen=None, allowed=allow_gone)
            sealed |= {"reason": excess, "code": "fuse"} if excess else {}
        return await self._end(run, lease, counts=counts, **sealed)

    async def _read_roles(self) -> None:
        """Every run reads the roles of the instance first; one that can't is a run without them."""
        if self.roles is None:
            return
        try:
            await self.roles.read()
        except InstepError as error:
            log.warning("roles_not_read", error=str(error))

    async def _check_instance(self) -> None:
        """Compare the secret key's instance with this database's, which it becomes where none is known.

        Raises SyncRefused where they differ.
        """
        there = await self.source.find_instance()
        if there is None:
            return
        here = await self.db.read(self.instance) or await self.db.write(self._bind, there)
        if here != there:
            raise SyncRefused(WRONG_INSTANCE.format(there=there, here=here), code="wrong_instance")

    def _bind(self, conn: Conn, there: str) -> str:
        return self.bind(conn, there, now=self.clock())

    async def _good_plan(self, plan_id: str) -> Run:
        """The plan, if it may be applied. Raises SyncRefused."""
        plan = await self.db.read(store.find_run, plan_id)
        if plan is None or plan.kind != "plan":
            raise SyncRefused(f"There is no plan {plan_id}.", code="no_plan", status=404)
        if plan.state != "done" or plan.hash is None:
            raise SyncRefused(f"This plan was not finished: {plan.reason or plan.state}", code="bad_plan")
        if not is_ahead(plan.expires_at or 0, self.clock(), PLAN_LASTS):
            raise SyncRefused("This plan is older than 15 minutes. Make a new one.", code="plan_expired")
        if await self.db.read(self.rebound_at) >= (plan.ended_at or 0):
            raise SyncRefused(OTHER_INSTANCE, code="plan_expired")
        if await self.db.read(store.digest, plan_id) != plan.hash:
            raise SyncRefused("This plan is not what it was when it was made.", code="plan_changed")
        return plan

    @asynccontextmanager
    async def _run(
        self, kind: RunKind, actor: str, lease: Lease, run_id: str | None, **more: Any
    ) -> AsyncIterator[Run]:
        """A run that is kept, and whose failure is kept with its reason."""
        now = self.clock()
        about: dict[str, Any] = {"id": run_id or new_id("syn"), "kind": kind, "state": "running", "actor": actor}
        run = Run(**about, **more, impersonator=impersonator_of(actor), started_at=now, changed_at=now)
        await self.db.write(store.open_run, run, lease, is_asked=run_id is not None)
        await self.db.write(store.forget_findings, before=now - FINDINGS_LAST)
        self.news()
        try:
            if kind != "first":
                await make_held(self.db)
            await self._read_roles()
            yield run
        except SyncRefused as error:
            await self._fail(run, lease, "refused", error)
            raise
        except InstepError as error:
            await self._fail(run, lease, "failed", error)
            raise
        except Exception:  # a fault of ours: a run that still said that it runs would be taken for an interrupted one
            with suppress(InstepError):
                await self._fail(run, lease, "failed", PermanentError(BROKE, code="broke"))
            raise

    async def _fail(self, run: Run, lease: Lease, state: str, error: InstepError) -> None:
        code = error.code if isinstance(error, PermanentError) else "temporary"
        log.warning("sync_ended", run=run.id, kind=run.kind, state=state, code=code, reason=described(error))
        if code != "overtaken":
            now = self.clock()
            values = {"state": state, "reason": str(error), "code": code, "ended_at": now}
            await self.db.write(store.note, run.id, lease, values, now=now)
            self.news()

    def _telling(self, run: Run, lease: Lease, told: Told) -> Telling:
        return Telling(db=self.db, clock=self.clock, run_id=run.id, lease=lease, told=told, news=self.news)

    async def _end(self, run: Run, lease: Lease, **values: object) -> Run:
        now = self.clock()
        await self.db.write(store.note, run.id, lease, {"state": "done", "ended_at": now, **values}, now=now)
        ended = await self.db.read(store.find_run, run.id)
        assert ended is not None  # noqa: S101 (written just now)
        self.news()
        return ended


def _find_interrupted(conn: Conn, *, since: int) -> Run | None:
    """The last first sync, if it did not come to its end, and not too long ago to go on."""
    last = store.list_runs(conn, kinds=["first"], limit=5)
    begun = [it for it in last if it.progress or it.state == "done"]
    is_left = bool(begun) and begun[0].state in ("running", "stopped", "failed") and begun[0].changed_at >= since
    return begun[0] if is_left else None
