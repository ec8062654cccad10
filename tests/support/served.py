"""`instep serve` as a process of its own, on a port that was free."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import instep
from tests.support.world import KEY

HOST = "127.0.0.1"


@dataclass(frozen=True)
class ServedProcess:
    """A running server; `log` is what it has written so far."""

    port: int
    pid: int
    _log: Path

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def served(url: str, folder: Path, *, files: int | None = None, **settings: str) -> Iterator[ServedProcess]:
    """Serve a migrated database, with at most `files` descriptors; `folder` takes the log."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("INSTEP_", "CLERK_"))},
        "PYTHONPATH": str(Path(instep.__file__).parents[1]),
        "INSTEP_DATABASE_URL": url,
        "INSTEP_PORT": str(port),
        "INSTEP_PUBLIC_URL": f"http://{HOST}:{port}",
        "INSTEP_ADMIN_KEY": KEY,
        "INSTEP_SYNC_EVERY": "0",
        **settings,
    }
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(files or resource.getrlimit(resource.RLIMIT_NOFILE)[0])],
            env=env,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    found = ServedProcess(port, process.pid, log)
    try:
        _wait_until_it_listens(process, found)
        yield found
    finally:
        process.terminate()
        process.wait()


_START = """
import resource, sys
files = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
sys.argv = ["instep", "serve"]
from instep.app.cli import main
main()
"""


def _wait_until_it_listens(process: subprocess.Popen[bytes], found: ServedProcess) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise AssertionError(f"instep serve ended: {found.log}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, found.port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"instep serve does not listen: {found.log}")
