"""Freshness: when the webhook has gone quiet while Clerk went on; its newest event against Clerk's own changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from instep.identity.events import Seen
from instep.kit.clock import Clock, monotonic
from instep.kit.db import Conn, Db
from instep.mirror import snapshot
from instep.sync import plan, store
from instep.sync.model import GRACE, Freshness
from instep.sync.plan import Policy
from instep.sync.ports import Everything


def _none(_: Conn) -> None:
    return None


@dataclass
class Fresh:
    """Looks every now and then, and remembers the last answer: here for metrics, in the database for pages.

    `first_event` is when the oldest delivery came that is kept; `news` is told when the answer is another one than
    before.
    """

    db: Db
    source: Everything
    clock: Clock
    newest_event: Callable[[Conn], int | None]
    first_event: Callable[[Conn], int | None] = _none
    policy: Policy = field(default_factory=Policy)
    news: Callable[[], None] = lambda: None
    last: Freshness | None = None
    _ahead: dict[str, int] = field(default_factory=dict)

    async def look(self) -> Freshness:
        """Ask Clerk for its last changes, and the mirror whether it has them. Raises ProviderDown, ProviderRefused."""
        changed = await self.source.list_changed(offset=0)
        now = self.clock()
        due = [it for it in changed if it.version < now - GRACE or self._is_long_ahead(it, now)]
        before, found = await self.db.read(self._look_here, due, now)
        self.last = found
        await self.db.write(store.keep_freshness, found)
        if before is None or (before.behind, before.is_synced) != (found.behind, found.is_synced):
            self.news()
        return found

    def _is_long_ahead(self, seen: Seen, now: int) -> bool:
        """Return whether a change ahead of our clock was seen a while ago: a clock that went back hides nothing."""
        if seen.version <= now:
            self._ahead.pop(seen.key.id, None)
            return False
        return monotonic() - self._ahead.setdefault(seen.key.id, monotonic()) >= GRACE

    def _look_here(self, conn: Conn, due: Sequence[Seen], now: int) -> tuple[Freshness | None, Freshness]:
        behind = self._find_behind(conn, due)
        first = self.first_event(conn)
        is_older = any(first is None or it.version < first for it in behind)
        is_synced = not is_older or store.is_synced(conn)
        return store.find_freshness(conn), Freshness(now, self.newest_event(conn), len(behind), is_synced)

    def _find_behind(self, conn: Conn, news: Sequence[Seen]) -> list[Seen]:
        ours = {it.clerk_id: it for it in snapshot.find_ours(conn, "user", [it.key.id for it in news])}
        behind = []
        for it in news:
            our = ours.get(it.key.id)
            is_newer = our is None or (it.version > our.version and not our.is_gone) or our.absent_at is not None
            if is_newer and (our is None or plan.differing(it, our, self.policy) is not None):
                behind.append(it)
        return behind
