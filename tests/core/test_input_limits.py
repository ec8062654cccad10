"""Limits of texts, numbers, nesting and times."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.core.clock import MAX_TIME, is_valid_time, to_iso
from instep.core.input_limits import (
    MAX_NESTING,
    NESTING_MESSAGE,
    NUL_MESSAGE,
    NUMBER_MESSAGE,
    SURROGATE_MESSAGE,
    find_json_error,
    find_text_error,
    is_nested_too_deeply,
    is_storable_text,
    object_or_empty,
    replace_unstorable,
)
from instep.core.request_limits import find_body_error

texts = st.text(st.characters(categories=["L", "Cs", "Cc", "So"]))


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@given(texts)
def test_a_text_is_storable_or_becomes_so_by_replacement(text: str) -> None:
    is_good = "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)
    assert is_storable_text(text) == is_good == (find_text_error(text) is None)
    assert is_storable_text(replace_unstorable(text))
    assert (replace_unstorable(text) == text) == is_good
    replace_unstorable(text).encode()


@pytest.mark.parametrize(
    ("value", "place", "why"),
    [
        ({"a": ["x", {"b": "\0"}]}, ("a", 1, "b"), NUL_MESSAGE),
        ({"\ud800": 1}, (), SURROGATE_MESSAGE),
        ([1.5, float("nan")], (1,), NUMBER_MESSAGE),
        ({"a": 2**63}, ("a",), NUMBER_MESSAGE),
        (nested(MAX_NESTING + 1), ("a",) * MAX_NESTING, NESTING_MESSAGE),
    ],
)
def test_unstorable_json_is_reported_with_path_and_reason(value: Any, place: tuple[Any, ...], why: str) -> None:
    assert find_json_error(value) == (place, why)


def test_storable_json_has_no_error() -> None:
    assert find_json_error({"a": [1, -1.5, True, None, "\U0001f600"], "b": nested(MAX_NESTING - 1)}) is None
    assert find_json_error({"a": 2**63 - 1}) is None


def test_nesting_is_counted_in_levels() -> None:
    assert not is_nested_too_deeply(nested(MAX_NESTING))
    assert is_nested_too_deeply(nested(MAX_NESTING + 1))
    assert object_or_empty(nested(MAX_NESTING + 1)) == object_or_empty(["a"]) == object_or_empty(None) == {}
    assert object_or_empty({"a": 1}) == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b"null", b'{"a": 1}'])
def test_a_body_that_is_not_json_has_no_error_here(body: bytes) -> None:
    assert find_body_error(body) is None


@pytest.mark.parametrize("body", [b"[" * 100_000, b"1" + b"0" * 5_000, b"NaN", json.dumps("\ud800").encode()])
def test_an_unstorable_body_has_an_error(body: bytes) -> None:
    place, why = find_body_error(body) or ((), "")
    assert place[0] == "body"
    assert why


@given(st.integers() | st.floats(allow_nan=False))
def test_a_time_is_formatted_or_unknown(at: float) -> None:
    shown = to_iso(int(at)) if abs(at) < 2**1000 else None
    assert (shown is not None) == is_valid_time(int(at) if abs(at) < 2**1000 else at)
    assert is_valid_time(at) == (0 < at < MAX_TIME)
