"""The arithmetic of the pace: nobody ever counts more than the limit in any window, and little is left unused."""

import random
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.kit.pace import LASTS, SLOT, TRANSIT, Granted, Limit, Spent, Urgency, close, give_back, reserve

START = 1_795_219_200_000
LIVE, TEST = Limit(1_000), Limit(100)


def most_in_any_window(arrivals: list[int], window: int) -> int:
    """The greatest number of arrivals in any window, whenever it begins."""
    arrivals = sorted(arrivals)
    return max((bisect_left(arrivals, at + window) - place for place, at in enumerate(arrivals)), default=0)


asks = st.lists(
    st.tuples(
        st.integers(0, 700),  # milliseconds since the question before
        st.sampled_from(list(Urgency)),
        st.integers(1, 40),  # permits wanted
        st.integers(0, LASTS),  # after how long they are used
        st.integers(0, TRANSIT),  # how long the way takes
        st.integers(0, 9),  # 0: whoever asked dies with its permits
    ),
    max_size=120,
)


@given(asks, st.integers(2, 60), st.integers(500, 10_000))
def test_no_window_ever_sees_more_than_the_limit(
    told: list[tuple[int, Urgency, int, int, int, int]], most: int, window: int
) -> None:
    """Several clients ask for batches, use them late, or die; what arrives is counted at the other end."""
    limit, spent, now, arrivals = Limit(most, window), Spent(), START, []
    for pause, urgency, want, late, way, luck in told:
        now += pause
        spent, granted = reserve(spent, limit, urgency, want, now)
        assert 0 <= granted.count <= want
        assert granted.count or granted.wait > 0
        arrivals += [now + late * n // want + way for n in range(granted.count)] if luck else []
    assert most_in_any_window(arrivals, window) <= most


@given(asks, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1), st.integers(2, 60))
def test_no_window_ever_sees_more_than_the_limit_when_unused_permits_go_back(
    told: list[tuple[int, Urgency, int, int, int, int]], unused: list[tuple[int, int]], most: int
) -> None:
    """Of each batch some permits are used, as late as allowed, and the others given back some questions later."""
    limit, spent, now, arrivals = Limit(most, 2_000), Spent(), START, []
    back: list[tuple[int, int, int]] = []
    for number, (pause, urgency, want, late, way, _) in enumerate(told):
        now += pause
        for _, slot, count in (it for it in back if it[0] == number):
            spent = give_back(spent, slot, count)
        spent, granted = reserve(spent, limit, urgency, want, now)
        many, after = unused[number % len(unused)]
        many = min(many, granted.count)
        back.append((number + 1 + after, granted.slot, many))
        arrivals += [now + late * n // want + way for n in range(granted.count - many)]
    assert most_in_any_window(arrivals, limit.window) <= most


def flood(limit: Limit, seconds: int, *, clients: int, delay: int) -> list[tuple[int, int]]:
    """A backfill by some clients that ask again as soon as they were told to, `delay` late; gives (when, how many)."""
    chance, spent, granted_at = random.Random(7), Spent(), []  # noqa: S311 (no secret)
    due = dict.fromkeys(range(clients), START)
    while (now := min(due.values())) < START + seconds * 1_000:
        client = min(due, key=lambda it: due[it])
        spent, granted = reserve(spent, limit, Urgency.BACKFILL, 12, now)
        granted_at += [(now, granted.count)] if granted.count else []
        due[client] = now + granted.wait + chance.randint(1, delay)
    return granted_at


def test_a_backfill_uses_almost_all_of_what_is_allowed() -> None:
    for limit, clients in ((LIVE, 1), (LIVE, 3), (TEST, 1), (TEST, 3)):
        granted = flood(limit, 120, clients=clients, delay=20)
        late = [it for it in granted if it[0] >= START + 20_000]
        share = sum(count for _, count in late) / (limit.most * 10)
        assert 0.95 <= share <= 1, (limit, clients, share)


def busy(limit: Limit, *, clients: int, seconds: int = 120) -> int:
    """How many calls go out after the first 20 s: some clients each make an edit every 750 ms, with four permits taken
    ahead that nobody comes for, and all the others are a backfill's."""
    chance, spent, calls = random.Random(5), Spent(), 0  # noqa: S311
    due = {(client, urgency): START for client in range(clients) for urgency in (Urgency.EDIT, Urgency.BACKFILL)}
    hands = dict.fromkeys(range(clients), Granted(0))
    while (now := min(due.values())) < START + seconds * 1_000:
        client, urgency = asks = min(due, key=lambda it: due[it])
        spent = give_back(spent, hands[client].slot, hands[client].count)
        spent, granted = reserve(spent, limit, urgency, 5 if urgency is Urgency.EDIT else 6, now)
        used = min(granted.count, 1) if urgency is Urgency.EDIT else granted.count
        hands[client] = Granted(granted.count - used, slot=granted.slot)
        calls += used if now >= START + 20_000 else 0
        due[asks] = now + (750 if urgency is Urgency.EDIT and used else granted.wait) + chance.randint(1, 6)
    return calls


def test_what_edits_take_ahead_and_do_not_use_is_left_to_a_backfill() -> None:
    for limit, clients in ((LIVE, 1), (LIVE, 2), (TEST, 1), (TEST, 2)):
        share = busy(limit, clients=clients) / (limit.most * 10)
        assert 0.95 <= share <= 1, (limit, clients, share)


def test_a_backfill_of_one_call_at_a_time_uses_almost_all_too() -> None:
    """Its waits gather more than it asks for at once; what has gathered is not lost."""
    for limit in (LIVE, TEST):
        spent, now, calls = Spent(), START, 0
        while now < START + 120_000:
            spent, granted = reserve(spent, limit, Urgency.BACKFILL, 1, now)
            calls += granted.count if now >= START + 20_000 else 0
            now += 5 if granted.count else granted.wait
        assert 0.95 <= calls / (limit.most * 10) <= 1, (limit, calls)


def test_a_backfill_flows_evenly_so_that_an_edit_finds_room_at_any_moment() -> None:
    for limit in (LIVE, TEST):
        spent, now, longest = Spent(), START, 0
        chance = random.Random(3)  # noqa: S311
        for _ in range(3_000):
            now += chance.randint(1, 40)
            spent, _ = reserve(spent, limit, Urgency.BACKFILL, 16, now)
            if chance.random() < 0.002:
                _, granted = reserve(spent, limit, Urgency.EDIT, 1, now)
                longest = max(longest, granted.wait)
        assert longest == 0


def test_the_most_urgent_goes_first_when_little_is_left() -> None:
    spent, _ = reserve(Spent(), LIVE, Urgency.EDIT, 995, START)
    assert reserve(spent, LIVE, Urgency.BACKFILL, 1, START)[1].count == 0
    assert reserve(spent, LIVE, Urgency.REFETCH, 100, START)[1].count == 3
    assert reserve(spent, LIVE, Urgency.EDIT, 100, START)[1].count == 5


def test_whoever_waits_as_long_as_told_gets_one() -> None:
    spent, _ = reserve(Spent(), TEST, Urgency.EDIT, 100, START)
    spent, none = reserve(spent, TEST, Urgency.EDIT, 1, START + 50)
    assert none.count == 0
    assert reserve(spent, TEST, Urgency.EDIT, 1, START + 50 + none.wait)[1].count == 1


@pytest.mark.parametrize("rhythm", range(1, 40, 2))
def test_each_permit_is_granted_again_a_cycle_later_whatever_the_rhythm_of_the_questions(rhythm: int) -> None:
    spent = Spent()
    for n in range(100):
        spent, _ = reserve(spent, TEST, Urgency.EDIT, 1, START + n * rhythm)
    for n in range(100):
        spent, granted = reserve(spent, TEST, Urgency.EDIT, 1, START + n * rhythm + TEST.cycle)
        assert granted.count == 1


@given(st.integers(0, 1_000))
def test_a_permit_is_granted_again_when_its_call_counts_no_more_and_hardly_later(after: int) -> None:
    spent, _ = reserve(Spent(), TEST, Urgency.EDIT, 100, START + after)
    free_at = START + after + TEST.window + LASTS + TRANSIT
    assert reserve(spent, TEST, Urgency.EDIT, 1, free_at - 1)[1].count == 0
    assert reserve(spent, TEST, Urgency.EDIT, 1, free_at + SLOT)[1].count == 1


def test_what_is_given_back_is_granted_again_at_once_and_only_once() -> None:
    spent, first = reserve(Spent(), TEST, Urgency.EDIT, 60, START)
    spent, second = reserve(spent, TEST, Urgency.EDIT, 60, START + SLOT)
    spent = give_back(give_back(spent, first.slot, 7), second.slot, 5)
    assert reserve(spent, TEST, Urgency.EDIT, 100, START + SLOT)[1].count == 12


@given(st.integers(-20_000, 20_000).filter(lambda it: not 0 <= it < SLOT), st.integers(0, 100))
def test_what_is_noted_no_more_gives_nobody_a_permit(other: int, count: int) -> None:
    spent, _ = reserve(Spent(), TEST, Urgency.EDIT, 100, START)
    slot = START + other - (START + other) % SLOT
    assert give_back(spent, slot, count) == spent


def test_when_all_is_closed_nobody_gets_one_until_it_is_over() -> None:
    spent = close(close(Spent(), 30_000, START), 5_000, START)
    for urgency in Urgency:
        assert reserve(spent, LIVE, urgency, 1, START + 29_999)[1] == Granted(0, 1, is_closed=True)
        assert reserve(spent, LIVE, urgency, 1, START + 30_000)[1].count == 1


@given(st.integers(-60_000, -1))
def test_a_clock_that_goes_back_invents_no_permits(step: int) -> None:
    spent, _ = reserve(Spent(), TEST, Urgency.EDIT, 100, START)
    assert reserve(spent, TEST, Urgency.EDIT, 1, START + step)[1].count == 0


def test_what_is_kept_stays_small() -> None:
    spent = Spent()
    for n in range(20_000):
        spent, _ = reserve(spent, Limit(100_000), Urgency.EDIT, 3, START + n)
    assert len(spent.grants) < 600
    assert sum(count for _, count in spent.grants) >= 3 * LIVE.cycle - 60


def test_a_permit_that_was_not_used_is_lost_and_not_given_again() -> None:
    spent, _ = reserve(Spent(), TEST, Urgency.EDIT, 60, START)
    assert reserve(spent, TEST, Urgency.EDIT, 60, START + 5_000)[1].count == 40


def test_a_clock_that_leapt_ahead_and_came_back_stops_nobody_for_long() -> None:
    spent, _ = reserve(Spent(), TEST, Urgency.EDIT, 100, START + 3_600_000)
    spent, none = reserve(spent, TEST, Urgency.EDIT, 1, START)
    assert (none.count, none.wait) == (0, TEST.cycle)
    assert reserve(spent, TEST, Urgency.EDIT, 1, START + TEST.cycle)[1].count == 1


@pytest.mark.parametrize(
    "spent",
    [
        Spent(grants=((START, 5),)),
        Spent(flow_at=float(START)),
        Spent(closed_until=START + 3_600_000),
    ],
)
@pytest.mark.parametrize("urgency", Urgency)
def test_what_was_noted_before_a_clock_went_back_closes_for_one_window_at_most(spent: Spent, urgency: Urgency) -> None:
    back = START - 6 * 3_600_000
    after, granted = reserve(spent, LIVE, urgency, 1, back)
    assert granted.wait <= LIVE.cycle + 100
    assert reserve(after, LIVE, urgency, 1, back + LIVE.cycle + 1_000)[1].count == 1
