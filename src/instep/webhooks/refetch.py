"""Read from Clerk what a delivery or a sign-in leaves open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from instep.audit.entries import build_change_entry, build_joined_entries, build_superseded_entries
from instep.audit.repository import record_entries
from instep.core.clock import SECOND, Clock
from instep.core.db import Conn, Database
from instep.domain.events import Absence, LookupResult, Tombstone, UnreadableEntity
from instep.domain.models import ClerkId, EntityKey
from instep.domain.ports import ClerkReader
from instep.domain.reconcile import Change, NeedsRefetch, RefetchResult, match_refetch_results
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.repository import find_known_states
from instep.mirror.unit_of_work import open_unit_of_work


@dataclass(frozen=True)
class SignedInUserFetcher:
    """Brings one person in. `told` hears which organizations changed."""

    db: Database
    directory: ClerkReader
    told: Callable[[set[str]], None]
    clock: Clock

    async def __call__(self, clerk_user_id: str) -> None:
        """Read the person and their memberships in Clerk, and take them in by the law. Raises ClerkUnavailableError."""
        key = EntityKey("user", ClerkId(clerk_user_id))
        known = await self.db.read(find_known_states, [key], is_locking=False)
        asks = [NeedsRefetch(key, None, known.get(key))]
        answers = match_refetch_results(asks, await self.directory.fetch(asks))
        memberships = await self.directory.list_user_memberships(key.id)
        self.told(await self.db.write(self._take, [*answers.values(), *(RefetchResult(it) for it in memberships)]))

    def _take(self, conn: Conn, answers: Sequence[RefetchResult]) -> set[str]:
        now = self.clock()
        ledger = open_unit_of_work(conn, [it.state for it in answers])
        changes = [it for answer in answers if isinstance(it := ledger.reconcile_refetched(answer), Change)]
        touched = apply_unit_of_work(conn, ledger, now=now)
        entries = [build_change_entry(it, ledger, actor="clerk", cause="sign-in", action="seen") for it in changes]
        record_entries(
            conn,
            [*entries, *build_superseded_entries(ledger), *build_joined_entries(ledger.local_memberships)],
            now=now,
        )
        return touched


ABSENCE_CONFIRMATION_DELAY = 30 * SECOND


"""An absence is believed at a second look, this long after the first at the earliest: Clerk's lists may lag behind."""


RefetchRequests = Mapping[str, Sequence[NeedsRefetch]]


@dataclass
class RefetchState:
    """The questions of some deliveries, round by round. `since`: what Clerk did not show before, and since when;
    a time of the future is from before a clock went back, and counts as the present.
    """

    since: Mapping[str, int] = field(default_factory=dict)
    answers: dict[EntityKey, RefetchResult] = field(default_factory=dict)
    _asked: dict[EntityKey, NeedsRefetch] = field(default_factory=dict)
    _doubts: dict[EntityKey, int] = field(default_factory=dict)
    _unreadable: dict[EntityKey, str] = field(default_factory=dict)

    def wanted(self, asks: RefetchRequests) -> list[NeedsRefetch]:
        """What must be asked now: each thing once, and again where the mirror knows something else of it meanwhile."""
        wanted = {ask.key: ask for them in asks.values() for ask in them if self._asked.get(ask.key) != ask}
        self._asked |= wanted
        return list(wanted.values())

    def take(self, found: Sequence[LookupResult], *, now: int) -> None:
        """What a reading found. `now` is in Unix milliseconds."""
        for it in found:
            key, known = it.key, self._asked[it.key].known
            self._doubts.pop(key, None)
            if isinstance(it, UnreadableEntity):
                self._unreadable[key] = it.reason
            elif not isinstance(it, Absence):
                self.answers[key] = RefetchResult(it, known)
            elif (since := min(self.since.get(format_entity_key(key), now), now)) <= now - ABSENCE_CONFIRMATION_DELAY:
                self.answers[key] = RefetchResult(Tombstone(key, it.entity, absent_at=now), known)
            else:
                self._doubts[key] = since

    def unreadable(self, asks: Sequence[NeedsRefetch]) -> str | None:
        """Why one of these can't be read; None where each can."""
        return next((self._unreadable[ask.key] for ask in asks if ask.key in self._unreadable), None)

    def missing(self, asks: Sequence[NeedsRefetch]) -> dict[str, int]:
        """Which of these Clerk did not show, and since when."""
        return {format_entity_key(ask.key): self._doubts[ask.key] for ask in asks if ask.key in self._doubts}


def format_entity_key(key: EntityKey) -> str:
    """What a key is called in a delivery's row."""
    return f"{key.kind} {key.id}"
