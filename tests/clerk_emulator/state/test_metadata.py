"""Merging metadata."""

from typing import Any

import pytest

from clerk_emulator.state.errors import ApiError
from clerk_emulator.state.metadata import check_size, merge


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": None}}, {"a": {"b": 1}}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": None}, {}),
        ({}, {"a": {"b": None}}, {"a": {}}),
    ],
)
def test_objects_merge_deeply_and_null_removes(old: Any, new: Any, expected: Any) -> None:
    assert merge(old, new) == expected


def test_merging_does_not_change_the_old_metadata() -> None:
    old = {"a": {"b": 1}}
    merge(old, {"a": {"c": 2}})
    assert old == {"a": {"b": 1}}


def test_more_than_8_kilobytes_are_rejected() -> None:
    check_size("public_metadata", {"a": "x" * 8_000})
    with pytest.raises(ApiError) as error:
        check_size("public_metadata", {"a": "x" * 8_200})
    assert error.value.status == 422
