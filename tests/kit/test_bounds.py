"""What can be kept, and what can't: texts, numbers, nesting, times."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.kit.bounds import (
    DEEP,
    MOST_LEVELS,
    NUL,
    NUMBER,
    SURROGATE,
    as_object,
    fault_of_json,
    fault_of_text,
    is_deep,
    is_keepable,
    replaced,
)
from instep.kit.clock import LATEST, is_time, to_iso
from instep.kit.incoming import fault_of_body

texts = st.text(st.characters(categories=["L", "Cs", "Cc", "So"]))


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@given(texts)
def test_a_text_is_keepable_as_it_is_or_once_it_is_replaced(text: str) -> None:
    is_good = "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)
    assert is_keepable(text) == is_good == (fault_of_text(text) is None)
    assert is_keepable(replaced(text))
    assert (replaced(text) == text) == is_good
    replaced(text).encode()


@pytest.mark.parametrize(
    ("value", "place", "why"),
    [
        ({"a": ["x", {"b": "\0"}]}, ("a", 1, "b"), NUL),
        ({"\ud800": 1}, (), SURROGATE),
        ([1.5, float("nan")], (1,), NUMBER),
        ({"a": 2**63}, ("a",), NUMBER),
        (nested(MOST_LEVELS + 1), ("a",) * MOST_LEVELS, DEEP),
    ],
)
def test_json_that_cannot_be_kept_says_where_and_why(value: Any, place: tuple[Any, ...], why: str) -> None:
    assert fault_of_json(value) == (place, why)


def test_json_that_can_be_kept_has_no_fault() -> None:
    assert fault_of_json({"a": [1, -1.5, True, None, "\U0001f600"], "b": nested(MOST_LEVELS - 1)}) is None
    assert fault_of_json({"a": 2**63 - 1}) is None


def test_depth_is_counted_in_levels() -> None:
    assert not is_deep(nested(MOST_LEVELS))
    assert is_deep(nested(MOST_LEVELS + 1))
    assert as_object(nested(MOST_LEVELS + 1)) == as_object(["a"]) == as_object(None) == {}
    assert as_object({"a": 1}) == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b"null", b'{"a": 1}'])
def test_a_body_that_is_no_json_is_left_to_its_reader(body: bytes) -> None:
    assert fault_of_body(body) is None


@pytest.mark.parametrize("body", [b"[" * 100_000, b"1" + b"0" * 5_000, b"NaN", json.dumps("\ud800").encode()])
def test_a_body_that_nobody_can_keep_has_a_fault(body: bytes) -> None:
    place, why = fault_of_body(body) or ((), "")
    assert place[0] == "body"
    assert why


@given(st.integers() | st.floats(allow_nan=False))
def test_a_time_is_shown_or_not_known(at: float) -> None:
    shown = to_iso(int(at)) if abs(at) < 2**1000 else None
    assert (shown is not None) == is_time(int(at) if abs(at) < 2**1000 else at)
    assert is_time(at) == (0 < at < LATEST)
