"""Processes of a bench: started, waited for, ended by their own id; their CPU time and memory from /proc."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], *, env: Mapping[str, str], folder: Path, ready: str, patience: float = PATIENCE
) -> Iterator[int]:
    """A process from when `ready` answers (within `patience` seconds) until the block ends; gives its id."""
    log = folder / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **env}, stdout=output, stderr=output)
    try:
        _wait_until(ready, process, log, patience)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(ready: str, process: subprocess.Popen[bytes], log: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(ready, timeout=2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not answer at {ready}:\n{log.read_text()[-2000:]}")


def program(name: str) -> str:
    """A command of the environment that this runs in."""
    return str(Path(sys.executable).with_name(name))


def cpu_seconds(root: int) -> float:
    """User and system time of a process and everything under it."""
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(entry)):
            parents[int(entry.name)] = int(stat[1])
            times[int(entry.name)] = sum(map(int, stat[11:15])) / TICK
    return sum(used for pid, used in times.items() if _is_under(pid, root, parents))


def _stat(entry: Path) -> list[str]:
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _is_under(pid: int, root: int, parents: Mapping[int, int]) -> bool:
    while pid and pid != root:
        pid = parents.get(pid, 0)
    return pid == root


def memory_mb(pid: int) -> float:
    """Resident memory of one process."""
    return int(_stat(Path("/proc") / str(pid))[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
