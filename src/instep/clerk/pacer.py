"""Permits to call Clerk: taken a few at a time from the row that all replicas share, the most urgent caller first.

An edit takes some ahead, for the calls that follow it; those that nobody came for go back with the next question.
"""

import asyncio
import heapq
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import structlog

from instep.clerk.store import close_pace, make_table, reserve_permits
from instep.identity.ports import ProviderDown
from instep.kit.clock import SECOND
from instep.kit.db import DatabaseDown, Db
from instep.kit.errors import InstepError, described
from instep.kit.pace import LASTS, Granted, Limit, Spent, Urgency, close, reserve
from instep.kit.waits import limit_waits

log = structlog.get_logger(__name__)
AT_ONCE = 16
AHEAD = 4
LONGEST = 1.0
PATIENCE = 5.0
SHARED_WAIT = 3.0  # seconds that a permit waits for the shared row
SHARED_PAUSE = 5.0  # seconds for which it is not asked for after it could not be had
SHARES = 10  # a process alone takes this part of the limit: ten replicas stay under it together
MOST_LATE = 8  # times in a row that permits came too late to be used
TOO_SLOW = "the database is too slow, every permit came too late."
LIMITED = "Clerk is limiting us. We will try again in {wait:.0f} s; nothing is lost."


class Alone:
    """The pace of this process while the shared row can't be written: a share of the limit that harms nobody.

    Nothing is granted in the first window: what all replicas were granted before may still be under way. Times are
    seconds of the event loop's clock, which never goes back.
    """

    def __init__(self, limit: Limit, now: float) -> None:
        self.shared_after = now
        self._limit = Limit(max(1, limit.most // SHARES), limit.window)
        self._begins = now + limit.cycle / SECOND
        self._spent = Spent()

    def reserve(self, urgency: Urgency, want: int, now: float) -> Granted:
        """Return up to `want` permits. Raises DatabaseDown within the first window."""
        if now < self._begins:
            raise DatabaseDown(retry_after=self._begins - now)
        self._spent, granted = reserve(self._spent, self._limit, urgency, want, int(now * SECOND))
        return granted

    def close(self, seconds: float, now: float) -> None:
        """Grant nothing for so long: Clerk said so."""
        self._spent = close(self._spent, int(seconds * SECOND), int(now * SECOND))


@dataclass
class Pacer:
    """The permits of one process. `db` is its own, so that a permit waits for no other transaction.

    `waited` hears how many seconds a call waited, `limited` that Clerk turned one away; `asked` counts the questions
    to the shared row.
    """

    db: Db
    limit: Limit
    waited: Callable[[float], None] = lambda _: None
    limited: Callable[[], None] = lambda: None
    asked: int = 0
    _hand: int = 0
    _hand_slot: int = 0
    _hand_for: Urgency = Urgency.EDIT
    _good_until: float = 0.0
    _late: int = 0
    _queue: "list[tuple[Urgency, int, asyncio.Future[None]]]" = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)
    _fetching: "asyncio.Task[None] | None" = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _is_ready: bool = False
    _alone: "Alone | None" = None

    async def take(self, urgency: Urgency) -> None:
        """Wait for a permit. Raises ProviderDown where all is closed for long, and nobody ought to wait for that."""
        loop = asyncio.get_running_loop()
        if self._hand and urgency <= self._hand_for and loop.time() < self._good_until:
            self._hand -= 1
            return
        began, place = loop.time(), loop.create_future()
        if self._queue and urgency < self._queue[0][0]:
            self._woken.set()
        heapq.heappush(self._queue, (urgency, next(self._numbers), place))
        if self._fetching is None or self._fetching.done():
            self._fetching = loop.create_task(self._fetch())
        await place
        self.waited(loop.time() - began)

    async def stop_all(self, seconds: float) -> None:
        """Clerk limits us: nobody asks anything for so long, whichever process it is."""
        self._hand = 0
        self.limited()
        try:
            await self._make_ready()
            await self.db.write(close_pace, int(seconds * SECOND))
        except InstepError as error:
            log.warning("pace_not_kept", error=described(error))
            if self._alone is not None:
                self._alone.close(seconds, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Let go of the database."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        self.db.close()

    async def _make_ready(self) -> None:
        if self.db.is_sqlite and not self._is_ready:
            await self.db.write(make_table)
        self._is_ready = True

    async def _fetch(self) -> None:
        """Serve whoever waits, until nobody does."""
        while self._queue:
            try:
                await self._serve()
            except Exception as error:  # whatever it is, nobody may wait for ever
                self._refuse(ProviderDown(f"The pace can't be kept: {error}", is_harmless=True))

    async def _serve(self) -> None:
        urgency = self._queue[0][0]
        waiting = sum(it[0] == urgency for it in self._queue)
        want = min(AT_ONCE, waiting + (AHEAD if urgency is Urgency.EDIT else 0))
        granted, began = await self._reserve(urgency, want)
        if granted.count:
            self._hand, self._hand_slot = granted.count, granted.slot
            self._hand_for, self._good_until = urgency, began + LASTS / SECOND
            self._note_late(is_late=asyncio.get_running_loop().time() >= self._good_until)
            self._hand_out()
            return
        self._refuse_late(granted)
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(granted.wait / SECOND, LONGEST) if self._queue else 0):
                await self._woken.wait()

    async def _reserve(self, urgency: Urgency, want: int) -> tuple[Granted, float]:
        """Permits from the shared row, and when they were asked for; from this process alone while it can't be had."""
        time = asyncio.get_running_loop().time
        began = time()
        unused = self._put_down(began)
        if self._alone is None or began >= self._alone.shared_after:
            self.asked += 1
            try:
                with limit_waits(SHARED_WAIT):
                    await self._make_ready()
                    granted = await self.db.write(reserve_permits, self.limit, urgency, want, unused)
            except DatabaseDown as error:
                log.warning("pace_not_shared", error=described(error))
                self._alone = self._alone or Alone(self.limit, time())
                self._alone.shared_after = time() + SHARED_PAUSE
            else:
                self._alone = None
                return granted, began
        began = time()
        return self._alone.reserve(urgency, want, began), began

    def _put_down(self, now: float) -> Granted:
        """Let go of what is in hand: it goes back, unless it counts no more, or by a clock that was put back since."""
        is_noted = now < self._good_until + self.limit.window / SECOND
        unused, self._hand = Granted(self._hand if is_noted else 0, slot=self._hand_slot), 0
        return unused

    def _note_late(self, *, is_late: bool) -> None:
        """Raises TimeoutError where it is always so: asking on would use up the permits of all, and serve nobody."""
        self._late = self._late + 1 if is_late else 0
        if self._late >= MOST_LATE:
            self._late = 0
            raise TimeoutError(TOO_SLOW)

    def _hand_out(self) -> None:
        """Permits are good for `LASTS` after they were asked for; those that came too late are lost."""
        while self._queue and self._hand and asyncio.get_running_loop().time() < self._good_until:
            if self._queue[0][0] > self._hand_for:
                return
            place = heapq.heappop(self._queue)[2]
            if not place.done():
                self._hand -= 1
                place.set_result(None)

    def _refuse_late(self, granted: Granted) -> None:
        wait = granted.wait / SECOND
        if granted.is_closed and wait > PATIENCE:
            silence = ProviderDown(LIMITED.format(wait=wait), retry_after=wait, is_harmless=True, status=429)
            self._refuse(silence, but=(Urgency.BACKFILL,))

    def _refuse(self, silence: ProviderDown, *, but: Collection[Urgency] = ()) -> None:
        """Tell those who wait that they wait in vain, `but` for those who can wait."""
        for urgency, _, place in self._queue:
            if urgency not in but and not place.done():
                place.set_exception(silence)
        self._queue = [it for it in self._queue if it[0] in but]
        heapq.heapify(self._queue)
