"""The law of the mirror: whatever the order in which news come, how often, and in which bundles, the same side wins."""

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
    """News of one thing as Clerk tells them: one content for each version, and perhaps a death."""
    kind = draw(st.sampled_from(KINDS))
    contents = draw(st.dictionaries(st.integers(0, 6), st.sampled_from("abc"), min_size=1, max_size=5))
    told = draw(st.lists(st.sampled_from(sorted(contents)), min_size=1, max_size=6))
    news: list[EntityState] = [make_observation(entity(kind, contents[version]), version) for version in told]
    deaths = draw(st.integers(0, 2))
    dead = [Tombstone(key(kind), draw(st.sampled_from([None, news[0].entity])))] * deaths
    mixed: list[EntityState] = draw(st.permutations([*news, *dead]))
    return mixed


@st.composite
def quarrels(draw: Any) -> list[Observation]:
    """News of which several may have the same version and different contents."""
    kind = draw(st.sampled_from(KINDS))
    pairs = draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=8))
    return [make_observation(entity(kind, content), version) for version, content in pairs]


def take(known: MirroredState | None, news: EntityState, *, is_read: bool = False) -> MirroredState | None:
    """What is known once this is decided."""
    verdict = reconcile(known, news, is_read=is_read)
    return compute_mirrored_state(verdict, known.id if known else "id") if isinstance(verdict, Change) else known


def fold(news: Sequence[EntityState], known: MirroredState | None = None) -> MirroredState | None:
    for one in news:
        known = take(known, one)
    return known


def gist(known: MirroredState | None) -> Any:
    """What must be the same in every order; of the dead, only that they are."""
    if known is None or known.is_deleted:
        return known is not None
    return (known.version, known.digest)


def winner(one: EntityState, other: EntityState) -> EntityState:
    """Which of two stays."""
    verdict = reconcile(take(None, one), other)
    return other if isinstance(verdict, Change) else one


@given(histories())
def test_every_order_ends_the_same(news: list[EntityState]) -> None:
    ends = {gist(fold(order)) for order in permutations(news[:5])}
    assert len(ends) == 1


@given(histories(), st.data())
def test_every_bundling_ends_the_same(news: list[EntityState], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(news)))
    first, second = news[:cut], news[cut:]
    standing = [part[0] for part in (first, second) if part]
    for part, at in ((first, 0), (second, -1)):
        for one in part:
            standing[at] = winner(standing[at], one)
    assert gist(fold(standing)) == gist(fold(news))


@given(histories())
def test_deciding_between_three_does_not_depend_on_who_meets_first(news: list[EntityState]) -> None:
    one, two, three = (news * 3)[:3]
    left = winner(winner(one, two), three)
    right = winner(one, winner(two, three))
    assert gist(take(None, left)) == gist(take(None, right))


@given(histories(), st.data())
def test_what_comes_again_changes_nothing(news: list[EntityState], data: st.DataObject) -> None:
    known = fold(news)
    again = data.draw(st.sampled_from(news))
    assert isinstance(reconcile(known, again), Ignored)


@given(st.one_of(histories(), quarrels()))
def test_a_version_never_falls_and_the_dead_stay_dead(news: list[EntityState]) -> None:
    known: MirroredState | None = None
    for one in news:
        before, known = known, take(known, one)
        if before is not None and known is not None:
            assert known.version >= before.version
            assert known.is_deleted >= before.is_deleted
            assert known.id == before.id


@given(quarrels())
def test_what_is_known_was_said_in_just_that_version(news: list[Observation]) -> None:
    known = fold(news)
    assert known is not None
    assert (known.version, known.digest) in {(one.version, one.digest) for one in news}


@given(quarrels(), st.data())
def test_reading_clerk_settles_every_quarrel_in_every_order(news: list[Observation], data: st.DataObject) -> None:
    """Clerk's present state is the newest there is, and is read whenever the law asks."""
    newest = max(one.version for one in news)
    truth = data.draw(st.sampled_from([one for one in news if one.version == newest]))
    for order in (news, news[::-1], data.draw(st.permutations(news))):
        known: MirroredState | None = None
        for one in order:
            is_asked = isinstance(reconcile(known, one), NeedsRefetch)
            known = take(known, truth, is_read=True) if is_asked else take(known, one)
        settled = take(known, truth, is_read=True)
        assert settled is not None
        assert (settled.version, settled.digest) == (truth.version, truth.digest)


