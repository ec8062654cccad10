"""Arithmetic of permits: no window has more calls than the limit, and little of it is unused."""

import random
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.clerk.rate_limiter import (
    MAX_TRANSIT,
    PERMIT_LIFETIME,
    SLOT_LENGTH,
    PermitGrant,
    RateLimit,
    RateLimitState,
    RequestPriority,
    grant_permits,
    pause_permits,
    return_permits,
)

START = 1_795_219_200_000
LIVE, TEST = RateLimit(1_000), RateLimit(100)


def most_in_any_window(arrivals: list[int], window: int) -> int:
    """The greatest number of arrivals in any window, whenever it begins."""
    arrivals = sorted(arrivals)
    return max((bisect_left(arrivals, at + window) - place for place, at in enumerate(arrivals)), default=0)


request_lists = st.lists(
    st.tuples(
        st.integers(0, 700),  # milliseconds since the question before
        st.sampled_from(list(RequestPriority)),
        st.integers(1, 40),  # permits wanted
        st.integers(0, PERMIT_LIFETIME),  # after how long they are used
        st.integers(0, MAX_TRANSIT),  # how long the way takes
        st.integers(0, 9),  # 0: whoever asked dies with its permits
    ),
    max_size=120,
)


@given(request_lists, st.integers(2, 60), st.integers(500, 10_000))
def test_no_window_ever_sees_more_than_the_limit(
    requests: list[tuple[int, RequestPriority, int, int, int, int]], most: int, window: int
) -> None:
    """Several clients ask for batches, use them late, or die; what arrives is counted at the other end."""
    limit, state, now, arrivals = RateLimit(most, window), RateLimitState(), START, []
    for pause, priority, wanted, late, way, luck in requests:
        now += pause
        state, granted = grant_permits(state, limit, priority, wanted, now)
        assert 0 <= granted.count <= wanted
        assert granted.count or granted.wait > 0
        arrivals += [now + late * n // wanted + way for n in range(granted.count)] if luck else []
    assert most_in_any_window(arrivals, window) <= most


@given(request_lists, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1), st.integers(2, 60))
def test_no_window_ever_sees_more_than_the_limit_when_unused_permits_go_back(
    requests: list[tuple[int, RequestPriority, int, int, int, int]], unused: list[tuple[int, int]], most: int
) -> None:
    """Of each batch some permits are used, as late as allowed, and the others given back some questions later."""
    limit, state, now, arrivals = RateLimit(most, 2_000), RateLimitState(), START, []
    back: list[tuple[int, int, int]] = []
    for number, (pause, priority, wanted, late, way, _) in enumerate(requests):
        now += pause
        for _, slot, count in (it for it in back if it[0] == number):
            state = return_permits(state, slot, count)
        state, granted = grant_permits(state, limit, priority, wanted, now)
        many, after = unused[number % len(unused)]
        many = min(many, granted.count)
        back.append((number + 1 + after, granted.slot, many))
        arrivals += [now + late * n // wanted + way for n in range(granted.count - many)]
    assert most_in_any_window(arrivals, limit.window) <= most


def flood(limit: RateLimit, seconds: int, *, clients: int, delay: int) -> list[tuple[int, int]]:
    """A backfill by some clients that ask again as soon as they were told to, `delay` late; gives (when, how many)."""
    chance, state, granted_at = random.Random(7), RateLimitState(), []  # noqa: S311 (no secret)
    due = dict.fromkeys(range(clients), START)
    while (now := min(due.values())) < START + seconds * 1_000:
        client = min(due, key=lambda it: due[it])
        state, granted = grant_permits(state, limit, RequestPriority.BACKFILL, 12, now)
        granted_at += [(now, granted.count)] if granted.count else []
        due[client] = now + granted.wait + chance.randint(1, delay)
    return granted_at


def test_a_backfill_uses_almost_all_of_what_is_allowed() -> None:
    for limit, clients in ((LIVE, 1), (LIVE, 3), (TEST, 1), (TEST, 3)):
        granted = flood(limit, 120, clients=clients, delay=20)
        late = [it for it in granted if it[0] >= START + 20_000]
        share = sum(count for _, count in late) / (limit.max_calls * 10)
        assert 0.95 <= share <= 1, (limit, clients, share)


def busy(limit: RateLimit, *, clients: int, seconds: int = 120) -> int:
    """How many calls go out after the first 20 s: some clients each make an edit every 750 ms, with four permits taken
    ahead that nobody comes for, and all the others are a backfill's."""
    chance, state, calls = random.Random(5), RateLimitState(), 0  # noqa: S311
    due = {
        (client, priority): START
        for client in range(clients)
        for priority in (RequestPriority.EDIT, RequestPriority.BACKFILL)
    }
    hands = dict.fromkeys(range(clients), PermitGrant(0))
    while (now := min(due.values())) < START + seconds * 1_000:
        client, priority = request_lists = min(due, key=lambda it: due[it])
        state = return_permits(state, hands[client].slot, hands[client].count)
        state, granted = grant_permits(state, limit, priority, 5 if priority is RequestPriority.EDIT else 6, now)
        used = min(granted.count, 1) if priority is RequestPriority.EDIT else granted.count
        hands[client] = PermitGrant(granted.count - used, slot=granted.slot)
        calls += used if now >= START + 20_000 else 0
        due[request_lists] = (
            now + (750 if priority is RequestPriority.EDIT and used else granted.wait) + chance.randint(1, 6)
        )
    return calls


def test_what_edits_take_ahead_and_do_not_use_is_left_to_a_backfill() -> None:
    for limit, clients in ((LIVE, 1), (LIVE, 2), (TEST, 1), (TEST, 2)):
        share = busy(limit, clients=clients) / (limit.max_calls * 10)
        assert 0.95 <= share <= 1, (limit, clients, share)


def test_a_backfill_of_one_call_at_a_time_uses_almost_all_too() -> None:
    """Its waits gather more than it asks for at once; what has gathered is not lost."""
    for limit in (LIVE, TEST):
        state, now, calls = RateLimitState(), START, 0
        while now < START + 120_000:
            state, granted = grant_permits(state, limit, RequestPriority.BACKFILL, 1, now)
            calls += granted.count if now >= START + 20_000 else 0
            now += 5 if granted.count else granted.wait
        assert 0.95 <= calls / (limit.max_calls * 10) <= 1, (limit, calls)


def test_a_backfill_flows_evenly_so_that_an_edit_finds_room_at_any_moment() -> None:
    for limit in (LIVE, TEST):
        state, now, longest = RateLimitState(), START, 0
        chance = random.Random(3)  # noqa: S311
        for _ in range(3_000):
            now += chance.randint(1, 40)
            state, _ = grant_permits(state, limit, RequestPriority.BACKFILL, 16, now)
            if chance.random() < 0.002:
                _, granted = grant_permits(state, limit, RequestPriority.EDIT, 1, now)
                longest = max(longest, granted.wait)
        assert longest == 0


def test_the_most_urgent_goes_first_when_little_is_left() -> None:
    state, _ = grant_permits(RateLimitState(), LIVE, RequestPriority.EDIT, 995, START)
    assert grant_permits(state, LIVE, RequestPriority.BACKFILL, 1, START)[1].count == 0
    assert grant_permits(state, LIVE, RequestPriority.REFETCH, 100, START)[1].count == 3
    assert grant_permits(state, LIVE, RequestPriority.EDIT, 100, START)[1].count == 5


def test_whoever_waits_as_long_as_told_gets_one() -> None:
    state, _ = grant_permits(RateLimitState(), TEST, RequestPriority.EDIT, 100, START)
    state, none = grant_permits(state, TEST, RequestPriority.EDIT, 1, START + 50)
    assert none.count == 0
    assert grant_permits(state, TEST, RequestPriority.EDIT, 1, START + 50 + none.wait)[1].count == 1


@pytest.mark.parametrize("rhythm", range(1, 40, 2))
def test_each_permit_is_granted_again_a_cycle_later_whatever_the_rhythm_of_the_questions(rhythm: int) -> None:
    state = RateLimitState()
    for n in range(100):
        state, _ = grant_permits(state, TEST, RequestPriority.EDIT, 1, START + n * rhythm)
    for n in range(100):
        state, granted = grant_permits(state, TEST, RequestPriority.EDIT, 1, START + n * rhythm + TEST.cycle)
        assert granted.count == 1


@given(st.integers(0, 1_000))
def test_a_permit_is_granted_again_when_its_call_counts_no_more_and_hardly_later(after: int) -> None:
    state, _ = grant_permits(RateLimitState(), TEST, RequestPriority.EDIT, 100, START + after)
    free_at = START + after + TEST.window + PERMIT_LIFETIME + MAX_TRANSIT
    assert grant_permits(state, TEST, RequestPriority.EDIT, 1, free_at - 1)[1].count == 0
    assert grant_permits(state, TEST, RequestPriority.EDIT, 1, free_at + SLOT_LENGTH)[1].count == 1


def test_what_is_given_back_is_granted_again_at_once_and_only_once() -> None:
    state, first = grant_permits(RateLimitState(), TEST, RequestPriority.EDIT, 60, START)
    state, second = grant_permits(state, TEST, RequestPriority.EDIT, 60, START + SLOT_LENGTH)
    state = return_permits(return_permits(state, first.slot, 7), second.slot, 5)
    assert grant_permits(state, TEST, RequestPriority.EDIT, 100, START + SLOT_LENGTH)[1].count == 12


@given(st.integers(-20_000, 20_000).filter(lambda it: not 0 <= it < SLOT_LENGTH), st.integers(0, 100))
def test_what_is_noted_no_more_gives_nobody_a_permit(other: int, count: int) -> None:
    state, _ = grant_permits(RateLimitState(), TEST, RequestPriority.EDIT, 100, START)
    slot = START + other - (START + other) % SLOT_LENGTH
    assert return_permits(state, slot, count) == state


def test_when_all_is_paused_nobody_gets_one_until_it_is_over() -> None:
    state = pause_permits(pause_permits(RateLimitState(), 30_000, START), 5_000, START)
    for priority in RequestPriority:
        assert grant_permits(state, LIVE, priority, 1, START + 29_999)[1] == PermitGrant(0, 1, is_paused=True)
        assert grant_permits(state, LIVE, priority, 1, START + 30_000)[1].count == 1


@given(st.integers(-60_000, -1))
def test_a_clock_that_goes_back_invents_no_permits(step: int) -> None:
    state, _ = grant_permits(RateLimitState(), TEST, RequestPriority.EDIT, 100, START)
    assert grant_permits(state, TEST, RequestPriority.EDIT, 1, START + step)[1].count == 0


def test_what_is_kept_stays_small() -> None:
    state = RateLimitState()
    for n in range(20_000):
        state, _ = grant_permits(state, RateLimit(100_000), RequestPriority.EDIT, 3, START + n)
    assert len(state.grants) < 600
    assert sum(count for _, count in state.grants) >= 3 * LIVE.cycle - 60


def test_a_permit_that_was_not_used_is_lost_and_not_given_again() -> None:
    state, _ = grant_permits(RateLimitState(), TEST, RequestPriority.EDIT, 60, START)
    assert grant_permits(state, TEST, RequestPriority.EDIT, 60, START + 5_000)[1].count == 40


def test_a_clock_that_leapt_ahead_and_came_back_stops_nobody_for_long() -> None:
    state, _ = grant_permits(RateLimitState(), TEST, RequestPriority.EDIT, 100, START + 3_600_000)
    state, none = grant_permits(state, TEST, RequestPriority.EDIT, 1, START)
    assert (none.count, none.wait) == (0, TEST.cycle)
    assert grant_permits(state, TEST, RequestPriority.EDIT, 1, START + TEST.cycle)[1].count == 1


@pytest.mark.parametrize(
    "state",
    [
        RateLimitState(grants=((START, 5),)),
        RateLimitState(backfill_at=float(START)),
        RateLimitState(paused_until=START + 3_600_000),
    ],
)
@pytest.mark.parametrize("priority", RequestPriority)
def test_what_was_noted_before_a_clock_went_back_closes_for_one_window_at_most(
    state: RateLimitState, priority: RequestPriority
) -> None:
    back = START - 6 * 3_600_000
    after, granted = grant_permits(state, LIVE, priority, 1, back)
    assert granted.wait <= LIVE.cycle + 100
    assert grant_permits(after, LIVE, priority, 1, back + LIVE.cycle + 1_000)[1].count == 1
