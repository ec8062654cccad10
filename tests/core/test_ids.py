"""Ids of our own sort by the time they were made, also within a millisecond, and never meet."""

import re
from concurrent.futures import ThreadPoolExecutor

from instep.core.ids import new_id


def test_ids_are_in_the_order_of_their_making() -> None:
    made = [new_id("aud") for _ in range(10_000)]
    assert made == sorted(made)


def test_ids_of_many_threads_never_meet() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_id("usr"), range(10_000)))
    assert len(set(made)) == len(made)


def test_an_id_says_what_it_is_of_and_has_26_digits() -> None:
    assert re.fullmatch(r"usr_[0-9a-f]{26}", new_id("usr"))
