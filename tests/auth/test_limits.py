"""The break-glass key: guessing at it gets nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.auth.break_glass import BreakGlassKey
from instep.auth.rate_limits import (
    MAX_ATTEMPTS_PER_CLIENT,
    MAX_ATTEMPTS_TOTAL,
    MAX_TRACKED_CLIENTS,
    FailedAttemptCounter,
    PrincipalRateLimiter,
    TooManyAttemptsError,
)
from instep.core.clock import MINUTE
from tests.auth.world import KEY, FakeClock


def test_the_right_key_is_right_and_may_be_used_often() -> None:
    glass = BreakGlassKey(KEY, FailedAttemptCounter(FakeClock()))
    assert [glass.judge(KEY, "here") for _ in range(MAX_ATTEMPTS_TOTAL * 2)] == ["right"] * MAX_ATTEMPTS_TOTAL * 2


def test_after_five_wrong_tries_wrong_ones_wait_a_minute_and_the_right_key_never_does() -> None:
    clock = FakeClock()
    glass = BreakGlassKey(KEY, FailedAttemptCounter(clock))
    assert [glass.judge("guess", "here") for _ in range(MAX_ATTEMPTS_PER_CLIENT)] == ["wrong"] * MAX_ATTEMPTS_PER_CLIENT
    assert glass.judge("guess", "here") == "limited"
    assert glass.judge(KEY, "here") == "right"
    assert glass.judge("guess", "elsewhere") == "wrong"
    clock.advance(MINUTE - 1)
    assert (glass.judge("guess", "here"), glass.tries.get_wait("here")) == ("limited", 1)
    clock.advance(1)
    assert glass.judge("guess", "here") == "wrong"


def test_a_clock_that_goes_back_makes_nobody_wait_longer() -> None:
    clock = FakeClock()
    glass = BreakGlassKey(KEY, FailedAttemptCounter(clock))
    assert [glass.judge("guess", "here") for _ in range(MAX_ATTEMPTS_PER_CLIENT + 1)][-1] == "limited"
    clock.advance(-6 * 60 * MINUTE)
    assert glass.judge("guess", "here") == "wrong"


def test_too_many_wrong_tries_say_when_the_next_one_counts() -> None:
    glass = BreakGlassKey(KEY, FailedAttemptCounter(FakeClock()))
    assert [glass.check("guess", "here") for _ in range(MAX_ATTEMPTS_PER_CLIENT)] == [False] * MAX_ATTEMPTS_PER_CLIENT
    with pytest.raises(TooManyAttemptsError) as refused:
        glass.check("guess", "here")
    assert (refused.value.status, refused.value.retry_after) == (429, 60)
    assert glass.check(KEY, "here")


def test_many_addresses_together_get_sixty_tries() -> None:
    glass = BreakGlassKey(KEY, FailedAttemptCounter(FakeClock()))
    said = [glass.judge("guess", f"client {n}") for n in range(MAX_ATTEMPTS_TOTAL + 1)]
    assert said == ["wrong"] * MAX_ATTEMPTS_TOTAL + ["limited"]


def test_addresses_are_forgotten_so_that_memory_is_bounded() -> None:
    clock = FakeClock()
    tries = FailedAttemptCounter(clock)
    for n in range(MAX_TRACKED_CLIENTS + 10):
        tries.count(f"client {n}")
        clock.advance(MINUTE)
        tries.is_spent("anyone")
    assert len(tries.attempts_by_client) == MAX_TRACKED_CLIENTS
    assert len(tries.all) <= 1


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_is_right(key: str | None) -> None:
    glass = BreakGlassKey(key, FailedAttemptCounter(FakeClock()))
    assert not glass.is_on
    assert glass.judge("", "here") == glass.judge("None", "here") == "off"


@given(st.text())
def test_any_attempt_is_judged(attempt: str) -> None:
    assert BreakGlassKey(KEY, FailedAttemptCounter(FakeClock())).judge(attempt, "here") == (
        "right" if attempt == KEY else "wrong"
    )


def test_every_use_is_told() -> None:
    told: list[tuple[str, str]] = []
    glass = BreakGlassKey(
        KEY, FailedAttemptCounter(FakeClock()), on_use=lambda verdict, client: told.append((verdict, client))
    )
    glass.judge(KEY, "here")
    glass.judge("guess", "there")
    assert told == [("right", "here"), ("wrong", "there")]


def test_a_principal_has_its_burst_and_then_its_rate() -> None:
    at = [0.0]
    limiter = PrincipalRateLimiter(rate=10, burst=3, clock=lambda: at[0])
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    assert limiter.take("b") == 0
    at[0] = 0.1
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0
    at[0] = 60
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]


def test_the_buckets_of_principals_are_bounded_and_the_quietest_goes_first() -> None:
    limiter = PrincipalRateLimiter(rate=1, burst=1, clock=lambda: 0.0)
    for n in range(MAX_TRACKED_CLIENTS + 5):
        limiter.take("busy")
        limiter.take(f"principal {n}")
    assert len(limiter.buckets) == MAX_TRACKED_CLIENTS
    assert limiter.take("busy") > 0
