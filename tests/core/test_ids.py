"""Identifiers sort by creation time, also within a millisecond, and are unique."""

import re
from concurrent.futures import ThreadPoolExecutor

from instep.core.ids import new_id


def test_ids_sort_by_creation() -> None:
    made = [new_id("aud") for _ in range(10_000)]
    assert made == sorted(made)


def test_ids_of_many_threads_are_unique() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_id("usr"), range(10_000)))
    assert len(set(made)) == len(made)


def test_an_id_has_a_prefix_and_26_digits() -> None:
    assert re.fullmatch(r"usr_[0-9a-f]{26}", new_id("usr"))
