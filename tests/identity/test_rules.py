"""The law of the mirror: whatever the order in which news come, how often, and in which bundles, the same side wins."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.identity.events import Gone, News, Seen, seen
from instep.identity.model import ClerkId, Entity, Key, Kind, Membership, Organization, User
from instep.identity.rules import AskAgain, Change, Ignored, Known, after, decide

KINDS: tuple[Kind, ...] = ("user", "organization", "membership")


def entity(kind: Kind, name: str) -> Entity:
    """A thing of each kind whose content depends on `name` alone."""
    if kind == "user":
        return User(clerk_id=ClerkId("user_1"), first_name=name)
    if kind == "organization":
        return Organization(clerk_id=ClerkId("org_1"), name=name)
    return Membership(clerk_id=ClerkId("orgmem_1"), organization=ClerkId("org_1"), user=ClerkId("user_1"), role=name)


def key(kind: Kind) -> Key:
    return Key(kind, entity(kind, "").clerk_id)


@st.composite
def histories(draw: Any) -> list[News]:
    """News of one thing as Clerk tells them: one content for each version, and perhaps a death."""
    kind = draw(st.sampled_from(KINDS))
    contents = draw(st.dictionaries(st.integers(0, 6), st.sampled_from("abc"), min_size=1, max_size=5))
    told = draw(st.lists(st.sampled_from(sorted(contents)), min_size=1, max_size=6))
    news: list[News] = [seen(entity(kind, contents[version]), version) for version in told]
    deaths = draw(st.integers(0, 2))
    dead = [Gone(key(kind), draw(st.sampled_from([None, news[0].entity])))] * deaths
    mixed: list[News] = draw(st.permutations([*news, *dead]))
    return mixed


@st.composite
def quarrels(draw: Any) -> list[Seen]:
    """News of which several may have the same version and different contents."""
    kind = draw(st.sampled_from(KINDS))
    pairs = draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=8))
    return [seen(entity(kind, content), version) for version, content in pairs]


def take(known: Known | None, news: News, *, is_read: bool = False) -> Known | None:
    """What is known once this is decided."""
    verdict = decide(known, news, is_read=is_read)
    return after(verdict, known.id if known else "id") if isinstance(verdict, Change) else known


def fold(news: Sequence[News], known: Known | None = None) -> Known | None:
    for one in news:
        known = take(known, one)
    return known


def gist(known: Known | None) -> Any:
    """What must be the same in every order; of the dead, only that they are."""
    if known is None or known.is_gone:
        return known is not None
    return (known.version, known.digest)


def winner(one: News, other: News) -> News:
    """Which of two stays."""
    verdict = decide(take(None, one), other)
    return other if isinstance(verdict, Change) else one


@given(histories())
def test_every_order_ends_the_same(news: list[News]) -> None:
    ends = {gist(fold(order)) for order in permutations(news[:5])}
    assert len(ends) == 1


@given(histories(), st.data())
def test_every_bundling_ends_the_same(news: list[News], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(news)))
    first, second = news[:cut], news[cut:]
    standing = [part[0] for part in (first, second) if part]
    for part, at in ((first, 0), (second, -1)):
        for one in part:
            standing[at] = winner(standing[at], one)
    assert gist(fold(standing)) == gist(fold(news))


@given(histories())
def test_deciding_between_three_does_not_depend_on_who_meets_first(news: list[News]) -> None:
    one, two, three = (news * 3)[:3]
    left = winner(winner(one, two), three)
    right = winner(one, winner(two, three))
    assert gist(take(None, left)) == gist(take(None, right))


@given(histories(), st.data())
def test_what_comes_again_changes_nothing(news: list[News], data: st.DataObject) -> None:
    known = fold(news)
    again = data.draw(st.sampled_from(news))
    assert isinstance(decide(known, again), Ignored)


@given(st.one_of(histories(), quarrels()))
def test_a_version_never_falls_and_the_dead_stay_dead(news: list[News]) -> None:
    known: Known | None = None
    for one in news:
        before, known = known, take(known, one)
        if before is not None and known is not None:
            assert known.version >= before.version
            assert known.is_gone >= before.is_gone
            assert known.id == before.id


@given(quarrels())
def test_what_is_known_was_said_in_just_that_version(news: list[Seen]) -> None:
    known = fold(news)
    assert known is not None
    assert (known.version, known.digest) in {(one.version, one.digest) for one in news}


@given(quarrels(), st.data())
def test_reading_clerk_settles_every_quarrel_in_every_order(news: list[Seen], data: st.DataObject) -> None:
    """Clerk's present state is the newest there is, and is read whenever the law asks."""
    newest = max(one.version for one in news)
    truth = data.draw(st.sampled_from([one for one in news if one.version == newest]))
    for order in (news, news[::-1], data.draw(st.permutations(news))):
        known: Known | None = None
        for one in order:
            is_asked = isinstance(decide(known, one), AskAgain)
            known = take(known, truth, is_read=True) if is_asked else take(known, one)
        settled = take(known, truth, is_read=True)
        assert settled is not None
        assert (settled.version, settled.digest) == (truth.version, truth.digest)


