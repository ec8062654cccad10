"""Decide whether the mirror or an incoming state wins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from instep.domain.events import EntityState, LookupResult, Observation, Tombstone
from instep.domain.models import ClerkUser, Entity, EntityKey

OLDER_REASON = "older"


class MirroredState(Struct, frozen=True):
    """What the mirror holds of one thing: our id, Clerk's version, its digest, and whether it is dead.

    `absent_at`: it is called dead only because readings did not find it; see Gone. `is_banned` and
    `is_deprovisioned` are a person's.
    """

    id: str
    version: int
    digest: str
    is_gone: bool
    absent_at: int | None = None
    is_banned: bool = False
    is_deprovisioned: bool = False


class Change(Struct, frozen=True):
    """Write this. `known` is what was there before, None for something new."""

    news: EntityState
    known: MirroredState | None

    @property
    def is_gone(self) -> bool:
        """Whether this is a deletion."""
        return isinstance(self.news, Tombstone)

    @property
    def is_deletion_confirmed(self) -> bool:
        """Whether Clerk's word of a deletion comes after readings that had not found the thing."""
        return self.is_gone and self.known is not None and self.known.is_gone

    @property
    def is_back(self) -> bool:
        """Whether a thing lives that was called dead because readings had not found it."""
        return not self.is_gone and self.known is not None and self.known.is_gone


class Ignored(Struct, frozen=True):
    """Nothing to write, and why: "older", "same" or "gone"."""

    reason: str


class NeedsRefetch(Struct, frozen=True):
    """Not decidable from what is here: read `key` in Clerk and decide again.

    `entity` is what the undecided news says, where there is one: Clerk finds a membership only by its
    organization and user. `known` is what the mirror held when this was asked.
    """

    key: EntityKey
    entity: Entity | None = None
    known: MirroredState | None = None


class RefetchResult(Struct, frozen=True):
    """What a reading found, and what the mirror held before it was made."""

    news: EntityState
    known: MirroredState | None = None


ReconcileDecision = Change | Ignored | NeedsRefetch


def reconcile(
    known: MirroredState | None, news: EntityState, *, is_read: bool = False, asked: MirroredState | None = None
) -> ReconcileDecision:
    """Which side wins, the mirror or the news.

    Dead beats live; else the greater version wins; an equal version with equal content is nothing new; an equal
    version with other content is asked again, unless `is_read` says that the news was just read from Clerk.
    An absence, which is no word of Clerk's, counts only for the very state that was `asked` about, and so does the
    reading that takes it back: whatever came meanwhile was not known to that reading.
    No clock takes part: neither ours nor the time of sending.
    """
    if known is not None and known.is_gone:
        return _reconcile_deleted(known, news, is_read and asked == known)
    if isinstance(news, Tombstone) and news.absent_at is not None and asked != known:
        return NeedsRefetch(news.key, news.entity, known)
    if isinstance(news, Tombstone) or known is None or news.version > known.version:
        return Change(news, known)
    if news.version < known.version:
        return Ignored(OLDER_REASON)
    if news.digest == known.digest:
        return Ignored("same")
    return Change(news, known) if is_read else NeedsRefetch(news.key, news.entity, known)


def _reconcile_deleted(known: MirroredState, news: EntityState, is_proof: bool) -> ReconcileDecision:
    """News of the dead: nothing where Clerk said so; a mere absence is confirmed by Clerk, or taken back by a proof."""
    if known.absent_at is None:
        return Ignored("gone")
    if isinstance(news, Tombstone):
        return Ignored("gone") if news.absent_at is not None else Change(news, known)
    if news.version < known.version:
        return Ignored(OLDER_REASON)
    return Change(news, known) if is_proof else NeedsRefetch(news.key, news.entity, known)


def compute_mirrored_state(change: Change, id: str) -> MirroredState:
    """What the mirror knows once `change` is written under our `id`."""
    news, before = change.news, change.known
    if isinstance(news, Observation):
        bars = (news.entity.is_banned, news.entity.is_deprovisioned) if isinstance(news.entity, ClerkUser) else ()
        return MirroredState(id, news.version, news.digest, False, None, *bars)
    if before is None:
        return MirroredState(id, 0, "", is_gone=True, absent_at=news.absent_at)
    return replace(before, id=id, is_gone=True, absent_at=news.absent_at)


def match_refetch_results(
    asks: Iterable[NeedsRefetch], found: Sequence[LookupResult]
) -> dict[EntityKey, RefetchResult]:
    """What a reading found of what was asked for; whatever it did not find is left out: one look proves no absence."""
    known = {ask.key: ask.known for ask in asks}
    return {it.key: RefetchResult(it, known.get(it.key)) for it in found if isinstance(it, Observation)}


def merge_metadata(kept: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`kept` with `patch` merged in, deeply, as Clerk merges metadata: a None takes a key away (RFC 7396)."""
    result = dict(kept)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            before = result.get(name)
            result[name] = merge_metadata(before if isinstance(before, Mapping) else {}, value)
        else:
            result[name] = value
    return result
