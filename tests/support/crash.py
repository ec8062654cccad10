"""Crash points: stop a flow at every SQL statement, every commit, and every boundary of every call to Clerk."""

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx2
import sqlalchemy as sa

from instep.core.db import Database


class Crash(BaseException):
    """The process died here. Not an Exception: nothing may catch it and go on."""


class CrashPoints:
    """Counts the places where a process can die, and dies at the `at`-th (0: never, only count)."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.passed = at, 0
        self.is_armed = False
        self.where = self.last_where = ""
        self._watched: list[Database] = []

    def reach(self, where: str) -> None:
        """A place where the process can die."""
        if not self.is_armed:
            return
        self.passed += 1
        if self.passed >= self.at > 0:  # who is dead does nothing more, not even in a `finally`
            self.where = self.where or where
            raise Crash(where)

    @contextmanager
    def armed(self, at: int) -> Iterator[None]:
        """Die at the `at`-th place reached within; says nothing where fewer are reached."""
        self.at, self.passed, self.where, self.is_armed = at, 0, "", True
        try:
            yield
        except Crash:
            pass
        finally:
            self.is_armed = False
            self.last_where = self.where
            if self.where:
                for db in self._watched:
                    _until_noticed(db)

    def watch(self, db: Database) -> None:
        """Die before any statement, and just before or just after any commit."""
        self._watched.append(db)

        @sa.event.listens_for(db.engine, "before_cursor_execute")
        def _statement(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            self.reach(f"before {statement[:60]}")

        @sa.event.listens_for(db.engine, "commit")
        def _commit(_conn: Any) -> None:
            self.reach("before a commit")

    def around(self, transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        """A transport that can die before a request is sent and after its answer was made."""
        return _Mortal(self, transport)


def _until_noticed(db: Database) -> None:
    """PostgreSQL notices a death a moment later; until then the dead one's rows are still taken."""
    if db.is_sqlite:
        return
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    alive = sa.text(f"{query} AND state <> 'idle'")
    for _ in range(4_000):
        if not db.read_sync(lambda conn: conn.execute(alive).scalar_one()):
            return
        time.sleep(0.005)
    raise AssertionError("PostgreSQL does not notice that somebody died")


class _Mortal(httpx2.AsyncBaseTransport):
    def __init__(self, points: CrashPoints, inner: httpx2.AsyncBaseTransport) -> None:
        self._points, self._inner = points, inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._points.reach(f"before {request.method} {request.url.path}")
        response = await self._inner.handle_async_request(request)
        self._points.reach(f"after {request.method} {request.url.path}, before its answer")
        await response.aread()
        self._points.reach(f"after the answer to {request.method} {request.url.path}")
        return response


EXHAUSTIVE = os.environ.get("PROOF") == "exhaustive"


def seconds(points: CrashPoints, at: int, *, span: int) -> Iterator[int]:
    """Where the recovery from a stop at the `at`-th place is stopped too: at one place, another for each `at`.

    With PROOF=exhaustive: at each place in turn, as long as a place was reached.
    """
    if not EXHAUSTIVE:
        yield 1 + at % span
        return
    for second in count(1):
        points.last_where = ""
        yield second
        if not points.last_where:
            return


async def count_points(points: CrashPoints, flow: Callable[[], Awaitable[object]]) -> int:
    """How many places there are in one run of `flow` that nothing interrupts."""
    points.at, points.passed, points.is_armed = 0, 0, True
    try:
        await flow()
    finally:
        points.is_armed = False
    return points.passed
