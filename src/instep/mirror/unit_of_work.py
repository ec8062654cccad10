"""Unit of work: the states and changes of one transaction, each reconciled against the mirror."""

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
    """A row to write: the last winning state of an entity, its row id, and the mirrored state before.

    `replaces`: Clerk ids of memberships that this one replaces, with a new row id for the tombstone of each.
    """

    state: EntityState
    id: str
    before: MirroredState | None
    replaces: Mapping[str, str] = {}

    @property
    def is_new(self) -> bool:
        """Return whether the entity was not in the mirror."""
        return self.before is None

    @property
    def was_deleted(self) -> bool:
        """Return whether the entity was marked as deleted in the mirror."""
        return self.before is not None and self.before.is_deleted


class LocalMembership(Struct, frozen=True, kw_only=True):
    """A membership of a local organization, created for a user who signed up by an invitation to it."""

    membership_id: str
    organization_id: str
    user_id: str
    role: str


class UnitOfWork:
    """Reconciles states with the mirror and with earlier states of the same transaction.

    Clerk has one membership per user and organization at a time: a newer one ends an older one, in whatever order they
    arrive. `superseded` are the changes that ended such. After writing, `local_memberships` are the memberships created
    as a consequence, and `membership_statuses` the statuses of written memberships by row id.
    """

    def __init__(
        self,
        known: dict[EntityKey, MirroredState],
        unlinked: dict[str, str],
        memberships: dict[MembershipPair, list[MembershipRow]],
        reserved_ids: dict[str, bool],
        content: Mapping[EntityKey, Mapping[str, object]],
    ) -> None:
        self.known = known
        self.memberships_before = {row.clerk_id: row for rows in memberships.values() for row in rows}
        self.superseded: list[Change] = []
        self.membership_statuses: dict[str, str] = {}
        self._unlinked = unlinked
        self._memberships = memberships
        self._reserved_ids = reserved_ids
        self._content_by_key = content
        self._tombstone_ids: dict[str, dict[str, str]] = {}
        self._known_before: dict[EntityKey, MirroredState | None] = {}
        self._last_states: dict[EntityKey, EntityState] = {}
        self.local_memberships: list[LocalMembership] = []

    def reconcile_refetched(self, result: RefetchResult) -> ReconcileDecision:
        """Reconcile a state that was read from Clerk on request."""
        return self.reconcile(result.state, is_read=True, expected=result.known)

    def reconcile(
        self, state: EntityState, *, is_read: bool = False, expected: MirroredState | None = None
    ) -> ReconcileDecision:
        """Reconcile one state; a membership with an unknown parent requests the parent first."""
        known = self.known.get(state.key) or self._find_local_user(state)
        if isinstance(state, Observation) and state.absent:
            completed = self._fill_missing_fields(state, known, is_read)
            if not isinstance(completed, Observation):
                return completed
            state = completed
        if isinstance(state.entity, ClerkMembership) and known is None:
            for parent in get_parent_keys(state.entity):
                if parent not in self.known:
                    return NeedsRefetch(parent)
            known = self._find_kept_row(state)
        if isinstance(state, Observation) and isinstance(state.entity, ClerkMembership):
            is_current = known is None or not known.is_deleted
            if is_current and self._has_newer(state, state.entity):
                state = Tombstone(state.key, state.entity)
        effective = known
        if known is not None and known.absent_at is not None and self._has_deleted_parent(state):
            # The state takes effect when the membership is revived with its parent, not before.
            effective = replace(known, is_deleted=False, absent_at=None)
        decision = reconcile(effective, state, is_read=is_read, expected=expected)
        if isinstance(decision, Change):
            self._known_before.setdefault(state.key, known)
            self.known[state.key] = compute_mirrored_state(decision, known.id if known else self._new_id(state))
            self._last_states[state.key] = state
            if isinstance(state, Observation) and isinstance(state.entity, ClerkMembership):
                self._supersede_older(state, state.entity)
        return decision

    def check_restrictions(self, reported: UserRestrictions) -> NeedsRefetch | None:
        """Return a request for the user if a membership reports restrictions that the mirror doesn't have."""
        known = self.known.get(reported.key)
        if known is None or known.is_deleted:
            return None
        is_same = reported.is_banned in (None, known.is_banned) and reported.is_deprovisioned in (
            None,
            known.is_deprovisioned,
        )
        return None if is_same else NeedsRefetch(reported.key, None, known)

    def _fill_missing_fields(
        self, state: Observation, known: MirroredState | None, is_read: bool
    ) -> Observation | NeedsRefetch | Ignored:
        """Fill fields that Clerk did not send from the mirror.

        An embedded entity decides nothing about a known one whose fields it leaves out. A read leaves out only optional
        fields that are false. A webhook may leave out others; it does not unblock a user blocked in Clerk, and Clerk is
        read instead.
        """
        if known is None or (known.is_deleted and not is_read):
            return replace(state, absent=frozenset())
        absent = state.absent - OPTIONAL_FIELDS if is_read or not known.is_deprovisioned else state.absent
        if not absent:
            return replace(state, absent=frozenset())
        is_newer = state.version > known.version and not is_read
        if state.is_embedded:
            return NeedsRefetch(state.key, state.entity, known) if is_newer else Ignored(OLDER_REASON)
        if is_newer and absent & OPTIONAL_FIELDS:
            return NeedsRefetch(state.key, state.entity, known)
        return make_observation(
            _replace_fields(state.entity, absent, self._content_by_key.get(state.key, {})), state.version
        )

    def _has_newer(self, state: Observation, entity: ClerkMembership) -> bool:
        """Return whether a newer membership of the same user and organization has not ended."""
        rows = self._memberships.get(_get_membership_pair(entity), ())
        others = (row for row in rows if row.clerk_id != state.key.id and not row.is_kept)
        return any(_get_row_age(row) > _get_observation_age(state, entity) for row in others)

    def _supersede_older(self, state: Observation, entity: ClerkMembership) -> None:
        """Make this membership the current one of its pair, and end older ones."""
        pair, own = _get_membership_pair(entity), self.known[state.key]
        for row in self._memberships.get(pair, ()):
            if row.clerk_id == state.key.id or row.is_kept:
                continue
            key = EntityKey("membership", row.clerk_id)
            known = self.known.get(key) or MirroredState(row.id, row.version, row.digest, is_deleted=False)
            if known.is_deleted and known.absent_at is None:
                continue  # its own deletion is in this transaction too
            change = Change(Tombstone(key, replace(entity, clerk_id=row.clerk_id, role=row.role)), known)
            self._known_before.setdefault(key, known if row.clerk_id in self.memberships_before else None)
            self.known[key], self._last_states[key] = compute_mirrored_state(change, known.id), change.state
            self.superseded.append(change)
        organization, user = (self.known[parent].id for parent in reversed(get_parent_keys(entity)))
        before = self.memberships_before.get(state.key.id)
        current = MembershipRow(
            id=own.id,
            clerk_id=state.key.id,
            organization_id=organization,
            user_id=user,
            role=entity.role,
            status=before.status if before else "active",
            joined_at=_get_observation_age(state, entity)[0],
            version=state.version,
            digest=state.digest,
            is_kept=before.is_kept if before else False,
        )
        self._memberships[pair] = [current]

    def last_state_of(self, key: EntityKey) -> EntityState | None:
        """Return the last winning state of an entity in this transaction."""
        return self._last_states.get(key)

    def describe_change(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """Return our id of the organization that a change belongs to, and the values before and after.

        Call it after the changes are written.
        """
        state, known = change.state, self.known.get(change.state.key)
        if state.key.kind == "organization":
            return (known.id if known else None), {}
        if state.key.kind == "user":
            before, after = _get_block_status(change.known), _get_block_status(compute_mirrored_state(change, ""))
            has_details = change.known is not None and before != after and not change.is_deletion
            return None, {"before": {"status": before}, "after": {"status": after}} if has_details else {}
        row, entity = self.memberships_before.get(state.key.id), state.entity
        organization, user = (row.organization_id, row.user_id) if row else (None, None)
        if isinstance(entity, ClerkMembership):
            parents = get_parent_keys(entity)
            user, organization = (self.known[parent].id if parent in self.known else None for parent in parents)
        role = entity.role if isinstance(entity, ClerkMembership) else row.role if row else None
        if change.is_deletion:
            status = row.status if row and row.is_kept else "removed"
        else:
            status = row.status if row else self.membership_statuses.get(known.id if known else "", "active")
        previous = {"role": row.role, "status": row.status} if row else None
        return organization, {"user": user, "before": previous, "after": {"role": role, "status": status}}

    def list_writes(self) -> list[PendingWrite]:
        """Return everything to write."""
        replaced = self._tombstone_ids
        return [
            PendingWrite(state, row_id := self.known[key].id, self._known_before[key], replaced.get(row_id, {}))
            for key, state in self._last_states.items()
        ]

    def _has_deleted_parent(self, state: EntityState) -> bool:
        if not isinstance(state, Observation) or not isinstance(state.entity, ClerkMembership):
            return False
        return any(key in self.known and self.known[key].is_deleted for key in get_parent_keys(state.entity))

    def _find_kept_row(self, state: EntityState) -> MirroredState | None:
        """Return the row of a deactivated member that Clerk had removed, when the user is a member there again.

        Not for a membership that ended before the one that the row stands for now: that one is deleted already.
        """
        if not isinstance(state, Observation) or not isinstance(state.entity, ClerkMembership):
            return None
        pair = _get_membership_pair(state.entity)
        kept = next((row for row in self._memberships.get(pair, ()) if row.is_kept), None)
        if kept is None:
            return None
        if kept.clerk_id != state.key.id:
            tombstone = MirroredState(new_id("mbr"), 0, "", is_deleted=True)
            if 0 < state.entity.joined_at < kept.version:  # 0: unknown
                return tombstone
            old = EntityKey("membership", kept.clerk_id)
            self.known[old] = tombstone
            self._last_states.pop(old, None)
            self._tombstone_ids.setdefault(kept.id, {})[kept.clerk_id] = tombstone.id
            relinked = replace(kept, clerk_id=state.key.id, version=state.version)
            self._memberships[pair] = [relinked if row is kept else row for row in self._memberships[pair]]
            self.memberships_before[state.key.id] = relinked
        return MirroredState(kept.id, 0, "", is_deleted=False)

    def _find_local_user(self, state: EntityState) -> MirroredState | None:
        """Return a user known before Clerk created it: by our id, or by the same verified address."""
        if (own := _get_own_id(state)) and self._reserved_ids.get(own):
            self._reserved_ids[own] = False
            return MirroredState(own, 0, "", is_deleted=False)
        email = _get_linking_email(state)
        user_id = self._unlinked.pop(canonicalize_email(email), None) if email else None
        return MirroredState(user_id, 0, "", is_deleted=False) if user_id else None

    def _new_id(self, state: EntityState) -> str:
        """Return the id that we reserved for a user before Clerk created it, if it is free; else a new one."""
        own = _get_own_id(state)
        if own is None or own in self._reserved_ids:
            return new_id(_ID_PREFIXES[state.key.kind])
        self._reserved_ids[own] = False
        return own


def open_unit_of_work(conn: Conn, states: Sequence[EntityState]) -> UnitOfWork:
    """Open a unit of work with the mirrored states that these states are about.

    Their rows stay locked until the transaction ends.
    """
    known = find_known_states(conn, collect_keys(states))
    new = [state for state in states if state.key not in known]
    unlinked = find_unlinked_user_ids(conn, [email for state in new if (email := _get_linking_email(state))])
    reserved_ids = find_reserved_user_ids(conn, [own for state in new if (own := _get_own_id(state))])
    pairs = [_get_membership_pair(state.entity) for state in states if isinstance(state.entity, ClerkMembership)]
    without_entity = [state.key.id for state in states if state.key.kind == "membership" and state.entity is None]
    memberships = lock_current_memberships(conn, pairs, without_entity)
    partial = [state for state in states if isinstance(state, Observation) and state.absent and state.key in known]
    incomplete = [
        state.key for state in partial if not state.absent <= OPTIONAL_FIELDS or known[state.key].is_deprovisioned
    ]
    return UnitOfWork(known, unlinked, memberships, reserved_ids, find_content(conn, incomplete))


def collect_keys(states: Iterable[EntityState]) -> set[EntityKey]:
    """Return the keys required to reconcile these states: the entities and their parents."""
    keys: set[EntityKey] = set()
    for state in states:
        keys.add(state.key)
        if isinstance(state.entity, ClerkMembership):
            keys.update(get_parent_keys(state.entity))
    return keys


def get_parent_keys(membership: ClerkMembership) -> tuple[EntityKey, EntityKey]:
    """Return the keys of the user and the organization of a membership."""
    return EntityKey("user", membership.user), EntityKey("organization", membership.organization)


def _get_block_status(known: MirroredState | None) -> str:
    """Return the status with which Clerk blocks a user."""
    if known is None:
        return "active"
    return "banned" if known.is_banned else "deprovisioned" if known.is_deprovisioned else "active"


def _replace_fields(entity: Entity, names: Iterable[str], content: Mapping[str, object]) -> Entity:
    """Return the entity with these fields taken from `content`."""
    values = {name: content[name] for name in names if name in content}
    if "public_metadata" in values:
        values["public_metadata"] = msgspec.Raw(msgspec.json.encode(values["public_metadata"]))
    return replace(entity, **values)


def _get_row_age(row: MembershipRow) -> tuple[int, int, str]:
    return row.joined_at, row.version, row.clerk_id


def _get_observation_age(state: Observation, entity: ClerkMembership) -> tuple[int, int, str]:
    """Return the sort key of memberships by age: the creation time, as far as Clerk reports it."""
    return entity.joined_at or state.version, state.version, state.key.id


def _get_membership_pair(membership: ClerkMembership) -> MembershipPair:
    return membership.organization, membership.user


def _get_linking_email(state: EntityState) -> str | None:
    if isinstance(state, Observation) and isinstance(state.entity, ClerkUser) and state.entity.is_email_verified:
        return state.entity.email
    return None


def _get_own_id(state: EntityState) -> str | None:
    """Return the external id if we assigned it; only our own server can set it in Clerk."""
    if (
        isinstance(state, Observation)
        and isinstance(state.entity, ClerkUser)
        and _OWN_USER_ID_PATTERN.fullmatch(state.entity.external_id or "")
    ):
        return state.entity.external_id
    return None
