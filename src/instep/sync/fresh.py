"""Freshness: when the webhook has gone quiet while Clerk went on; its newest event against Clerk's own changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from instep.identity.events import Seen
from instep.kit.clock import HOUR, MINUTE, Clock
from instep.kit.db import Conn, Db
from instep.mirror import snapshot
from instep.sync import plan
from instep.sync.plan import Policy
from instep.sync.ports import Everything

GRACE = 5 * MINUTE


class Freshness(Struct, frozen=True):
    """How things stood at `looked_at`. `behind`: people whom Clerk changed and who are not so here, for too long.

    `newest_event_at` is when the newest delivery came that was applied; None: none ever came.
    """

    looked_at: int
    newest_event_at: int | None
    behind: int

    @property
    def is_quiet(self) -> bool:
        """Whether someone should look at the webhook."""
        return self.behind > 0

    @property
    def words(self) -> str | None:
        """What to tell an admin; None while all is well."""
        if not self.is_quiet:
            return None
        people = "1 person" if self.behind == 1 else f"{self.behind} people"
        if self.newest_event_at is None:
            return f"No webhook ever came, and Clerk has {people} who are not so here."
        return f"No webhook for {_span(self.looked_at - self.newest_event_at)} while Clerk changed {people}."


@dataclass
class Fresh:
    """Looks every now and then, and remembers the last answer for pages and metrics."""

    db: Db
    source: Everything
    clock: Clock
    newest_event: Callable[[Conn], int | None]
    policy: Policy = field(default_factory=Policy)
    last: Freshness | None = None

    async def look(self) -> Freshness:
        """Ask Clerk for its last changes, and the mirror whether it has them. Raises ProviderDown, ProviderRefused."""
        changed = await self.source.list_changed(offset=0)
        now = self.clock()
        due = [it for it in changed if it.version < now - GRACE]
        behind = await self.db.read(self._count_behind, due)
        self.last = Freshness(now, await self.db.read(self.newest_event), behind)
        return self.last

    def _count_behind(self, conn: Conn, news: Sequence[Seen]) -> int:
        ours = {it.clerk_id: it for it in snapshot.find_ours(conn, "user", [it.key.id for it in news])}
        count = 0
        for it in news:
            our = ours.get(it.key.id)
            is_newer = our is None or (not our.is_gone and it.version > our.version)
            count += is_newer and (our is None or plan.differing(it, our, self.policy) is not None)
        return count


def _span(milliseconds: int) -> str:
    if milliseconds < HOUR:
        return f"{milliseconds // MINUTE} min"
    hours = milliseconds // HOUR
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"
