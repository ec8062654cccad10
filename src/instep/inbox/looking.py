"""Asking Clerk for what deliveries need: what it answered, and what it did not show. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from instep.identity.events import Absent, Found, Gone, UnreadableAnswer
from instep.identity.model import Key
from instep.identity.rules import Answer, AskAgain
from instep.kit.clock import SECOND

PATIENCE = 30 * SECOND


"""An absence is believed at a second look, this long after the first at the earliest: Clerk's lists may lag behind."""


Asks = Mapping[str, Sequence[AskAgain]]


@dataclass
class Looking:
    """The questions of some deliveries, round by round. `since`: what Clerk did not show before, and since when;
    a time of the future is from before a clock went back, and counts as the present.
    """

    since: Mapping[str, int] = field(default_factory=dict)
    answers: dict[Key, Answer] = field(default_factory=dict)
    _asked: dict[Key, AskAgain] = field(default_factory=dict)
    _doubts: dict[Key, int] = field(default_factory=dict)
    _unreadable: dict[Key, str] = field(default_factory=dict)

    def wanted(self, asks: Asks) -> list[AskAgain]:
        """What must be asked now: each thing once, and again where the mirror knows something else of it meanwhile."""
        wanted = {ask.key: ask for them in asks.values() for ask in them if self._asked.get(ask.key) != ask}
        self._asked |= wanted
        return list(wanted.values())

    def take(self, found: Sequence[Found], *, now: int) -> None:
        """What a reading found. `now` is in Unix milliseconds."""
        for it in found:
            key, known = it.key, self._asked[it.key].known
            self._doubts.pop(key, None)
            if isinstance(it, UnreadableAnswer):
                self._unreadable[key] = it.reason
            elif not isinstance(it, Absent):
                self.answers[key] = Answer(it, known)
            elif (since := min(self.since.get(name_of(key), now), now)) <= now - PATIENCE:
                self.answers[key] = Answer(Gone(key, it.entity, absent_at=now), known)
            else:
                self._doubts[key] = since

    def unreadable(self, asks: Sequence[AskAgain]) -> str | None:
        """Why one of these can't be read; None where each can."""
        return next((self._unreadable[ask.key] for ask in asks if ask.key in self._unreadable), None)

    def missing(self, asks: Sequence[AskAgain]) -> dict[str, int]:
        """Which of these Clerk did not show, and since when."""
        return {name_of(ask.key): self._doubts[ask.key] for ask in asks if ask.key in self._doubts}


def name_of(key: Key) -> str:
    """What a key is called in a delivery's row."""
    return f"{key.kind} {key.id}"
