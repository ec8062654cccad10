"""Times stored before a clock rollback are not trusted."""

import pytest

from instep.core.clock import (
    HOUR,
    MAX_CLOCK_SKEW,
    MINUTE,
    SECOND,
    Clock,
    ClockRollbackDetector,
    Millis,
    is_in_future,
    is_recent,
)

NOW = 1_795_219_200_000


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (0, True),
        (MINUTE - 1, True),
        (MINUTE, False),
        (-MAX_CLOCK_SKEW, True),
        (-MAX_CLOCK_SKEW - 1, False),
        (-6 * HOUR, False),
    ],
)
def test_a_time_is_recent_within_its_age_and_not_in_the_future(age: int, expected: bool) -> None:
    assert is_recent(NOW - age, NOW, MINUTE) is expected


@pytest.mark.parametrize(
    ("left", "expected"),
    [(0, False), (1, True), (MINUTE, True), (2 * MINUTE, True), (2 * MINUTE + 1, False), (6 * HOUR, False)],
)
def test_a_lease_lasts_no_longer_than_its_duration(left: int, expected: bool) -> None:
    assert is_in_future(NOW + left, NOW, MINUTE) is expected


def test_a_clock_rollback_is_detected_once_and_normal_time_never() -> None:
    wall, steady = [NOW], [0]
    watch = ClockRollbackDetector(_reading(wall), _reading(steady))
    wall[0], steady[0] = NOW + 9 * SECOND, 10 * SECOND
    assert not watch.has_gone_back()
    wall[0] -= 6 * HOUR
    assert watch.has_gone_back()
    assert not watch.has_gone_back()
    wall[0] += 7 * HOUR
    assert not watch.has_gone_back()


def _reading(at: list[int]) -> Clock:
    return lambda: Millis(at[0])
