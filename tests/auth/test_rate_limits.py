"""Limits: wrong break-glass keys per client and in total, and requests per principal."""

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


def test_the_right_key_is_never_limited() -> None:
    break_glass = BreakGlassKey(KEY, FailedAttemptCounter(FakeClock()))
    assert [break_glass.evaluate(KEY, "here") for _ in range(MAX_ATTEMPTS_TOTAL * 2)] == [
        "right"
    ] * MAX_ATTEMPTS_TOTAL * 2


def test_five_wrong_keys_limit_further_ones_for_a_minute_but_not_the_right_key() -> None:
    clock = FakeClock()
    break_glass = BreakGlassKey(KEY, FailedAttemptCounter(clock))
    assert [break_glass.evaluate("guess", "here") for _ in range(MAX_ATTEMPTS_PER_CLIENT)] == [
        "wrong"
    ] * MAX_ATTEMPTS_PER_CLIENT
    assert break_glass.evaluate("guess", "here") == "limited"
    assert break_glass.evaluate(KEY, "here") == "right"
    assert break_glass.evaluate("guess", "elsewhere") == "wrong"
    clock.advance(MINUTE - 1)
    assert (break_glass.evaluate("guess", "here"), break_glass.attempts.get_wait("here")) == ("limited", 1)
    clock.advance(1)
    assert break_glass.evaluate("guess", "here") == "wrong"


def test_a_clock_set_back_does_not_extend_the_wait() -> None:
    clock = FakeClock()
    break_glass = BreakGlassKey(KEY, FailedAttemptCounter(clock))
    assert [break_glass.evaluate("guess", "here") for _ in range(MAX_ATTEMPTS_PER_CLIENT + 1)][-1] == "limited"
    clock.advance(-6 * 60 * MINUTE)
    assert break_glass.evaluate("guess", "here") == "wrong"


def test_too_many_wrong_keys_return_when_to_retry() -> None:
    break_glass = BreakGlassKey(KEY, FailedAttemptCounter(FakeClock()))
    assert [break_glass.check("guess", "here") for _ in range(MAX_ATTEMPTS_PER_CLIENT)] == [
        False
    ] * MAX_ATTEMPTS_PER_CLIENT
    with pytest.raises(TooManyAttemptsError) as refused:
        break_glass.check("guess", "here")
    assert (refused.value.status, refused.value.retry_after) == (429, 60)
    assert break_glass.check(KEY, "here")


def test_all_addresses_together_get_sixty_attempts() -> None:
    break_glass = BreakGlassKey(KEY, FailedAttemptCounter(FakeClock()))
    results = [break_glass.evaluate("guess", f"client {n}") for n in range(MAX_ATTEMPTS_TOTAL + 1)]
    assert results == ["wrong"] * MAX_ATTEMPTS_TOTAL + ["limited"]


def test_the_number_of_tracked_addresses_is_bounded() -> None:
    clock = FakeClock()
    counter = FailedAttemptCounter(clock)
    for n in range(MAX_TRACKED_CLIENTS + 10):
        counter.count(f"client {n}")
        clock.advance(MINUTE)
        counter.is_exhausted("anyone")
    assert len(counter.attempts_by_client) == MAX_TRACKED_CLIENTS
    assert len(counter.all_attempts) <= 1


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_is_right(key: str | None) -> None:
    break_glass = BreakGlassKey(key, FailedAttemptCounter(FakeClock()))
    assert not break_glass.is_configured
    assert break_glass.evaluate("", "here") == break_glass.evaluate("None", "here") == "off"


@given(st.text())
def test_any_attempt_is_right_or_wrong(attempt: str) -> None:
    assert BreakGlassKey(KEY, FailedAttemptCounter(FakeClock())).evaluate(attempt, "here") == (
        "right" if attempt == KEY else "wrong"
    )


def test_every_use_is_reported() -> None:
    uses: list[tuple[str, str]] = []
    break_glass = BreakGlassKey(
        KEY, FailedAttemptCounter(FakeClock()), on_use=lambda result, client: uses.append((result, client))
    )
    break_glass.evaluate(KEY, "here")
    break_glass.evaluate("guess", "there")
    assert uses == [("right", "here"), ("wrong", "there")]


def test_a_principal_has_its_burst_and_then_its_rate() -> None:
    seconds = [0.0]
    limiter = PrincipalRateLimiter(rate=10, burst=3, clock=lambda: seconds[0])
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    assert limiter.take("b") == 0
    seconds[0] = 0.1
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0
    seconds[0] = 60
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]


def test_the_number_of_buckets_is_bounded_and_the_least_recent_is_dropped() -> None:
    limiter = PrincipalRateLimiter(rate=1, burst=1, clock=lambda: 0.0)
    for n in range(MAX_TRACKED_CLIENTS + 5):
        limiter.take("busy")
        limiter.take(f"principal {n}")
    assert len(limiter.buckets) == MAX_TRACKED_CLIENTS
    assert limiter.take("busy") > 0
