"""How long the work of one request may wait for the database in all.

A request makes several statements, and each of them may find the database locked. The limit belongs to the request,
not to the statement: `limit_waits` opens one, and every call of `Db` inside it takes what it waited from the same rest.
Only waiting counts. A request whose time goes into calls of Clerk's can still write its end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

REQUEST_WAIT = 8.0


"""Seconds that one request, or one command, waits for the database in all."""


class WaitLimit:
    """The seconds that are left for waiting; never below 0."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def spend(self, seconds: float) -> None:
        """Take what was waited from the rest."""
        self.left = max(0.0, self.left - seconds)


_present: ContextVar[WaitLimit | None] = ContextVar("instep_wait_limit", default=None)


@contextmanager
def limit_waits(seconds: float) -> Iterator[WaitLimit]:
    """Limit the waiting inside this block, and in tasks that are created there, to `seconds` in all."""
    limit = WaitLimit(seconds)
    token = _present.set(limit)
    try:
        yield limit
    finally:
        _present.reset(token)


def present_limit() -> WaitLimit | None:
    """Return the limit of the code that is running, None for work that nobody waits for."""
    return _present.get()
