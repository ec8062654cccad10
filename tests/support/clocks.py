"""Clocks that go as the test wants."""

from instep.core.clock import Millis

START = 1_795_219_200_000


class Ticking:
    """Moves on by a millisecond at every look, and by as much as a test wants."""

    def __init__(self, at: int = START) -> None:
        self.at = at

    def __call__(self) -> Millis:
        self.at += 1
        return Millis(self.at)

    def advance(self, milliseconds: int) -> None:
        self.at += milliseconds
