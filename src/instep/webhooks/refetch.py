"""Read the entities from Clerk that a delivery or a sign-in leaves undecided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from instep.audit.repository import build_change_entry, build_joined_entries, build_superseded_entries, record_entries
from instep.core.clock import SECOND, Clock
from instep.core.db import Conn, Database
from instep.domain.events import Absence, LookupResult, Tombstone, UnreadableEntity
from instep.domain.models import ClerkId, EntityKey
from instep.domain.ports import ClerkReader
from instep.domain.reconcile import Change, NeedsRefetch, RefetchResult, match_refetch_results
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.repository import find_known_states
from instep.mirror.unit_of_work import open_unit_of_work

# An absence is confirmed by a second read, this long after the first at the earliest: Clerk's lists may lag behind.
ABSENCE_CONFIRMATION_DELAY = 30 * SECOND
RefetchRequests = Mapping[str, Sequence[NeedsRefetch]]


@dataclass(frozen=True)
class SignedInUserFetcher:
    """Mirror a user at sign-in, before their webhooks arrive. `on_change` receives the changed organizations' ids."""

    db: Database
    clerk: ClerkReader
    on_change: Callable[[set[str]], None]
    clock: Clock

    async def fetch(self, clerk_user_id: str) -> None:
        """Read a user and their memberships from Clerk, and reconcile them. Raises ClerkUnavailableError."""
        key = EntityKey("user", ClerkId(clerk_user_id))
        known = await self.db.read(find_known_states, [key], is_locking=False)
        requests = [NeedsRefetch(key, None, known.get(key))]
        results = match_refetch_results(requests, await self.clerk.fetch(requests))
        memberships = await self.clerk.list_user_memberships(key.id)
        fetched = [*results.values(), *(RefetchResult(state) for state in memberships)]
        self.on_change(await self.db.write(self._reconcile, fetched))

    def _reconcile(self, conn: Conn, results: Sequence[RefetchResult]) -> set[str]:
        now = self.clock()
        unit = open_unit_of_work(conn, [result.state for result in results])
        changes = [decision for result in results if isinstance(decision := unit.reconcile_refetched(result), Change)]
        touched = apply_unit_of_work(conn, unit, now=now)
        entries = [build_change_entry(each, unit, actor="clerk", cause="sign-in", action="seen") for each in changes]
        entries += [*build_superseded_entries(unit), *build_joined_entries(unit.local_memberships)]
        record_entries(conn, entries, now=now)
        return touched


@dataclass
class RefetchState:
    """Requests and results of a batch of deliveries over several rounds.

    `absent_since`: the entities that an earlier read did not find, and since when (Unix ms); a time in the future stems
    from before the clock was set back, and counts as now.
    """

    absent_since: Mapping[str, int] = field(default_factory=dict)
    results: dict[EntityKey, RefetchResult] = field(default_factory=dict)
    _requested: dict[EntityKey, NeedsRefetch] = field(default_factory=dict)
    _unconfirmed: dict[EntityKey, int] = field(default_factory=dict)
    _unreadable: dict[EntityKey, str] = field(default_factory=dict)

    def list_pending(self, requests: RefetchRequests) -> list[NeedsRefetch]:
        """Return the requests to send: one per entity, and again if its mirrored state has changed since."""
        pending = {
            request.key: request
            for group in requests.values()
            for request in group
            if self._requested.get(request.key) != request
        }
        self._requested |= pending
        return list(pending.values())

    def add_results(self, found: Sequence[LookupResult], *, now: int) -> None:
        """Add the results of a read. `now`: Unix ms."""
        for result in found:
            key, known = result.key, self._requested[result.key].known
            self._unconfirmed.pop(key, None)
            if isinstance(result, UnreadableEntity):
                self._unreadable[key] = result.reason
                continue
            if not isinstance(result, Absence):
                self.results[key] = RefetchResult(result, known)
                continue
            since = min(self.absent_since.get(format_entity_key(key), now), now)
            if since <= now - ABSENCE_CONFIRMATION_DELAY:
                self.results[key] = RefetchResult(Tombstone(key, result.entity, absent_at=now), known)
            else:
                self._unconfirmed[key] = since

    def find_unreadable_reason(self, requests: Sequence[NeedsRefetch]) -> str | None:
        """Return the reason of the first entity that cannot be parsed, None if there is none."""
        return next((self._unreadable[each.key] for each in requests if each.key in self._unreadable), None)

    def list_absent(self, requests: Sequence[NeedsRefetch]) -> dict[str, int]:
        """Return the requested entities with an unconfirmed absence, and since when."""
        return {
            format_entity_key(each.key): self._unconfirmed[each.key]
            for each in requests
            if each.key in self._unconfirmed
        }


def format_entity_key(key: EntityKey) -> str:
    """Return the text of a key in a delivery's `missing` column."""
    return f"{key.kind} {key.id}"
