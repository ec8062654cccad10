"""Runs that a page asks for, and that a worker carries out: a request ends at once, however long the run takes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from instep.audit.store import Entry, record
from instep.identity.refusals import CONFLICT
from instep.kit.clock import Clock, is_within
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError
from instep.kit.ids import new_id
from instep.kit.log import acting_as, impersonator_of
from instep.sync import store
from instep.sync.model import ASKED_LASTS, NOT_BEGUN, Busy, Run, RunKind, RunState, SyncRefused
from instep.sync.places import places_of
from instep.sync.run import Sync

log = structlog.get_logger(__name__)
LATE = "No worker took it on within 10 minutes."
WITHDRAWN = "It was withdrawn."
BROKE = "It broke before it began; the log says why."
MOST_IN_VAIN = 5
IN_VAIN = (
    "Its worker ended each time before it came any further, most likely for lack of memory. See the worker's log, "
    "give it more memory, then start it again: it goes on where it was."
)


async def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Asked:
    """Asks for runs, and carries them out: a worker looks for one every second. `after` runs when one has ended."""

    sync: Sync
    after: Callable[[], Awaitable[None]] = _nothing

    @property
    def db(self) -> Db:
        """The database."""
        return self.sync.db

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self.sync.clock

    async def ask(
        self,
        kind: RunKind,
        *,
        actor: str,
        plan_id: str | None = None,
        chosen: Sequence[int] | None = None,
        allow_gone: int | None = None,
    ) -> Run:
        """Keep what is wanted, for the next worker. Raises SyncRefused while another is asked for or under way."""
        rows = None if chosen is None else sorted(set(chosen))
        goes_on = {"in_vain": 0, "came": 0} if kind == "first" else None
        wish = {"chosen": rows, "allow_gone": allow_gone, "goes_on": goes_on}
        return await self._keep(kind, actor, wish, plan_id)

    async def _keep(self, kind: RunKind, actor: str, wish: dict[str, Any], plan_id: str | None = None) -> Run:
        now = self.clock()
        run = Run(
            id=new_id("syn"),
            kind=kind,
            state="asked",
            actor=actor,
            impersonator=impersonator_of(actor),
            started_at=now,
            changed_at=now,
            plan_id=plan_id,
            wish={name: value for name, value in wish.items() if value is not None},
        )
        await self.db.write(self._ask, run)
        self.sync.news()
        return run

    async def withdraw(self, id: str) -> None:
        """End a run that no worker has begun. Raises SyncRefused where one has."""
        if not await self._end(id, "stopped", WITHDRAWN, "withdrawn"):
            raise SyncRefused("It has begun already.", code="begun", status=CONFLICT)
        self.sync.news()

    async def run_once(self) -> int:
        """Carry out the run that waits longest; 0 where none does, or another sync is under way.

        A first sync whose worker is gone goes on, unless that was in vain too often in a row. A run that waited too
        long is not begun any more: whoever asked does not expect it now. However it ends, the run says so.
        """
        run, left = await self.db.read(store.find_next, now=self.clock())
        if left is not None:
            run = await self._go_on(left)
        if run is None:
            return 0
        if not is_within(run.started_at, self.clock(), ASKED_LASTS):
            await self._end(run.id, "stopped", LATE, NOT_BEGUN)
            return 1
        try:
            await self._carry_out(run)
        except Busy:
            return 0
        except SyncRefused as error:
            await self._end(run.id, "refused", str(error), error.code)
        except InstepError as error:
            await self._end(run.id, "failed", str(error), getattr(error, "code", "temporary"))
        except Exception:
            await self._end(run.id, "failed", BROKE, NOT_BEGUN)
            raise
        await self.after()
        return 1

    async def _go_on(self, left: Run) -> Run | None:
        """Ask for the rest of a first sync whose worker is gone. Where it did not come any further the last five times
        either, it has failed: whatever ends its process would do so for ever."""
        came, before = _came(left), left.wish["goes_on"]
        in_vain = 1 if came > before["came"] else before["in_vain"] + 1
        if in_vain <= MOST_IN_VAIN:
            with acting_as(left.actor, left.impersonator):
                return await self._keep("first", left.actor, {"goes_on": {"in_vain": in_vain, "came": came}})
        log.error("first_sync_given_up", run=left.id, came=came)
        await self.db.write(store.fail_left, left.id, now=self.clock(), reason=IN_VAIN, code="in_vain")
        self.sync.news()
        return None

    async def _carry_out(self, run: Run) -> None:
        with acting_as(run.actor, run.impersonator):
            await self._carry_out_as_asked(run)

    async def _carry_out_as_asked(self, run: Run) -> None:
        actor, id = run.actor, run.id
        if run.kind == "check":
            await self.sync.check(actor=actor, run_id=id)
        elif run.kind == "plan":
            await self.sync.plan(actor=actor, allow_gone=run.wish.get("allow_gone"), run_id=id)
        elif run.kind == "apply":
            await self.sync.apply(run.plan_id or "", actor=actor, chosen=run.wish.get("chosen"), run_id=id)
        elif run.kind == "first":
            await self.sync.first(actor=actor, run_id=id)
        else:
            await self.sync.changed(actor=actor, run_id=id)

    async def _end(self, id: str, state: RunState, reason: str, code: str) -> bool:
        is_ended = await self.db.write(store.end_asked, id, state, now=self.clock(), reason=reason, code=code)
        self.sync.news()
        return is_ended

    def _ask(self, conn: Conn, run: Run) -> None:
        store.ask(conn, run)
        entry = Entry(actor=run.actor, action=f"sync.{run.kind}", target=run.plan_id or run.id, cause=run.id)
        record(conn, [entry], now=run.started_at)


def _came(run: Run) -> int:
    """How far a first sync is: rows that were read and kept, and windows that are done."""
    return sum(it.fetched + it.is_done for places in places_of(run.progress).values() for it in places)
