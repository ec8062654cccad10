"""Measures the emulator: how fast it starts, makes people up, and answers pages of users on one core.

    python -m bench.emulator [USERS]

Where the system tells (Linux), the time is that of the processor, so that other work on the machine doesn't count.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

Clock = Callable[[], float]
USERS = 1_000_000
PAGES = 120
PAGE = 500
MEMBERSHIPS = 1_000_000
TARGETS = {"pages of 500 users per second, by cursor": (60.0, True), "seconds to start, empty": (1.0, False)}


def main() -> None:
    """Run everything once and print a table."""
    users = int(sys.argv[1]) if len(sys.argv) > 1 else USERS
    found = measure(users)
    print(f"\nThe emulator with {users:,} users, on one core:\n")
    for name, value in found.items():
        bound, is_least = TARGETS.get(name, (None, True))
        wanted = "" if bound is None else f"   wanted: {'>=' if is_least else '<'} {bound:g}"
        print(f"  {name:<48} {value:>10.2f}{wanted}")
    missed = [name for name, (bound, is_least) in TARGETS.items() if (found[name] >= bound) is not is_least]
    raise SystemExit(1 if missed else 0)


def measure(users: int) -> dict[str, float]:
    """Return what was measured."""
    command = [sys.executable, "-m", "clerk_emulator", "serve", "--port", "0"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = "".join(process.stdout.readline() for _ in range(4))
        values = dict(line.split("=", 1) for line in lines.split() if line.startswith("CLERK_"))
        call = caller(values["CLERK_API_URL"], values["CLERK_SECRET_KEY"])
        clock = clock_of(process.pid)
        found = {"seconds to start, empty": clock() if has_clock(process.pid) else clock() - started}
        pin(process.pid)
        wish = {"users": users, "organizations": max(1, users // 100), "memberships": min(MEMBERSHIPS, users)}
        found["seconds to make them up"] = timed(lambda: call("POST", "/_emulator/generate", wish), clock)
        return {**found, **pages(call, users, clock), "megabytes in memory": memory(process.pid)}
    finally:
        process.terminate()
        process.wait(timeout=60)


def pages(call: Callable[..., bytes], users: int, clock: Clock) -> dict[str, float]:
    """Return how many pages a second are answered, in several ways."""
    cursor = {"after": ""}

    def by_cursor() -> None:
        more = f"&starting_after={cursor['after']}" if cursor["after"] else ""
        cursor["after"] = json.loads(call("GET", f"/v1/users?limit={PAGE}{more}"))[-1]["id"]

    members = f"/v1/organization_memberships?limit={PAGE}"
    deep = max(0, users - PAGES * PAGE)
    counter = iter(range(PAGES))
    return {
        "pages of 500 users per second, by cursor": rate(by_cursor, clock),
        "pages of 500 users per second, at the far end": rate(
            lambda: call("GET", f"/v1/users?limit={PAGE}&offset={deep + next(counter) * PAGE}"), clock
        ),
        "pages of 500 memberships per second": rate(lambda: call("GET", members), clock),
        "single users per second": rate(lambda: call("GET", f"/v1/users/{cursor['after']}"), clock, 1_000),
        "users created per second": rate(lambda: create(call), clock, 500),
    }


def create(call: Callable[..., bytes]) -> None:
    """Make one user more."""
    call("POST", "/v1/users", {"username": f"u{time.perf_counter_ns()}"})


def rate(act: Callable[[], Any], clock: Clock, count: int = PAGES) -> float:
    """Return how often something is done in a second."""
    return count / timed(lambda: [act() for _ in range(count)], clock)


def timed(act: Callable[[], Any], clock: Clock) -> float:
    """Return how many seconds something takes."""
    began = clock()
    act()
    return max(clock() - began, 0.001)


def has_clock(pid: int) -> bool:
    """Say whether the system tells how long a process had the processor."""
    return Path(f"/proc/{pid}/stat").exists()


def clock_of(pid: int) -> Clock:
    """Return a clock: the time that a process had the processor, else the time of this machine."""
    if not has_clock(pid):
        return time.perf_counter
    ticks, stat = os.sysconf("SC_CLK_TCK"), Path(f"/proc/{pid}/stat")

    def busy() -> float:
        numbers = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / ticks

    return busy


def caller(url: str, key: str) -> Callable[..., bytes]:
    """Return a client."""

    def call(method: str, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(url + path, data, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())

    return call


def pin(pid: int) -> None:
    """Keep a process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})


def memory(pid: int) -> float:
    """Return the memory of a process; 0 where the system doesn't tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))
    except OSError:
        return 0.0


if __name__ == "__main__":
    main()
