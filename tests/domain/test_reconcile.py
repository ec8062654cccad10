"""Reconciliation has the same result for any order, repetition and batching of states."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.domain.events import EntityState, Observation, Tombstone, make_observation
from instep.domain.models import ClerkId, ClerkMembership, ClerkOrganization, ClerkUser, Entity, EntityKey, EntityKind
from instep.domain.reconcile import Change, Ignored, MirroredState, NeedsRefetch, compute_mirrored_state, reconcile

KINDS: tuple[EntityKind, ...] = ("user", "organization", "membership")


def entity(kind: EntityKind, name: str) -> Entity:
    """A thing of each kind whose content depends on `name` alone."""
    if kind == "user":
        return ClerkUser(clerk_id=ClerkId("user_1"), first_name=name)
    if kind == "organization":
        return ClerkOrganization(clerk_id=ClerkId("org_1"), name=name)
    return ClerkMembership(
        clerk_id=ClerkId("orgmem_1"), organization=ClerkId("org_1"), user=ClerkId("user_1"), role=name
    )


def key(kind: EntityKind) -> EntityKey:
    return EntityKey(kind, entity(kind, "").clerk_id)


@st.composite
def histories(draw: Any) -> list[EntityState]:
    """States of one entity as Clerk sends them: one content for each version, and perhaps a deletion."""
    kind = draw(st.sampled_from(KINDS))
    contents = draw(st.dictionaries(st.integers(0, 6), st.sampled_from("abc"), min_size=1, max_size=5))
    observations = draw(st.lists(st.sampled_from(sorted(contents)), min_size=1, max_size=6))
    states: list[EntityState] = [make_observation(entity(kind, contents[version]), version) for version in observations]
    deaths = draw(st.integers(0, 2))
    dead = [Tombstone(key(kind), draw(st.sampled_from([None, states[0].entity])))] * deaths
    mixed: list[EntityState] = draw(st.permutations([*states, *dead]))
    return mixed


@st.composite
def conflicting_observations(draw: Any) -> list[Observation]:
    """Observations of which several may have the same version and different contents."""
    kind = draw(st.sampled_from(KINDS))
    pairs = draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=8))
    return [make_observation(entity(kind, content), version) for version, content in pairs]


def apply_state(known: MirroredState | None, state: EntityState, *, is_read: bool = False) -> MirroredState | None:
    """Return the mirrored state after this one."""
    decision = reconcile(known, state, is_read=is_read)
    return compute_mirrored_state(decision, known.id if known else "id") if isinstance(decision, Change) else known


def fold(states: Sequence[EntityState], known: MirroredState | None = None) -> MirroredState | None:
    for one in states:
        known = apply_state(known, one)
    return known


def summarize(known: MirroredState | None) -> Any:
    """Return what must be equal in every order; of a deletion, only that it is one."""
    if known is None or known.is_deleted:
        return known is not None
    return (known.version, known.digest)


def winner(one: EntityState, other: EntityState) -> EntityState:
    """Return the winning one of two states."""
    decision = reconcile(apply_state(None, one), other)
    return other if isinstance(decision, Change) else one


@given(histories())
def test_every_order_has_the_same_result(states: list[EntityState]) -> None:
    ends = {summarize(fold(order)) for order in permutations(states[:5])}
    assert len(ends) == 1


@given(histories(), st.data())
def test_every_batching_has_the_same_result(states: list[EntityState], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(states)))
    first, second = states[:cut], states[cut:]
    standing = [part[0] for part in (first, second) if part]
    for part, at in ((first, 0), (second, -1)):
        for one in part:
            standing[at] = winner(standing[at], one)
    assert summarize(fold(standing)) == summarize(fold(states))


@given(histories())
def test_reconciling_is_associative(states: list[EntityState]) -> None:
    one, two, three = (states * 3)[:3]
    left = winner(winner(one, two), three)
    right = winner(one, winner(two, three))
    assert summarize(apply_state(None, left)) == summarize(apply_state(None, right))


@given(histories(), st.data())
def test_repeated_states_change_nothing(states: list[EntityState], data: st.DataObject) -> None:
    known = fold(states)
    again = data.draw(st.sampled_from(states))
    assert isinstance(reconcile(known, again), Ignored)


@given(st.one_of(histories(), conflicting_observations()))
def test_a_version_never_decreases_and_a_deletion_is_final(states: list[EntityState]) -> None:
    known: MirroredState | None = None
    for one in states:
        before, known = known, apply_state(known, one)
        if before is not None and known is not None:
            assert known.version >= before.version
            assert known.is_deleted >= before.is_deleted
            assert known.id == before.id


@given(conflicting_observations())
def test_a_mirrored_digest_belongs_to_its_version(states: list[Observation]) -> None:
    known = fold(states)
    assert known is not None
    assert (known.version, known.digest) in {(one.version, one.digest) for one in states}


@given(conflicting_observations(), st.data())
def test_a_read_resolves_conflicts_in_every_order(states: list[Observation], data: st.DataObject) -> None:
    """Clerk's present state is the newest there is, and is read whenever the law asks."""
    newest = max(one.version for one in states)
    truth = data.draw(st.sampled_from([one for one in states if one.version == newest]))
    for order in (states, states[::-1], data.draw(st.permutations(states))):
        known: MirroredState | None = None
        for one in order:
            is_asked = isinstance(reconcile(known, one), NeedsRefetch)
            known = apply_state(known, truth, is_read=True) if is_asked else apply_state(known, one)
        settled = apply_state(known, truth, is_read=True)
        assert settled is not None
        assert (settled.version, settled.digest) == (truth.version, truth.digest)


