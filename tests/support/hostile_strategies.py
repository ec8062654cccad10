"""The generator of `tests.support.hostile` as Hypothesis strategies."""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from tests.support.hostile import SHAPES, Made, make_event, make_object
from tests.support.hostile_requests import Asked, make_request

T = TypeVar("T")


class Drawn:
    """Choose as Hypothesis wants: what stands first is what a failure shrinks to."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def one_of(self, options: Sequence[T]) -> T:
        return options[self._draw(st.integers(0, len(options) - 1))]


@st.composite
def objects(draw: st.DrawFn, number: str, kind: str | None = None) -> Made:
    """Return one hostile object of a kind, or of any."""
    choice = Drawn(draw)
    return make_object(choice, kind or choice.one_of(tuple(SHAPES)), number)


@st.composite
def events(draw: st.DrawFn, number: str) -> Made:
    """Return one hostile webhook body."""
    return make_event(Drawn(draw), number)


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    """Return one hostile request."""
    return make_request(Drawn(draw))