@pytest.mark.parametrize("kind", KINDS)
def test_an_equal_version_with_other_content_asks_and_a_reading_decides(kind: Kind) -> None:
    known = take(None, seen(entity(kind, "a"), 5))
    other = seen(entity(kind, "b"), 5)
    assert decide(known, other) == AskAgain(key(kind), other.entity, known)
    assert decide(known, other, is_read=True) == Change(other, known)


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
def test_the_greater_version_wins_and_nothing_else(kind: Kind, version: int, content: str, expected: Any) -> None:
    verdict = decide(take(None, seen(entity(kind, "a"), 5)), seen(entity(kind, content), version))
    assert verdict == expected if isinstance(expected, Ignored) else isinstance(verdict, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_read", [False, True])
def test_a_death_wins_over_any_version_and_no_version_over_a_death(kind: Kind, is_read: bool) -> None:
    alive = take(None, seen(entity(kind, "a"), 10**15))
    gone = decide(alive, Gone(key(kind)), is_read=is_read)
    assert isinstance(gone, Change)
    assert gone.is_gone
    dead = after(gone, "id")
    assert decide(dead, seen(entity(kind, "b"), 10**18), is_read=is_read) == Ignored("gone")
    assert decide(dead, Gone(key(kind)), is_read=is_read) == Ignored("gone")


@st.composite
def rumours(draw: Any) -> list[News]:
    """News of one thing that lives, among them readings that did not find it."""
    told = [one for one in draw(histories()) if isinstance(one, Seen)]
    absences = [Gone(told[0].key, told[0].entity, draw(st.integers(1, 9))) for _ in range(draw(st.integers(1, 3)))]
    mixed: list[News] = draw(st.permutations([*told, *absences]))
    return mixed


def hear(known: Known | None, news: News, truth: Seen | None) -> Known | None:
    """What is known once this is decided, and Clerk was read where the law asked for it."""
    asked = known if isinstance(news, Gone) else None
    verdict = decide(known, news, asked=asked)
    if isinstance(verdict, AskAgain) and truth is not None:
        verdict = decide(known, truth, is_read=True, asked=verdict.known)
    return after(verdict, known.id if known else "id") if isinstance(verdict, Change) else known


@given(rumours())
def test_whoever_lives_is_alive_in_the_end_however_often_a_reading_missed_them(news: list[News]) -> None:
    """Once Clerk shows them again, the next look finds them: a webhook's or a sync's."""
    truth = max((one for one in news if isinstance(one, Seen)), key=lambda one: one.version)
    known: Known | None = None
    for one in [*news, truth]:
        known = hear(known, one, truth)
    assert known is not None
    assert (known.version, known.digest, known.is_gone) == (truth.version, truth.digest, False)


@given(rumours(), st.data())
def test_clerks_word_is_final_among_any_absences_and_proofs_of_life(news: list[News], data: st.DataObject) -> None:
    truth = next(one for one in news if isinstance(one, Seen))
    at = data.draw(st.integers(0, len(news)))
    known: Known | None = None
    for place, one in enumerate([*news[:at], Gone(truth.key), *news[at:]]):
        known = hear(known, one, truth)
        assert place < at or (known is not None and known.is_gone and known.absent_at is None)


@given(rumours())
def test_no_news_alone_take_an_absence_back(news: list[News]) -> None:
    """Late news may be of someone who is deleted since: only a reading that was made for it counts."""
    known = hear(None, Gone(news[0].key, news[0].entity, 5), None)
    for one in news:
        known = hear(known, one, None)
        assert known is not None
        assert known.is_gone


@pytest.mark.parametrize("kind", KINDS)
def test_a_reading_counts_for_life_and_death_only_in_the_state_that_was_asked_about(kind: Kind) -> None:
    first, later = seen(entity(kind, "a"), 5), seen(entity(kind, "b"), 6)
    before, alive = take(None, first), take(take(None, first), later)
    absence = Gone(key(kind), None, 7)
    assert decide(alive, absence, asked=before) == AskAgain(key(kind), None, alive)
    assert decide(alive, absence, asked=None) == AskAgain(key(kind), None, alive)
    gone = decide(alive, absence, asked=alive)
    assert isinstance(gone, Change)
    absent = after(gone, "id")
    assert decide(absent, later, is_read=True, asked=alive) == AskAgain(key(kind), later.entity, absent)
    assert decide(absent, first, is_read=True, asked=absent) == Ignored("older")
    back = decide(absent, later, is_read=True, asked=absent)
    assert isinstance(back, Change)
    assert (back.is_back, back.is_gone, after(back, "id")) == (True, False, alive)
    confirmed = decide(absent, Gone(key(kind)))
    assert isinstance(confirmed, Change)
    assert confirmed.is_confirmed


def test_a_death_of_something_never_seen_is_kept() -> None:
    gone = decide(None, Gone(key("membership")))
    assert isinstance(gone, Change)
    assert after(gone, "id") == Known("id", 0, "", is_gone=True)
