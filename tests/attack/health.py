"""Watch the health route from a process of its own, while everything else goes on."""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.attack.target import Report

EVERY = 0.1  # seconds between two questions
SLOWEST_MS = 250.0


@asynccontextmanager
async def watched(url: str, *, limit_ms: float = SLOWEST_MS) -> AsyncIterator[Report]:
    """Ask `/health/live` on a new connection every 100 ms; an answer that is slower than `limit_ms` is wrong."""
    report = Report("health")
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "tests.attack.health", url]
    watcher = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield report
    finally:
        output, _ = await watcher.communicate(b"")  # which closes its standard input
        found = json.loads(output)
        report.counts |= {"answers": found["answers"], "slowest_ms": round(found["slowest_ms"])}
        report.expect(found["failures"] == [], f"/health/live did not answer: {found['failures'][:3]}")
        report.expect(found["slowest_ms"] <= limit_ms, f"/health/live took {found['slowest_ms']:.0f} ms")


def _ask(url: str) -> float:
    """Return the milliseconds that one answer took, the connection included."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    started = time.perf_counter()
    connection = HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
    finally:
        connection.close()
    return (time.perf_counter() - started) * 1_000


def _watch(url: str) -> None:
    """Ask until standard input is closed, then print what was found as JSON."""
    is_over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    answers, slowest, failures = 0, 0.0, []
    while not is_over.wait(EVERY):
        try:
            slowest = max(slowest, _ask(url))
            answers += 1
        except OSError as error:
            failures.append(repr(error))
    print(json.dumps({"answers": answers, "slowest_ms": slowest, "failures": failures}))


if __name__ == "__main__":
    _watch(sys.argv[1])
