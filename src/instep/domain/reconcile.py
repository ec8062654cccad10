"""Decide whether the mirror or an incoming state wins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from instep.domain.events import EntityState, LookupResult, Observation, Tombstone
from instep.domain.models import ClerkUser, Entity, EntityKey

OLDER_REASON = "older"


class MirroredState(Struct, frozen=True):
    """The state of an entity in the mirror: its row id, Clerk's version, its digest, and whether it is deleted.

    `absent_at`: deleted only because reads did not find it; see Tombstone. `is_banned` and `is_deprovisioned` are those
    of a user.
    """

    id: str
    version: int
    digest: str
    is_deleted: bool
    absent_at: int | None = None
    is_banned: bool = False
    is_deprovisioned: bool = False


class Change(Struct, frozen=True):
    """A state to write. `known` is the previous one, None for a new entity."""

    state: EntityState
    known: MirroredState | None

    @property
    def is_deletion(self) -> bool:
        """Return whether the entity is deleted."""
        return isinstance(self.state, Tombstone)

    @property
    def is_deletion_confirmed(self) -> bool:
        """Return whether Clerk reports a deletion that was assumed because reads did not find the entity."""
        return self.is_deletion and self.known is not None and self.known.is_deleted

    @property
    def is_revival(self) -> bool:
        """Return whether an entity exists that was assumed to be deleted because reads did not find it."""
        return not self.is_deletion and self.known is not None and self.known.is_deleted


class Ignored(Struct, frozen=True):
    """Nothing to write. `reason`: "older", "same" or "gone"."""

    reason: str


class NeedsRefetch(Struct, frozen=True):
    """A state that cannot be decided locally: fetch `key` from Clerk and reconcile again.

    `entity` is the undecided state, if there is one: Clerk finds a membership only by its organization and user.
    `known` is the mirrored state at the time of the request.
    """

    key: EntityKey
    entity: Entity | None = None
    known: MirroredState | None = None


class RefetchResult(Struct, frozen=True):
    """A state read from Clerk, and the mirrored state before the read."""

    state: EntityState
    known: MirroredState | None = None


ReconcileDecision = Change | Ignored | NeedsRefetch


def reconcile(
    known: MirroredState | None, incoming: EntityState, *, is_read: bool = False, expected: MirroredState | None = None
) -> ReconcileDecision:
    """Decide which side wins: the mirror or an incoming state.

    A deletion wins over any state; else the greater version wins; an equal version with equal content is ignored; an
    equal version with other content is fetched again, unless `is_read`: the state was just read from Clerk.

    An absence, which Clerk does not confirm, applies only to the `expected` state that was known before the read, and
    so does the read that reverts it: that read does not know of later changes. No clock takes part: neither ours nor
    the time of sending.
    """
    if known is not None and known.is_deleted:
        return _reconcile_deleted(known, incoming, is_read and expected == known)
    if isinstance(incoming, Tombstone) and incoming.absent_at is not None and expected != known:
        return NeedsRefetch(incoming.key, incoming.entity, known)
    if isinstance(incoming, Tombstone) or known is None or incoming.version > known.version:
        return Change(incoming, known)
    if incoming.version < known.version:
        return Ignored(OLDER_REASON)
    if incoming.digest == known.digest:
        return Ignored("same")
    return Change(incoming, known) if is_read else NeedsRefetch(incoming.key, incoming.entity, known)


def _reconcile_deleted(known: MirroredState, incoming: EntityState, is_proof: bool) -> ReconcileDecision:
    """Reconcile a state with a deleted entity.

    A deletion that Clerk reported is final. An assumed one is confirmed by Clerk, or reverted by a read that proves the
    opposite.
    """
    if known.absent_at is None:
        return Ignored("gone")
    if isinstance(incoming, Tombstone):
        return Ignored("gone") if incoming.absent_at is not None else Change(incoming, known)
    if incoming.version < known.version:
        return Ignored(OLDER_REASON)
    return Change(incoming, known) if is_proof else NeedsRefetch(incoming.key, incoming.entity, known)


def compute_mirrored_state(change: Change, row_id: str) -> MirroredState:
    """Return the mirrored state after `change` is written to the row `row_id`."""
    state, before = change.state, change.known
    if isinstance(state, Observation):
        user = state.entity
        restrictions = (user.is_banned, user.is_deprovisioned) if isinstance(user, ClerkUser) else ()
        return MirroredState(row_id, state.version, state.digest, False, None, *restrictions)
    if before is None:
        return MirroredState(row_id, 0, "", is_deleted=True, absent_at=state.absent_at)
    return replace(before, id=row_id, is_deleted=True, absent_at=state.absent_at)


def match_refetch_results(
    requests: Iterable[NeedsRefetch], results: Sequence[LookupResult]
) -> dict[EntityKey, RefetchResult]:
    """Match read states with the requests for them.

    Entities that were not found are left out: one read proves no absence.
    """
    known = {request.key: request.known for request in requests}
    return {
        result.key: RefetchResult(result, known.get(result.key))
        for result in results
        if isinstance(result, Observation)
    }


def merge_metadata(current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `patch` into metadata as Clerk does: deeply, and None removes a key (RFC 7396)."""
    result = dict(current)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            nested = result.get(name)
            result[name] = merge_metadata(nested if isinstance(nested, Mapping) else {}, value)
        else:
            result[name] = value
    return result