@pytest.mark.parametrize("kind", KINDS)
def test_an_equal_version_with_other_content_is_refetched(kind: EntityKind) -> None:
    known = apply_state(None, make_observation(entity(kind, "a"), 5))
    other = make_observation(entity(kind, "b"), 5)
    assert reconcile(known, other) == NeedsRefetch(key(kind), other.entity, known)
    assert reconcile(known, other, is_read=True) == Change(other, known)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("version", "content", "expected"),
    [
        (6, "a", Change),
        (6, "b", Change),
        (5, "a", Ignored("same")),
        (4, "a", Ignored("older")),
        (4, "b", Ignored("older")),
    ],
)
def test_the_greater_version_wins(kind: EntityKind, version: int, content: str, expected: Any) -> None:
    decision = reconcile(
        apply_state(None, make_observation(entity(kind, "a"), 5)), make_observation(entity(kind, content), version)
    )
    assert decision == expected if isinstance(expected, Ignored) else isinstance(decision, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_read", [False, True])
def test_a_deletion_wins_over_any_version(kind: EntityKind, is_read: bool) -> None:
    alive = apply_state(None, make_observation(entity(kind, "a"), 10**15))
    gone = reconcile(alive, Tombstone(key(kind)), is_read=is_read)
    assert isinstance(gone, Change)
    assert gone.is_deletion
    dead = compute_mirrored_state(gone, "id")
    assert reconcile(dead, make_observation(entity(kind, "b"), 10**18), is_read=is_read) == Ignored("gone")
    assert reconcile(dead, Tombstone(key(kind)), is_read=is_read) == Ignored("gone")


@st.composite
def states_with_absences(draw: Any) -> list[EntityState]:
    """Build states of one existing entity, mixed with reads that did not find it."""
    observations = [one for one in draw(histories()) if isinstance(one, Observation)]
    absences = [
        Tombstone(observations[0].key, observations[0].entity, draw(st.integers(1, 9)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    mixed: list[EntityState] = draw(st.permutations([*observations, *absences]))
    return mixed


def apply_with_refetch(
    known: MirroredState | None, state: EntityState, truth: Observation | None
) -> MirroredState | None:
    """Return the mirrored state after this one, with a read of Clerk where it is requested."""
    expected = known if isinstance(state, Tombstone) else None
    decision = reconcile(known, state, expected=expected)
    if isinstance(decision, NeedsRefetch) and truth is not None:
        decision = reconcile(known, truth, is_read=True, expected=decision.known)
    return compute_mirrored_state(decision, known.id if known else "id") if isinstance(decision, Change) else known


@given(states_with_absences())
def test_an_existing_entity_is_present_in_the_end_despite_absences(states: list[EntityState]) -> None:
    """Once Clerk returns it again, the next read finds it, for a webhook or a sync."""
    truth = max((one for one in states if isinstance(one, Observation)), key=lambda one: one.version)
    known: MirroredState | None = None
    for one in [*states, truth]:
        known = apply_with_refetch(known, one, truth)
    assert known is not None
    assert (known.version, known.digest, known.is_deleted) == (truth.version, truth.digest, False)


@given(states_with_absences(), st.data())
def test_a_reported_deletion_is_final(states: list[EntityState], data: st.DataObject) -> None:
    truth = next(one for one in states if isinstance(one, Observation))
    at = data.draw(st.integers(0, len(states)))
    known: MirroredState | None = None
    for place, one in enumerate([*states[:at], Tombstone(truth.key), *states[at:]]):
        known = apply_with_refetch(known, one, truth)
        assert place < at or (known is not None and known.is_deleted and known.absent_at is None)


@given(states_with_absences())
def test_an_event_alone_does_not_revert_an_absence(states: list[EntityState]) -> None:
    """A late event may be about an entity deleted since: only a read made for it counts."""
    known = apply_with_refetch(None, Tombstone(states[0].key, states[0].entity, 5), None)
    for one in states:
        known = apply_with_refetch(known, one, None)
        assert known is not None
        assert known.is_deleted


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_applies_only_to_the_expected_state(kind: EntityKind) -> None:
    first, later = make_observation(entity(kind, "a"), 5), make_observation(entity(kind, "b"), 6)
    before, alive = apply_state(None, first), apply_state(apply_state(None, first), later)
    absence = Tombstone(key(kind), None, 7)
    assert reconcile(alive, absence, expected=before) == NeedsRefetch(key(kind), None, alive)
    assert reconcile(alive, absence, expected=None) == NeedsRefetch(key(kind), None, alive)
    gone = reconcile(alive, absence, expected=alive)
    assert isinstance(gone, Change)
    absent = compute_mirrored_state(gone, "id")
    assert reconcile(absent, later, is_read=True, expected=alive) == NeedsRefetch(key(kind), later.entity, absent)
    assert reconcile(absent, first, is_read=True, expected=absent) == Ignored("older")
    back = reconcile(absent, later, is_read=True, expected=absent)
    assert isinstance(back, Change)
    assert (back.is_revival, back.is_deletion, compute_mirrored_state(back, "id")) == (True, False, alive)
    confirmed = reconcile(absent, Tombstone(key(kind)))
    assert isinstance(confirmed, Change)
    assert confirmed.is_deletion_confirmed


def test_a_deletion_of_an_unknown_entity_is_stored() -> None:
    gone = reconcile(None, Tombstone(key("membership")))
    assert isinstance(gone, Change)
    assert compute_mirrored_state(gone, "id") == MirroredState("id", 0, "", is_deleted=True)
