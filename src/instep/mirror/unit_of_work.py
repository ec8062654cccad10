"""Unit of work: the observations and changes of one transaction, each reconciled against the mirror."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from instep.core.db import Conn
from instep.core.ids import new_id
from instep.domain.emails import canonicalize_email
from instep.domain.events import (
    OPTIONAL_FIELDS,
    EntityState,
    Observation,
    Tombstone,
    UserRestrictions,
    make_observation,
)
from instep.domain.models import ClerkMembership, ClerkUser, Entity, EntityKey
from instep.domain.reconcile import (
    OLDER_REASON,
    Change,
    Ignored,
    MirroredState,
    NeedsRefetch,
    ReconcileDecision,
    RefetchResult,
    compute_mirrored_state,
    reconcile,
)
from instep.mirror.repository import (
    MembershipRow,
    find_content,
    find_known_states,
    find_reserved_user_ids,
    find_unlinked_user_ids,
    lock_current_memberships,
)

MembershipPair = tuple[str, str]
_OWN_USER_ID_PATTERN = re.compile(r"usr_[0-9a-f]{26}")
_ID_PREFIXES = {"user": "usr", "organization": "ogn", "membership": "mbr"}


class PendingWrite(Struct, frozen=True):
    """One thing to write: the last news of it that won, our id of it, and what the mirror had of it before.

    `replaces`: the memberships that this one is instead of, with the id of a grave for each.
    """

    news: EntityState
    id: str
    before: MirroredState | None
    replaces: Mapping[str, str] = {}

    @property
    def is_new(self) -> bool:
        """Whether the mirror did not have it."""
        return self.before is None

    @property
    def was_deleted(self) -> bool:
        """Whether the mirror called it dead."""
        return self.before is not None and self.before.is_deleted


class LocalMembership(Struct, frozen=True, kw_only=True):
    """A membership of a local organization that was made for someone who signed up by an invitation to it."""

    membership_id: str
    organization_id: str
    user_id: str
    role: str


class UnitOfWork:
    """Decides news against the mirror and against what was taken before in the same transaction.

    Clerk has one membership of a person in an organization at a time: one that is newer ends the older, whichever
    comes first. `superseded` are those that ended so. `joined` is what followed from the news, once they are written;
    `statuses` are then the statuses of the memberships that were written (our ids).
    """

    def __init__(
        self,
        known: dict[EntityKey, MirroredState],
        unlinked: dict[str, str],
        standing: dict[MembershipPair, list[MembershipRow]],
        ours: dict[str, bool],
        content: Mapping[EntityKey, Mapping[str, object]],
    ) -> None:
        self.known = known
        self.before = {it.clerk_id: it for them in standing.values() for it in them}
        self.superseded: list[Change] = []
        self.statuses: dict[str, str] = {}
        self._unlinked = unlinked
        self._standing = standing
        self._ours = ours
        self._content = content
        self._graves: dict[str, dict[str, str]] = {}
        self._before: dict[EntityKey, MirroredState | None] = {}
        self._last: dict[EntityKey, EntityState] = {}
        self.joined: list[LocalMembership] = []

    def answer(self, answer: RefetchResult) -> ReconcileDecision:
        """Decide what a reading found."""
        return self.take(answer.state, is_read=True, asked=answer.known)

    def take(
        self, news: EntityState, *, is_read: bool = False, asked: MirroredState | None = None
    ) -> ReconcileDecision:
        """Decide one piece of news; a membership whose parent is not here yet asks for the parent first."""
        known = self.known.get(news.key) or self._local(news)
        if isinstance(news, Observation) and news.absent:
            whole = self._fill_missing_fields(news, known, is_read)
            if not isinstance(whole, Observation):
                return whole
            news = whole
        if isinstance(news.entity, ClerkMembership) and known is None:
            for parent in get_parent_keys(news.entity):
                if parent not in self.known:
                    return NeedsRefetch(parent)
            known = self._move(news)
        if isinstance(news, Observation) and isinstance(news.entity, ClerkMembership):
            is_living = known is None or not known.is_deleted
            if is_living and self._has_newer(news, news.entity):
                news = Tombstone(news.key, news.entity)
        standing = known
        if known is not None and known.absent_at is not None and self._has_dead_parent(news):
            # What is said of it counts for the day on which it lives again, with its parent and not before.
            standing = replace(known, is_gone=False, absent_at=None)
        verdict = reconcile(standing, news, is_read=is_read, expected=asked)
        if isinstance(verdict, Change):
            self._before.setdefault(news.key, known)
            self.known[news.key] = compute_mirrored_state(verdict, known.id if known else self._new_id(news))
            self._last[news.key] = news
            if isinstance(news, Observation) and isinstance(news.entity, ClerkMembership):
                self._supersede_older(news, news.entity)
        return verdict

    def check_block_status(self, said: UserRestrictions) -> NeedsRefetch | None:
        """Return what to ask where a membership says of its person what the mirror does not know."""
        known = self.known.get(said.key)
        if known is None or known.is_deleted:
            return None
        is_same = said.is_banned in (None, known.is_banned) and said.is_deprovisioned in (None, known.is_deprovisioned)
        return None if is_same else NeedsRefetch(said.key, None, known)

    def _fill_missing_fields(
        self, news: Observation, known: MirroredState | None, is_read: bool
    ) -> Observation | NeedsRefetch | Ignored:
        """Put what the mirror holds in the place of what Clerk did not send; a thing that came within another one
        decides nothing about a known one that it does not say whole.

        A reading leaves out no field but one that says nothing (OPTIONAL). A webhook may; it lets nobody in whom
        Clerk barred, and Clerk is asked.
        """
        if known is None or (known.is_deleted and not is_read):
            return replace(news, absent=frozenset())
        absent = news.absent - OPTIONAL_FIELDS if is_read or not known.is_deprovisioned else news.absent
        if not absent:
            return replace(news, absent=frozenset())
        is_newer = news.version > known.version and not is_read
        if news.is_embedded:
            return NeedsRefetch(news.key, news.entity, known) if is_newer else Ignored(OLDER_REASON)
        if is_newer and absent & OPTIONAL_FIELDS:
            return NeedsRefetch(news.key, news.entity, known)
        return make_observation(_replace_fields(news.entity, absent, self._content.get(news.key, {})), news.version)

    def _has_newer(self, news: Observation, entity: ClerkMembership) -> bool:
        """Return whether a newer membership of the same person in the same organization has not ended."""
        others = (it for it in self._standing.get(_get_membership_pair(entity), ()) if it.clerk_id != news.key.id)
        return any(_get_row_age(it) > _get_observation_age(news, entity) for it in others if not it.is_kept)

    def _supersede_older(self, news: Observation, entity: ClerkMembership) -> None:
        """Note this membership as the one of its pair, and end those that are older."""
        pair, own = _get_membership_pair(entity), self.known[news.key]
        for it in self._standing.get(pair, ()):
            if it.clerk_id == news.key.id or it.is_kept:
                continue
            key = EntityKey("membership", it.clerk_id)
            known = self.known.get(key) or MirroredState(it.id, it.version, it.digest, is_deleted=False)
            if known.is_deleted and known.absent_at is None:
                continue  # its own deletion is in this transaction too
            change = Change(Tombstone(key, replace(entity, clerk_id=it.clerk_id, role=it.role)), known)
            self._before.setdefault(key, known if it.clerk_id in self.before else None)
            self.known[key], self._last[key] = compute_mirrored_state(change, known.id), change.state
            self.superseded.append(change)
        organization, user = (self.known[it].id for it in reversed(get_parent_keys(entity)))
        mine = self.before.get(news.key.id)
        present = MembershipRow(
            id=own.id,
            clerk_id=news.key.id,
            organization_id=organization,
            user_id=user,
            role=entity.role,
            status=mine.status if mine else "active",
            joined_at=_get_observation_age(news, entity)[0],
            version=news.version,
            digest=news.digest,
            is_kept=mine.is_kept if mine else False,
        )
        self._standing[pair] = [present]

    def last_observation_of(self, key: EntityKey) -> EntityState | None:
        """Return the last news of a thing that won in this transaction."""
        return self._last.get(key)

    def about(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """Return our id of the organization that a change belongs to, and how the thing was and is.

        To be asked once the changes are written.
        """
        news, known = change.state, self.known.get(change.state.key)
        if news.key.kind == "organization":
            return (known.id if known else None), {}
        if news.key.kind == "user":
            was, now = _get_block_status(change.known), _get_block_status(compute_mirrored_state(change, ""))
            is_told = change.known is not None and was != now and not change.is_deletion
            return None, {"before": {"status": was}, "after": {"status": now}} if is_told else {}
        before, entity = self.before.get(news.key.id), news.entity
        organization, user = (before.organization_id, before.user_id) if before else (None, None)
        if isinstance(entity, ClerkMembership):
            user, organization = (self.known[it].id if it in self.known else None for it in get_parent_keys(entity))
        role = entity.role if isinstance(entity, ClerkMembership) else before.role if before else None
        if change.is_deletion:
            status = before.status if before and before.is_kept else "removed"
        else:
            status = before.status if before else self.statuses.get(known.id if known else "", "active")
        was_so = {"role": before.role, "status": before.status} if before else None
        return organization, {"user": user, "before": was_so, "after": {"role": role, "status": status}}

    def entries(self) -> list[PendingWrite]:
        """Everything that must be written."""
        graves = self._graves
        return [
            PendingWrite(news, id := self.known[key].id, self._before[key], graves.get(id, {}))
            for key, news in self._last.items()
        ]

    def _has_dead_parent(self, news: EntityState) -> bool:
        if not isinstance(news, Observation) or not isinstance(news.entity, ClerkMembership):
            return False
        return any(it in self.known and self.known[it].is_deleted for it in get_parent_keys(news.entity))

    def _move(self, news: EntityState) -> MirroredState | None:
        """Someone who is deactivated, and whom Clerk removed for that, is a member there again: it is the same row.

        Not for a membership that ended before the one which the row stands for now: that one is dead already.
        """
        if not isinstance(news, Observation) or not isinstance(news.entity, ClerkMembership):
            return None
        pair = _get_membership_pair(news.entity)
        kept = next((it for it in self._standing.get(pair, ()) if it.is_kept), None)
        if kept is None:
            return None
        if kept.clerk_id != news.key.id:
            grave = MirroredState(new_id("mbr"), 0, "", is_deleted=True)
            if 0 < news.entity.joined_at < kept.version:  # 0: not known
                return grave
            old = EntityKey("membership", kept.clerk_id)
            self.known[old] = grave
            self._last.pop(old, None)
            self._graves.setdefault(kept.id, {})[kept.clerk_id] = grave.id
            moved = replace(kept, clerk_id=news.key.id, version=news.version)
            self._standing[pair] = [moved if it is kept else it for it in self._standing[pair]]
            self.before[news.key.id] = moved
        return MirroredState(kept.id, 0, "", is_deleted=False)

    def _local(self, news: EntityState) -> MirroredState | None:
        """A person we knew before Clerk did, who has no Clerk account yet: our id, or the same verified address."""
        if (own := _get_own_id(news)) and self._ours.get(own):
            self._ours[own] = False
            return MirroredState(own, 0, "", is_deleted=False)
        email = _get_linking_email(news)
        id = self._unlinked.pop(canonicalize_email(email), None) if email else None
        return MirroredState(id, 0, "", is_deleted=False) if id else None

    def _new_id(self, news: EntityState) -> str:
        """The id that we gave a person before Clerk made them, if nobody has it; else a new one."""
        own = _get_own_id(news)
        if own is None or own in self._ours:
            return new_id(_ID_PREFIXES[news.key.kind])
        self._ours[own] = False
        return own


def open_unit_of_work(conn: Conn, news: Sequence[EntityState]) -> UnitOfWork:
    """A ledger that knows everything these news are about; their rows stay ours until the transaction ends."""
    known = find_known_states(conn, collect_keys(news))
    new = [it for it in news if it.key not in known]
    unlinked = find_unlinked_user_ids(conn, [email for it in new if (email := _get_linking_email(it))])
    ours = find_reserved_user_ids(conn, [own for it in new if (own := _get_own_id(it))])
    pairs = [_get_membership_pair(it.entity) for it in news if isinstance(it.entity, ClerkMembership)]
    bare = [it.key.id for it in news if it.key.kind == "membership" and it.entity is None]
    standing = lock_current_memberships(conn, pairs, bare)
    partial = [it for it in news if isinstance(it, Observation) and it.absent and it.key in known]
    lost = [it.key for it in partial if not it.absent <= OPTIONAL_FIELDS or known[it.key].is_deprovisioned]
    return UnitOfWork(known, unlinked, standing, ours, find_content(conn, lost))


def collect_keys(news: Iterable[EntityState]) -> set[EntityKey]:
    """Everything that must be looked up before these news can be decided: the things and their parents."""
    keys: set[EntityKey] = set()
    for item in news:
        keys.add(item.key)
        if isinstance(item.entity, ClerkMembership):
            keys.update(get_parent_keys(item.entity))
    return keys


def get_parent_keys(membership: ClerkMembership) -> tuple[EntityKey, EntityKey]:
    """The user and the organization of a membership."""
    return EntityKey("user", membership.user), EntityKey("organization", membership.organization)


def _get_block_status(known: MirroredState | None) -> str:
    """Return the state of a person by which Clerk bars them."""
    if known is None:
        return "active"
    return "banned" if known.is_banned else "deprovisioned" if known.is_deprovisioned else "active"


def _replace_fields(entity: Entity, absent: Iterable[str], held: Mapping[str, object]) -> Entity:
    """Return the entity with these fields as they are held."""
    values = {name: held[name] for name in absent if name in held}
    if "public_metadata" in values:
        values["public_metadata"] = msgspec.Raw(msgspec.json.encode(values["public_metadata"]))
    return replace(entity, **values)


def _get_row_age(standing: MembershipRow) -> tuple[int, int, str]:
    return standing.joined_at, standing.version, standing.clerk_id


def _get_observation_age(news: Observation, entity: ClerkMembership) -> tuple[int, int, str]:
    """Return what tells which of two memberships is the newer: when it was made, as far as Clerk says that."""
    return entity.joined_at or news.version, news.version, news.key.id


def _get_membership_pair(membership: ClerkMembership) -> MembershipPair:
    return membership.organization, membership.user


def _get_linking_email(news: EntityState) -> str | None:
    if isinstance(news, Observation) and isinstance(news.entity, ClerkUser) and news.entity.is_email_verified:
        return news.entity.email
    return None


def _get_own_id(news: EntityState) -> str | None:
    """The external id, where it is one that we gave; only our own server can set it in Clerk."""
    if (
        isinstance(news, Observation)
        and isinstance(news.entity, ClerkUser)
        and _OWN_USER_ID_PATTERN.fullmatch(news.entity.external_id or "")
    ):
        return news.entity.external_id
    return None