@pytest.mark.parametrize("kind", KINDS)
def test_an_equal_version_with_other_content_asks_and_a_reading_decides(kind: EntityKind) -> None:
    known = take(None, make_observation(entity(kind, "a"), 5))
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
def test_the_greater_version_wins_and_nothing_else(kind: EntityKind, version: int, content: str, expected: Any) -> None:
    verdict = reconcile(
        take(None, make_observation(entity(kind, "a"), 5)), make_observation(entity(kind, content), version)
    )
    assert verdict == expected if isinstance(expected, Ignored) else isinstance(verdict, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_read", [False, True])
def test_a_death_wins_over_any_version_and_no_version_over_a_death(kind: EntityKind, is_read: bool) -> None:
    alive = take(None, make_observation(entity(kind, "a"), 10**15))
    gone = reconcile(alive, Tombstone(key(kind)), is_read=is_read)
    assert isinstance(gone, Change)
    assert gone.is_deletion
    dead = compute_mirrored_state(gone, "id")
    assert reconcile(dead, make_observation(entity(kind, "b"), 10**18), is_read=is_read) == Ignored("gone")
    assert reconcile(dead, Tombstone(key(kind)), is_read=is_read) == Ignored("gone")


@st.composite
def rumours(draw: Any) -> list[EntityState]:
    """News of one thing that lives, among them readings that did not find it."""
    told = [one for one in draw(histories()) if isinstance(one, Observation)]
    absences = [Tombstone(told[0].key, told[0].entity, draw(st.integers(1, 9))) for _ in range(draw(st.integers(1, 3)))]
    mixed: list[EntityState] = draw(st.permutations([*told, *absences]))
    return mixed


def hear(known: MirroredState | None, news: EntityState, truth: Observation | None) -> MirroredState | None:
    """What is known once this is decided, and Clerk was read where the law asked for it."""
    asked = known if isinstance(news, Tombstone) else None
    verdict = reconcile(known, news, expected=asked)
    if isinstance(verdict, NeedsRefetch) and truth is not None:
        verdict = reconcile(known, truth, is_read=True, expected=verdict.known)
    return compute_mirrored_state(verdict, known.id if known else "id") if isinstance(verdict, Change) else known


@given(rumours())
def test_whoever_lives_is_alive_in_the_end_however_often_a_reading_missed_them(news: list[EntityState]) -> None:
    """Once Clerk shows them again, the next look finds them: a webhook's or a sync's."""
    truth = max((one for one in news if isinstance(one, Observation)), key=lambda one: one.version)
    known: MirroredState | None = None
    for one in [*news, truth]:
        known = hear(known, one, truth)
    assert known is not None
    assert (known.version, known.digest, known.is_deleted) == (truth.version, truth.digest, False)


@given(rumours(), st.data())
def test_clerks_word_is_final_among_any_absences_and_proofs_of_life(
    news: list[EntityState], data: st.DataObject
) -> None:
    truth = next(one for one in news if isinstance(one, Observation))
    at = data.draw(st.integers(0, len(news)))
    known: MirroredState | None = None
    for place, one in enumerate([*news[:at], Tombstone(truth.key), *news[at:]]):
        known = hear(known, one, truth)
        assert place < at or (known is not None and known.is_deleted and known.absent_at is None)


@given(rumours())
def test_no_news_alone_take_an_absence_back(news: list[EntityState]) -> None:
    """Late news may be of someone who is deleted since: only a reading that was made for it counts."""
    known = hear(None, Tombstone(news[0].key, news[0].entity, 5), None)
    for one in news:
        known = hear(known, one, None)
        assert known is not None
        assert known.is_deleted


@pytest.mark.parametrize("kind", KINDS)
def test_a_reading_counts_for_life_and_death_only_in_the_state_that_was_asked_about(kind: EntityKind) -> None:
    first, later = make_observation(entity(kind, "a"), 5), make_observation(entity(kind, "b"), 6)
    before, alive = take(None, first), take(take(None, first), later)
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


def test_a_death_of_something_never_seen_is_kept() -> None:
    gone = reconcile(None, Tombstone(key("membership")))
    assert isinstance(gone, Change)
    assert compute_mirrored_state(gone, "id") == MirroredState("id", 0, "", is_deleted=True)
