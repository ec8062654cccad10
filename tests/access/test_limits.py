"""The break-glass key: guessing at it gets nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.access.limits import ALL_TRIES, CLIENTS, TRIES, BreakGlass, Tries
from instep.kit.clock import MINUTE
from tests.access.world import KEY, FakeClock


def test_the_right_key_is_right_and_may_be_used_often() -> None:
    glass = BreakGlass(KEY, Tries(FakeClock()))
    assert [glass.judge(KEY, "here") for _ in range(ALL_TRIES * 2)] == ["right"] * ALL_TRIES * 2


def test_after_five_wrong_tries_even_the_right_key_waits_a_minute() -> None:
    clock = FakeClock()
    glass = BreakGlass(KEY, Tries(clock))
    assert [glass.judge("guess", "here") for _ in range(TRIES)] == ["wrong"] * TRIES
    assert glass.judge(KEY, "here") == "limited"
    assert glass.judge(KEY, "elsewhere") == "right"
    clock.advance(MINUTE - 1)
    assert glass.judge(KEY, "here") == "limited"
    clock.advance(1)
    assert glass.judge(KEY, "here") == "right"


def test_many_addresses_together_get_sixty_tries() -> None:
    glass = BreakGlass(KEY, Tries(FakeClock()))
    said = [glass.judge("guess", f"client {n}") for n in range(ALL_TRIES + 1)]
    assert said == ["wrong"] * ALL_TRIES + ["limited"]


def test_addresses_are_forgotten_so_that_memory_is_bounded() -> None:
    clock = FakeClock()
    tries = Tries(clock)
    for n in range(CLIENTS + 10):
        tries.count(f"client {n}")
        clock.advance(MINUTE)
        tries.is_spent("anyone")
    assert len(tries.by_client) == CLIENTS
    assert len(tries.all) <= 1


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_is_right(key: str | None) -> None:
    glass = BreakGlass(key, Tries(FakeClock()))
    assert not glass.is_on
    assert glass.judge("", "here") == glass.judge("None", "here") == "off"


@given(st.text())
def test_any_attempt_is_judged(attempt: str) -> None:
    assert BreakGlass(KEY, Tries(FakeClock())).judge(attempt, "here") == ("right" if attempt == KEY else "wrong")


def test_every_use_is_told() -> None:
    told: list[tuple[str, str]] = []
    glass = BreakGlass(KEY, Tries(FakeClock()), on_use=lambda verdict, client: told.append((verdict, client)))
    glass.judge(KEY, "here")
    glass.judge("guess", "there")
    assert told == [("right", "here"), ("wrong", "there")]
