"""Rows in order of creation."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from clerk_emulator.state.tables import Table


@dataclass
class Thing:
    id: str
    created_at: int


def filled(times: list[int]) -> tuple[Table[Thing], list[Thing]]:
    table, things = Table[Thing](), [Thing(str(number), time) for number, time in enumerate(times)]
    for thing in things:
        table.add(thing)
    return table, sorted(things, key=lambda thing: thing.created_at)


@given(st.lists(st.integers(0, 5)))
def test_rows_are_in_the_order_of_creation_whatever_the_order_of_arrival(times: list[int]) -> None:
    table, expected = filled(times)
    assert list(table.oldest_first()) == expected
    assert list(table.newest_first()) == expected[::-1]


@given(st.lists(st.integers(0, 5), min_size=1), st.data())
def test_pages_after_a_cursor_neither_skip_nor_repeat(times: list[int], data: st.DataObject) -> None:
    table, expected = filled(times)
    size = data.draw(st.integers(1, 4))
    seen: list[Thing] = []
    while True:
        after = table.key(seen[-1].id) if seen else None
        page = [row for row, _ in zip(table.newest_first(after=after), range(size), strict=False)]
        seen += page
        if len(page) < size:
            break
    assert seen == expected[::-1]


@given(st.lists(st.integers(0, 5), min_size=2), st.data())
def test_removed_and_moved_rows_keep_the_order_right(times: list[int], data: st.DataObject) -> None:
    table, expected = filled(times)
    gone = data.draw(st.sampled_from(expected))
    table.remove(gone.id)
    rest = [thing for thing in expected if thing is not gone]
    moved = data.draw(st.sampled_from(rest))
    moved.created_at = data.draw(st.integers(6, 9))
    table.reposition(moved)
    assert list(table.oldest_first()) == sorted(rest, key=lambda thing: (thing.created_at, int(thing.id)))
    assert table.page(1, 2) == list(table.newest_first())[1:3]
